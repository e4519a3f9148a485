"""A paper in one function: assemble its adapters on any two backbones."""

from avexperts.methods._avmoe import avmoe as avmoe
from avexperts.methods._coda_prompt import coda_prompt as coda_prompt
from avexperts.methods._dg_sct import dg_sct as dg_sct
from avexperts.methods._dual_prompt import dual_prompt as dual_prompt
from avexperts.methods._l2p import l2p as l2p
from avexperts.methods._lavish import lavish as lavish
from avexperts.methods._php import php as php

__all__ = ["avmoe", "coda_prompt", "dg_sct", "dual_prompt", "l2p", "lavish", "php"]
