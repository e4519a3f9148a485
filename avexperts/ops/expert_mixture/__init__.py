"""All experts of a mixture in one pass over the tokens."""

from avexperts.ops.expert_mixture._expert import ACTIVATIONS as ACTIVATIONS
from avexperts.ops.expert_mixture._expert import BatchNormWeights as BatchNormWeights
from avexperts.ops.expert_mixture._expert import Expert as Expert
from avexperts.ops.expert_mixture._expert import LayerNormWeights as LayerNormWeights
from avexperts.ops.expert_mixture._mix_experts import mix_experts as mix_experts
