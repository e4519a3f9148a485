"""Several adapters together, what mixes them, and banks of experts by task."""

from avexperts.experts._adapter_moe import AdapterMoE as AdapterMoE
from avexperts.experts._adapter_moe import MoEOutput as MoEOutput
from avexperts.experts._attach_experts import attach_experts as attach_experts
from avexperts.experts._expert_bank import ExpertBank as ExpertBank
from avexperts.experts._expert_routed import ExpertRouted as ExpertRouted
from avexperts.experts._low_rank_expert import LowRankExpert as LowRankExpert
from avexperts.experts._token_top_k_experts import TokenTopKExperts as TokenTopKExperts

__all__ = [
    "AdapterMoE",
    "ExpertBank",
    "ExpertRouted",
    "LowRankExpert",
    "MoEOutput",
    "TokenTopKExperts",
    "attach_experts",
]
