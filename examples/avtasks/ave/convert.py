"""Weights of the AVE head from the papers' checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_STREAM = {"video": "vision", "visual": "vision", "v": "vision", "AV": "vision", "a": "audio", "VA": "audio"}

_STACK = r"temporal_attn\.(audio|video)_(encoder|decoder)"
_LAYER = rf"{_STACK}\.(?:encoder|decoder)\.layers\.(\d+)"

_RENAMED = (
    (r"temporal_attn\.([va])_fc\.(.*)", r"attention.{0}_in.{1}"),
    (r"temporal_attn\.audio_visual_rnn_layer\.(audio|visual)_rnn\.(.*)", r"attention.{0}_rnn.{1}"),
    (r"temporal_attn\.(audio|video)_gated\.0\.(.*)", r"attention.{0}_gate.{1}"),
    (rf"{_STACK}\.affine_matrix\.(.*)", r"attention.{0}_{1}.project.{2}"),
    (rf"{_LAYER}\.(?:self_attn|multihead_attn)\.(.*)", r"attention.{0}_{1}.blocks.{2}.attention.{3}"),
    (rf"{_LAYER}\.((?:linear|norm)\d\..*)", r"attention.{0}_{1}.blocks.{2}.{3}"),
    (r"CMBS\.(audio|video)_cas\.(.*)", r"cmbs.{0}_activation.{1}"),
    (r"CMBS\.localize_module\.classifier\.(.*)", r"cmbs.event_gate.{0}"),
    (r"CMBS\.localize_module\.event_classifier\.(.*)", r"cmbs.event.{0}"),
    (r"CMBS\.(AV|VA)Inter\.video_multihead\.(.*)", r"cmbs.{0}_interaction.attention.{1}"),
    (r"CMBS\.(AV|VA)Inter\.norm1\.(.*)", r"cmbs.{0}_interaction.norm.{1}"),
)

_DEAD = (
    r"temporal_attn\.(audio|video)_encoder\.encoder_layer\.",  # templates that upstream deep-copied
    r"temporal_attn\.(audio|video)_decoder\.decoder_layer\.",
    r"temporal_attn\.(audio|video)_decoder\.decoder\.layers\.\d+\.self_attn\.",  # built, never called
    r"CMBS\.(audio|video)_norm\.",  # DG-SCT's files only
)


def convert_head(state_dict: Mapping[str, Tensor], expected: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the head of an AVMoE or DG-SCT checkpoint to :class:`AVEHead`'s names.

    Args:
        state_dict: Upstream's weights. Keys that begin with neither ``temporal_attn.`` nor ``CMBS.`` belong
            to the adapters and towers and are passed over; ``module.`` in front (data parallel) is allowed.
        expected: The key names of the head that will load the result, i.e. ``head.state_dict()``.

    Returns:
        The renamed weights, and the upstream keys that were dropped because upstream never uses them: copies
        that only served as templates, the decoders' self-attention, DG-SCT's unused norms, and the
        interaction of a head built without it.

    Raises:
        KeyError: A key of the head is unknown, or one that the head needs is missing; all of them are named.

    Example:
        >>> import torch
        >>> convert_head({"CMBS.video_cas.bias": torch.zeros(6)}, ["cmbs.vision_activation.bias"])[0].keys()
        dict_keys(['cmbs.vision_activation.bias'])
    """
    expected = set(expected)
    converted, dropped, unknown = {}, [], []
    for key, value in state_dict.items():
        name = key.removeprefix("module.")
        if not name.startswith(("temporal_attn.", "CMBS.")):
            continue
        renamed = _rename(name)
        if renamed in expected:
            converted[renamed] = value
        elif (renamed and "_interaction." in renamed) or any(re.match(pattern, name) for pattern in _DEAD):
            dropped.append(key)
        else:
            unknown.append(key)
    missing = sorted(expected - converted.keys())
    if unknown or missing:
        problems = f"unknown: {unknown or 'none'}, missing: {missing or 'none'}"
        raise KeyError(f"not the weights of this AVE head; {problems}")
    return converted, dropped


def _rename(name: str) -> str | None:
    if any(re.match(pattern, name) for pattern in _DEAD):
        return None
    for pattern, target in _RENAMED:
        if match := re.fullmatch(pattern, name):
            parts = list(match.groups())
            parts[0] = _STREAM.get(parts[0], parts[0])
            return target.format(*parts)
    return None
