"""Opening backbones: where something may be added, and driving several of them together."""

from avexperts.streams._coupling_set import CouplingSet as CouplingSet
from avexperts.streams._freeze import freeze as freeze
from avexperts.streams._htsat_front_end import HTSATFrontEnd as HTSATFrontEnd
from avexperts.streams._lockstep import LockStep as LockStep
from avexperts.streams._lockstep_graph_break import LockStepGraphBreak as LockStepGraphBreak
from avexperts.streams._lockstep_output import LockStepOutput as LockStepOutput
from avexperts.streams._lockstep_summary import LockStepSummary as LockStepSummary
from avexperts.streams._open import open_backbone as open_backbone
from avexperts.streams._open import register_opener as register_opener
from avexperts.streams._pairing import pair_sites as pair_sites
from avexperts.streams._prefix_cache import PrefixCache as PrefixCache
from avexperts.streams._residual_coupling import ResidualCoupling as ResidualCoupling
from avexperts.streams._site import Site as Site
from avexperts.streams._stream import SiteInfo as SiteInfo
from avexperts.streams._stream import Stream as Stream

__all__ = [
    "CouplingSet",
    "HTSATFrontEnd",
    "LockStep",
    "LockStepGraphBreak",
    "LockStepOutput",
    "LockStepSummary",
    "PrefixCache",
    "ResidualCoupling",
    "Site",
    "SiteInfo",
    "Stream",
    "freeze",
    "open_backbone",
    "pair_sites",
    "register_opener",
]
