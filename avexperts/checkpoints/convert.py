"""State dicts of the papers' programs in, ours out: one function per system."""

from avexperts.checkpoints._adapters import avmoe as avmoe
from avexperts.checkpoints._adapters import dg_sct as dg_sct
from avexperts.checkpoints._adapters import lavish as lavish
from avexperts.checkpoints._anchored import anchor_task as anchor_task
from avexperts.checkpoints._anchored import expert_task as expert_task
from avexperts.checkpoints._htsat import htsat as htsat
from avexperts.checkpoints._prompts import php as php
from avexperts.checkpoints._swinv2 import swinv2 as swinv2

__all__ = ["anchor_task", "avmoe", "dg_sct", "expert_task", "htsat", "lavish", "php", "swinv2"]
