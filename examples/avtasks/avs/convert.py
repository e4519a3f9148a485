"""Weights of the segmentation head from the papers' checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_GATE = r"temporal_attn\."
_ENCODER = rf"{_GATE}(audio|video)_encoder\.(\d+)"
_VISION = {"video": "vision", "visual": "vision"}
_TPAVI = {
    "align_channel": "audio_in",
    "g": "value",
    "theta": "query",
    "phi": "key",
    "W_z.0": "out",
    "W_z.1": "out_norm",
    "norm_layer": "norm",
}

_RENAMED = (
    (r"x(\d)_linear_\.(.*)", lambda stage, rest: f"vision_in.{int(stage) - 1}.{rest}"),
    (r"audio_linear\.(.*)", lambda rest: f"audio_in.{rest}"),
    (rf"{_GATE}v_fc\.(\d+)\.(.*)", lambda stage, rest: f"gate.stages.{stage}.vision_in.{rest}"),
    (
        rf"{_GATE}audio_visual_rnn_layer\.(\d+)\.(audio|visual)_rnn\.(.*)",
        lambda stage, stream, rest: f"gate.stages.{stage}.{_VISION.get(stream, stream)}_rnn.{rest}",
    ),
    (
        rf"{_ENCODER}\.affine_matrix\.(.*)",
        lambda stream, stage, rest: f"gate.stages.{stage}.{_VISION.get(stream, stream)}_encoder.project.{rest}",
    ),
    (
        rf"{_ENCODER}\.encoder\.layers\.(\d+)\.(.*)",
        lambda stream, stage, layer, rest: (
            f"gate.stages.{stage}.{_VISION.get(stream, stream)}_encoder.blocks.{layer}."
            + rest.replace("self_attn", "attention")
        ),
    ),
    (
        rf"{_GATE}(audio|video)_gated\.(\d+)\.0\.(.*)",
        lambda stream, stage, rest: f"gate.stages.{stage}.{_VISION.get(stream, stream)}_gate.{rest}",
    ),
    (
        rf"tpavi_b(\d)\.({'|'.join(map(re.escape, _TPAVI))})\.(\w+)",
        lambda stage, part, rest: f"tpavi.{int(stage) - 1}.{_TPAVI[part]}.{rest}",
    ),
    (
        r"path(\d)\.resConfUnit(\d)\.(.*)",
        lambda stage, unit, rest: f"decoder.paths.{int(stage) - 1}.refine{'_skip' if unit == '1' else ''}.{rest}",
    ),
    (r"output_conv\.(.*)", lambda rest: f"decoder.out.{rest}"),
)

_DEAD = (
    r"encoder_backbone\.",  # PVT-v2, built and loaded, never run
    r"conv\d\.conv2d_list\.",
    r"x\d_linear\.",
    r"temporal_attn\.(audio|video)_encoder\.\d+\.encoder_layer\.",  # templates that upstream deep-copied
    r"temporal_attn\.(audio|video)_decoder\.",  # run, and thrown away
)
_OTHERS = (r"swin\.", r"htsat\.", r"(audio|vis)(_moe)?_adapter_blocks_p\d\.")


def convert_head(state_dict: Mapping[str, Tensor], expected: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the head of an AVMoE or DG-SCT segmentation checkpoint to :class:`AVSHead`'s names.

    Args:
        state_dict: Upstream's weights, S4's or MS3's. Keys of the towers and of the adapters are passed over;
            ``module.`` in front (data parallel) is allowed.
        expected: The key names of the head that will load the result, i.e. ``head.state_dict()``.

    Returns:
        The renamed weights, and the upstream keys that were dropped because upstream never uses them: the unused
        pyramid encoder and its convolutions, discarded decoders, and the part of the coarsest fusion block that adds
        nothing.

    Raises:
        KeyError: A key of the head is unknown, or one that the head needs is missing; all of them are named.

    Example:
        >>> import torch
        >>> convert_head({"tpavi_b1.W_z.0.weight": torch.zeros(8, 4, 1, 1, 1)}, ["tpavi.0.out.weight"])[0].keys()
        dict_keys(['tpavi.0.out.weight'])
    """
    expected = set(expected)
    coarsest = max((key.split(".")[2] for key in expected if key.startswith("decoder.paths.")), default="")
    converted, dropped, unknown = {}, [], []
    for key, value in state_dict.items():
        name = key.removeprefix("module.")
        if any(re.match(pattern, name) for pattern in _OTHERS):
            continue
        renamed = _rename(name)
        if renamed in expected:
            flat = renamed.startswith("tpavi.") and value.dim() == 5  # 1 x 1 x 1 convolutions are linear maps
            converted[renamed] = value.flatten(1) if flat else value
        elif renamed is None or renamed.startswith(f"decoder.paths.{coarsest}.refine_skip."):
            dropped.append(key)
        else:
            unknown.append(key)
    missing = sorted(expected - converted.keys())
    if unknown or missing:
        problems = f"unknown: {unknown or 'none'}, missing: {missing or 'none'}"
        raise KeyError(f"not the weights of this segmentation head; {problems}")
    return converted, dropped


def _rename(name: str) -> str | None:
    """Our name; None for what is dead, and the name itself where it is unknown."""
    if any(re.match(pattern, name) for pattern in _DEAD):
        return None
    for pattern, target in _RENAMED:
        if match := re.fullmatch(pattern, name):
            return target(*match.groups())
    return name
