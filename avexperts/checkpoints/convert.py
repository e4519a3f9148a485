"""State dicts of the papers' programs in, ours out: one function per system."""

from avexperts.checkpoints._adapters import avmoe as avmoe
from avexperts.checkpoints._adapters import dg_sct as dg_sct
from avexperts.checkpoints._adapters import lavish as lavish
from avexperts.checkpoints._htsat import htsat as htsat
from avexperts.checkpoints._swinv2 import swinv2 as swinv2

__all__ = ["avmoe", "dg_sct", "htsat", "lavish", "swinv2"]
