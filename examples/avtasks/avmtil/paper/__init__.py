"""The heads that are published with PHP, for towers of CLIP and CLAP."""

from .answer_head import AnswerHead as AnswerHead
from .answer_output import AnswerOutput as AnswerOutput
from .class_text import ClassText as ClassText
from .clip_adapter import ClipAdapter as ClipAdapter
from .clip_contrast import ClipContrast as ClipContrast
from .event_head import EventHead as EventHead
from .event_output import EventOutput as EventOutput
from .llp_top1 import llp_top1 as llp_top1
from .mask_decoder import MaskDecoder as MaskDecoder
from .mask_head import MaskHead as MaskHead
from .sound_text import sound_text as sound_text
