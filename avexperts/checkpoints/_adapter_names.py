"""Names in the papers' checkpoints and ours: one table, from theirs to ours, that is read in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

Names: TypeAlias = dict[str, str]

_LINEAR = ("weight", "bias")
_NORM = (*_LINEAR, "running_mean", "running_var", "num_batches_tracked")
_ATTENTION = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
# The papers' 1x1 convolutions, which are linear maps here.
CONVOLUTIONS = ("conv_adapter.weight", "down_sampler.weight", "up_sampler.weight")
# Made by the papers' constructors, used by no forward pass.
UNUSED = ("gate_tk", "adapter_token_downsampler", "temporal_gated", "fc_caption")


def _parts(theirs: str, ours: str, parts: Iterable[str] = _LINEAR) -> Names:
    return {f"{theirs}.{part}": f"{ours}.{part}" for part in parts}


def _inside(names: Mapping[str, str], theirs: str, ours: str) -> Names:
    return {theirs + old: ours + new for old, new in names.items()}


_PROJECTIONS = {
    "gate": "gate",
    **_parts("ln_before", "pre_norm"),
    **_parts("down_sampler", "down", ["weight"]),
    **_parts("bn1", "down_norm", _NORM),
    **_parts("up_sampler", "up", ["weight"]),
    **_parts("bn2", "up_norm", _NORM),
    **_parts("ln_post", "post_norm"),
}
UNIMODAL = {
    **_PROJECTIONS,
    **_parts("self_attention", "self_attention", _ATTENTION),
    "gate_av": "mixing_gate",
    "my_tokens": "exchange.latents",
    "gate_self": "exchange.gate",
}
CROSS = _inside(_PROJECTIONS, "", "bottleneck.") | {"gate_av": "exchange.gate", "my_tokens": "exchange.latents"}
_RESAMPLER = _parts("conv_adapter", "token_mix") | _parts("fc", "channel_mix")
DUAL_GUIDED = {
    **CROSS,
    **_inside(_RESAMPLER, "", "exchange.resampler."),
    **_parts("fc_affine_audio_1", "channel_guide"),
    **_parts("fc_affine_video_1", "channel_own"),
    **_parts("fc_affine_bottleneck", "channel_squeeze"),
    **_parts("fc_affine_v_c_att", "channel_gate"),
    **_parts("fc_affine_audio_2", "spatial_guide"),
    **_parts("fc_affine_video_2", "spatial_own"),
    **_parts("fc_affine_v_s_att", "spatial_logit"),
}

_EXPERT = re.compile(r"(?:multimodal|singlemodal|cross|unimodal)_experts\.(\d{1,4})\.")
_ROUTER = re.compile(r"router\.(?:layers\.)?(\d{1,4})\.")


class AdapterNames(NamedTuple):
    """What one system calls its adapters.

    Attributes:
        names: From the names found inside of adapters, theirs or ours, to the table that covers them.
        blocks: From our names found there, to what the system calls its lists of adapters.
    """

    names: Callable[[set[str]], Names]
    blocks: Callable[[set[str]], str]


def _mixture(found: set[str]) -> Names:
    """Names of AVMoE, whose experts and router layers are as many as are found; or of one of its experts."""
    names = _inside(_RESAMPLER, "", "resamplers.0.")
    for layer in _numbers(_ROUTER, found):
        names |= _parts(f"router.{layer}", f"router.layers.{layer}")
    for index in _numbers(_EXPERT, found):
        names |= _inside(CROSS, f"multimodal_experts.{index}.", f"cross_experts.{index}.")
        names |= _inside(UNIMODAL, f"singlemodal_experts.{index}.", f"unimodal_experts.{index}.")
    if found & (names.keys() | set(names.values())):
        return names
    if found & {"gate_self", "down.weight"}:  # latent tokens of its own do not make an expert cross-modal
        return UNIMODAL
    return CROSS if "my_tokens" in found or found & set(CROSS.values()) else UNIMODAL


def _mixture_blocks(found: set[str]) -> str:
    # Only the parsing program mixes tokens in its unimodal experts, and only the others have this word.
    mixes = any(_EXPERT.match(name) and name.endswith(".mixing_gate") for name in found)
    return "adapter_blocks" if mixes else "moe_adapter_blocks"


def _numbers(pattern: re.Pattern[str], found: set[str]) -> set[int]:
    return {int(match[1]) for name in found if (match := pattern.match(name))}


AVMOE = AdapterNames(_mixture, _mixture_blocks)
LAVISH = AdapterNames(lambda found: CROSS, lambda found: "adapter_blocks")
DG_SCT = AdapterNames(lambda found: DUAL_GUIDED, lambda found: "adapter_blocks")
