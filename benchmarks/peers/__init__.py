"""What the library is measured against."""

from .lora import lora_rank as lora_rank
from .lora import with_lora as with_lora
from .published import copy_weights as copy_weights
from .published_dual_guided import PublishedDualGuided as PublishedDualGuided
from .published_latent_cross import PublishedLatentCross as PublishedLatentCross
from .published_moe import PublishedMoE as PublishedMoE
