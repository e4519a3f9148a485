"""Weights of the AVVP head from the papers' checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_PART = {"audio_cug": "audio", "visual_cug": "vision", "av_mcg": "joint"}
_LINEAR = {
    "fc_a": "audio_in",
    "fc_v": "vision_in",
    "fc_st": "motion_in",
    "fc_fusion": "fusion",
    "fc_prob": "clip_out",
    "fc_prob_a": "audio_out",
    "fc_prob_v": "visual_out",
    "fc_cls": "class_out",
}
_TOKENS = {"audio_token": "audio_classes", "visual_token": "visual_classes"}
_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.qkv": "attention.in_proj_",
    "attn.proj": "attention.out_proj",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
_GROUPING = {
    "pre_assign_attn.attn.qkv": "attention.in_proj_",
    "norm_tokens": "group_norm",
    "norm_x": "token_norm",
    "mlp_inter.fc1": "group_mlp.0",
    "mlp_inter.fc2": "group_mlp.2",
    "norm_post_tokens": "group_mlp_norm",
    "pre_assign_attn.attn.proj": "attention.out_proj",
    "pre_assign_attn.norm2": "attention_mlp_norm",
    "pre_assign_attn.mlp.fc1": "attention_mlp.0",
    "pre_assign_attn.mlp.fc2": "attention_mlp.2",
    "pre_assign_attn.norm_post": "attention_norm",
    "assign.q_proj": "query",
    "assign.k_proj": "key",
    "assign.v_proj": "value",
    "assign.proj": "out",
    "norm_new_x": "out_norm",
    "mlp_channels.fc1": "out_mlp.0",
    "mlp_channels.fc2": "out_mlp.2",
}
_THIRDS = re.compile(r"(.*\.pre_assign_attn\.attn)\.([qkv])_proj\.(weight|bias)")
_HEAD = (*_PART, *_LINEAR, *_TOKENS)


def convert_head(state_dict: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Rename the head of an AVMoE, DG-SCT or MGN checkpoint to :class:`MGNHead`'s names.

    Args:
        state_dict: Upstream's weights. Keys that begin with no part of the head belong to the adapters and
            towers and are passed over; ``module.`` in front (data parallel) is allowed.
        expected: The key names of the head that will load the result, i.e. ``head.state_dict()``.

    Returns:
        The renamed weights.

    Raises:
        KeyError: A key of the head is unknown, or one that the head needs is missing; all of them are named.

    Example:
        >>> convert_head({"fc_cls.bias": torch.zeros(25)}, ["class_out.bias"]).keys()
        dict_keys(['class_out.bias'])
    """
    state = {key.removeprefix("module."): value for key, value in state_dict.items()}
    state = _join_thirds({key: value for key, value in state.items() if key.split(".")[0] in _HEAD})
    expected = set(expected)
    converted = {_rename(key) or key: value for key, value in state.items()}
    unknown = sorted(key for key in state if (_rename(key) or key) not in expected)
    missing = sorted(expected - converted.keys())
    if unknown or missing:
        problems = f"unknown: {unknown or 'none'}, missing: {missing or 'none'}"
        raise KeyError(f"not the weights of this AVVP head; {problems}")
    return converted


def _join_thirds(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stack the three projections of an attention, which PyTorch keeps in one tensor."""
    joined, thirds = {}, {}
    for key, value in state.items():
        if match := _THIRDS.fullmatch(key):
            thirds.setdefault((match[1], match[3]), {})[match[2]] = value
        else:
            joined[key] = value
    for (place, kind), parts in thirds.items():
        if len(parts) == 3:
            joined[f"{place}.qkv.{kind}"] = torch.cat([parts[name] for name in "qkv"])
        else:
            joined |= {f"{place}.{name}_proj.{kind}": value for name, value in parts.items()}
    return joined


def _rename(key: str) -> str | None:
    if key in _TOKENS:
        return _TOKENS[key]
    name, _, kind = key.rpartition(".")
    if name in _LINEAR:
        return f"{_LINEAR[name]}.{kind}"
    part, _, rest = name.partition(".")
    if part not in _PART:
        return None
    if match := re.fullmatch(r"blocks\.(\d+)\.(.*)", rest):
        return _place(f"{_PART[part]}_blocks.{match[1]}", _BLOCK.get(match[2]), kind)
    grouping, _, layer = rest.partition(".")
    if grouping == "han_encoder":
        return _place("alignment", _GROUPING.get(layer), kind)
    return _place(f"{_PART[part]}_grouping", _GROUPING.get(layer), kind) if grouping == "grouping" else None


def _place(place: str, layer: str | None, kind: str) -> str | None:
    if layer is None:
        return None
    return f"{place}.{layer}{kind}" if layer.endswith("_") else f"{place}.{layer}.{kind}"
