from .frames import check_frames as check_frames
from .frames import frame_numbers as frame_numbers
from .frames import load_frames as load_frames
from .frames import load_pictures as load_pictures
from .waveform import VIDEO_SUFFIXES as VIDEO_SUFFIXES
from .waveform import check_waveform as check_waveform
from .waveform import load_waveform as load_waveform
