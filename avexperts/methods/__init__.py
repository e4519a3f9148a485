"""A paper in one function: assemble its adapters on any two backbones."""

from avexperts.methods._avmoe import avmoe as avmoe
from avexperts.methods._dg_sct import dg_sct as dg_sct
from avexperts.methods._lavish import lavish as lavish

__all__ = ["avmoe", "dg_sct", "lavish"]
