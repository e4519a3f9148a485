"""Weights of the question answering head from the papers' checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

_GROUNDING = {
    "fc_a1": "audio_in",
    "fc_a2": "audio_out",
    "fc_gl": "merge",
    "fc1": "match.0",
    "fc2": "match.2",
    "fc3": "match.4",
    "fc4": "match.6",
}
_HEAD = {
    **{theirs: f"grounding.{ours}" for theirs, ours in _GROUNDING.items()},
    "question_encoder.word2vec": "question.words",
    "question_encoder.lstm": "question.lstm",
    "question_encoder.fc": "question.project",
    "attn_v": "vision_time.attention",
    "linear11": "vision_time.linear1",
    "linear12": "vision_time.linear2",
    "norm1": "vision_time.norm",
    "attn_a": "audio_time.attention",
    "linear21": "audio_time.linear1",
    "linear22": "audio_time.linear2",
    "norm2": "audio_time.norm",
    "fc_fusion": "fusion",
    "fc_ans": "answer",
}
_ELSEWHERE = ("swin.", "htsat.", "audio_adapter_blocks_", "vis_adapter_blocks_")
_DEAD = ("fc_a1_pure.", "fc_a2_pure.", "norm3.")  # built, never called


def convert_head(state_dict: Mapping[str, Tensor], expected: Iterable[str]) -> tuple[dict[str, Tensor], list[str]]:
    """Rename the head of an AVMoE or DG-SCT question answering checkpoint to :class:`AVQAHead`'s names.

    Args:
        state_dict: Upstream's weights; adapters and towers are passed over, ``module.`` in front is allowed.
        expected: The key names of the head that will load the result, i.e. ``head.state_dict()``.

    Returns:
        The renamed weights, and the upstream keys that were dropped because upstream never uses them.

    Raises:
        KeyError: A key of the head is unknown, or one that the head needs is missing; all of them are named.

    Example:
        >>> import torch
        >>> convert_head({"module.fc_ans.bias": torch.zeros(42)}, ["answer.bias"])[0].keys()
        dict_keys(['answer.bias'])
    """
    return _convert(state_dict, _HEAD, expected, "this question answering head")


def convert_grounding(state_dict: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """Rename a checkpoint of the papers' grounding pre-training to :class:`Grounding`'s names: 14 tensors.

    Args:
        state_dict: Upstream's weights; towers are passed over, ``module.`` in front is allowed.
        expected: The key names of the module that will load the result, i.e. ``head.grounding.state_dict()``.

    Returns:
        The renamed weights.

    Raises:
        KeyError: A key is unknown or missing; all of them are named.

    Example:
        >>> import torch
        >>> convert_grounding({"fc_gl.bias": torch.zeros(8), "swin.norm.bias": torch.zeros(8)}, ["merge.bias"]).keys()
        dict_keys(['merge.bias'])
    """
    return _convert(state_dict, _GROUNDING, expected, "this grounding module")[0]


def _convert(
    state_dict: Mapping[str, Tensor], names: Mapping[str, str], expected: Iterable[str], what: str
) -> tuple[dict[str, Tensor], list[str]]:
    expected = set(expected)
    converted, dropped, unknown = {}, [], []
    for key, value in state_dict.items():
        name = key.removeprefix("module.")
        if name.startswith(_ELSEWHERE):
            continue
        layer = next((layer for layer in names if name.startswith(f"{layer}.")), None)
        renamed = names[layer] + name.removeprefix(layer) if layer else None
        if renamed in expected:
            converted[renamed] = value
        elif name.startswith(_DEAD):
            dropped.append(key)
        else:
            unknown.append(key)
    missing = sorted(expected - converted.keys())
    if unknown or missing:
        raise KeyError(f"not the weights of {what}; unknown: {unknown or 'none'}, missing: {missing or 'none'}")
    return converted, dropped
