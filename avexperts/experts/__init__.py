"""Several adapters together, and what mixes them."""

from avexperts.experts._adapter_moe import AdapterMoE as AdapterMoE
from avexperts.experts._adapter_moe import MoEOutput as MoEOutput

__all__ = ["AdapterMoE", "MoEOutput"]
