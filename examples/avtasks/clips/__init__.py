"""Clips: found on disk, decoded, and what the frozen towers make of them kept."""

from .cached_clips import CachedClips as CachedClips
from .cached_clips import fill_cache as fill_cache
from .cached_clips import open_cache as open_cache
from .clip_dataset import ClipDataset as ClipDataset
from .clip_media import ClipMedia as ClipMedia
from .clip_media import find_media as find_media
from .prepared import decode as decode
from .prepared import entered as entered
from .prepared import featured as featured
from .progress import progress as progress
from .read_categories import read_categories as read_categories
