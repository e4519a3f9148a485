from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_WHOLE = re.compile(r"(?:module\.)?(audio|vis)_(?:moe_)?adapter_blocks_p([12])\.(\d+)\.(.+)")
_NOT_ADAPTERS = re.compile(r"(?:module\.)?(swin|htsat|temporal_attn|CMBS|mlp_class|v_fc|a_fc)\b")
_STREAMS = {"vis": "vision", "audio": "audio"}

_BOTTLENECK = {
    "gate": "gate",
    "gate_av": "mixing_gate",
    "ln_before": "pre_norm",
    "down_sampler": "down",
    "bn1": "down_norm",
    "up_sampler": "up",
    "bn2": "up_norm",
    "ln_post": "post_norm",
    "self_attention": "self_attention",
}
_CROSS = {name: f"bottleneck.{ours}" for name, ours in _BOTTLENECK.items() if name != "self_attention"} | {
    "gate_av": "exchange.gate",
    "my_tokens": "exchange.latents",
}
_MIXTURE = {
    "conv_adapter": "resamplers.0.token_mix",
    "fc": "resamplers.0.channel_mix",
    "router": "router.layers",
}
_DUAL_GUIDED = _CROSS | {
    "conv_adapter": "exchange.resampler.token_mix",
    "fc": "exchange.resampler.channel_mix",
    "fc_affine_audio_1": "channel_guide",
    "fc_affine_video_1": "channel_own",
    "fc_affine_bottleneck": "channel_squeeze",
    "fc_affine_v_c_att": "channel_gate",
    "fc_affine_audio_2": "spatial_guide",
    "fc_affine_video_2": "spatial_own",
    "fc_affine_v_s_att": "spatial_logit",
}
# Made by the papers' constructors, used by no forward pass.
_DEAD = ("gate_tk", "adapter_token_downsampler", "temporal_gated", "fc_caption")


def avmoe(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate AVMoE's names (event localisation and parsing programs).

    Args:
        state: A whole checkpoint of the papers, of which the adapters are taken, or the state of a single
            ``MoEAdapter`` or ``ExpertAdapter`` (cross-modal if it has ``my_tokens``).

    Returns:
        A state dict for :func:`avexperts.methods.avmoe` (its adapters), :class:`AdapterMoE`,
        :class:`LatentCrossAdapter` or :class:`BottleneckAdapter`.

    Raises:
        KeyError: Unknown keys, all named.

    Example:
        >>> import torch
        >>> list(avmoe({"fc.weight": torch.ones(2, 3)}))
        ['resamplers.0.channel_mix.weight']
    """
    single = _CROSS if "my_tokens" in state else _BOTTLENECK

    def rename(key: str) -> str | None:
        expert = re.fullmatch(r"(multimodal|singlemodal)_experts\.(\d+)\.(.+)", key)
        if expert is None:
            return _translate(key, _MIXTURE) or _translate(key, single)
        kind, index, rest = expert.groups()
        inner = _translate(rest, _CROSS if kind == "multimodal" else _BOTTLENECK)
        room = "cross_experts" if kind == "multimodal" else "unimodal_experts"
        return inner and f"{room}.{index}.{inner}"

    return _convert(state, rename)


def lavish(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate LAVisH's names: a whole checkpoint, or one adapter's state; see :func:`avmoe`.

    Example:
        >>> import torch
        >>> list(lavish({"my_tokens": torch.ones(2, 3)}))
        ['exchange.latents']
    """
    return _convert(state, lambda key: _translate(key, _CROSS))


def dg_sct(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate DG-SCT's names: a whole checkpoint, or one adapter's state; see :func:`avmoe`.

    Parameters that no forward pass of the paper uses are dropped.

    Example:
        >>> import torch
        >>> list(dg_sct({"fc_affine_audio_1.bias": torch.ones(3), "gate_tk": torch.ones(1)}))
        ['channel_guide.bias']
    """
    return _convert(state, lambda key: _translate(key, _DUAL_GUIDED))


def _translate(key: str, names: Mapping[str, str]) -> str | None:
    head, dot, tail = key.partition(".")
    return names[head] + dot + tail if head in names else None


def _convert(state, rename):  # type: ignore[no-untyped-def]
    whole = {key: match for key in state if (match := _WHOLE.fullmatch(key))}
    positions = sorted({match[2] for match in whole.values()})
    ours: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, tensor in state.items():
        prefix, inner = "", key
        if key in whole:
            stream, position, index, inner = whole[key].groups()
            coupling = int(index) * len(positions) + positions.index(position)
            prefix = f"couplings.{coupling}.experts.{_STREAMS[stream]}."
        elif whole and _NOT_ADAPTERS.match(key):
            continue
        if inner.split(".")[0] in _DEAD:
            continue
        name = rename(inner)
        if name is None:
            unknown.append(key)
        else:
            ours[prefix + name] = _squeeze_convolution(inner, tensor)
    if unknown:
        raise KeyError(f"unknown keys: {', '.join(unknown)}")
    return ours


def _squeeze_convolution(key: str, tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.dim() == 4 and tensor.shape[2:] == (1, 1) else tensor
