"""What one expert computes: from tokens ``(B, N, D)`` to the residual that is added to them."""

from avexperts.adapters._aggregation_adapter import AggregationAdapter as AggregationAdapter
from avexperts.adapters._aggregation_adapter import AggregationMaps as AggregationMaps
from avexperts.adapters._bottleneck_adapter import BottleneckAdapter as BottleneckAdapter
from avexperts.adapters._dual_guided_adapter import DualGuidedAdapter as DualGuidedAdapter
from avexperts.adapters._dual_guided_adapter import DualGuidedOutput as DualGuidedOutput
from avexperts.adapters._latent_cross_adapter import LatentCrossAdapter as LatentCrossAdapter
from avexperts.adapters._latent_exchange import LatentExchange as LatentExchange
from avexperts.adapters._merge_adapters import merge_adapters as merge_adapters
from avexperts.adapters._token_resampler import TokenResampler as TokenResampler

__all__ = [
    "AggregationAdapter",
    "AggregationMaps",
    "BottleneckAdapter",
    "DualGuidedAdapter",
    "DualGuidedOutput",
    "LatentCrossAdapter",
    "LatentExchange",
    "TokenResampler",
    "merge_adapters",
]
