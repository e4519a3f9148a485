"""Numerics: plain functions on tensors, which every layer calls and which call no layer."""

from avexperts.ops._attention import latent_attention as latent_attention
from avexperts.ops._attention import latent_read as latent_read
from avexperts.ops._checks import check_tokens as check_tokens
from avexperts.ops._grouped_linear import grouped_linear as grouped_linear
from avexperts.ops._latent_write import latent_write as latent_write
from avexperts.ops._precision import exact_matmul as exact_matmul
from avexperts.ops._prefix_attention import prefix_attention as prefix_attention
from avexperts.ops._resample_and_read import interpolate_and_read as interpolate_and_read
from avexperts.ops._resample_and_read import resample_and_read as resample_and_read
from avexperts.ops._token_self_mixing import token_self_mixing as token_self_mixing
from avexperts.ops._zero import zero_of as zero_of
from avexperts.ops.expert_mixture import ACTIVATIONS as ACTIVATIONS
from avexperts.ops.expert_mixture import BatchNormWeights as BatchNormWeights
from avexperts.ops.expert_mixture import Expert as Expert
from avexperts.ops.expert_mixture import LayerNormWeights as LayerNormWeights
from avexperts.ops.expert_mixture import mix_experts as mix_experts

__all__ = [
    "ACTIVATIONS",
    "BatchNormWeights",
    "Expert",
    "LayerNormWeights",
    "check_tokens",
    "exact_matmul",
    "grouped_linear",
    "interpolate_and_read",
    "latent_attention",
    "latent_read",
    "latent_write",
    "mix_experts",
    "prefix_attention",
    "resample_and_read",
    "token_self_mixing",
    "zero_of",
]
