from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .load_beats import own_table_once

_PREFIXES = {
    "model.vision_tower.vision_tower.vision_model.": "vision.model.",
    "model.vision_tower.vision_tower.": "vision.model.",
    "model.audio_tower.audio_tower.": "audio.model.",
    "model.mm_projector.": "projector.",
    "model.mm_audio_aligner.qformer.qformer.": "aligner.qformer.",
    "model.mm_audio_aligner.": "aligner.",
    "model.layers.": "language.model.layers.",
    "model.embed_tokens.": "language.model.embed_tokens.",
    "model.norm.": "language.model.norm.",
    "lm_head.": "language.lm_head.",
}
_COMPUTED = (".rotary_emb.inv_freq", ".position_ids")  # buffers of older versions
_EXPERT = re.compile(r"(.*\.mlp\.)experts\.(\d+)\.(.*)")
_GATE = re.compile(r".*\.layers\.\d+\.mlp\.gate\.weight")


def convert_avlm(
    state: Mapping[str, Tensor], model: nn.Module | None = None, *, moe_to_mlp: str | None = None
) -> dict[str, Tensor]:
    """Rename a published base checkpoint to :class:`AudioVisualLM`'s names.

    The published base is a model whose even layers route each token to some of several experts; by what rule it was
    made a plain one is not published, so it must be chosen.

    Args:
        state: Of the base checkpoint; towers, projector and aligner may be in it.
        model: What will load the result; with it, keys that are missing, unknown or misshapen are named.
        moe_to_mlp: How the experts of a layer become one MLP: ``"expert:N"`` takes one, ``"mean"`` their mean; None
            for a checkpoint without them.

    Returns:
        The renamed weights.

    Raises:
        ValueError: A key is unknown, missing, misshapen or there twice, or the experts need a rule.

    Example:
        >>> list(convert_avlm({"model.mm_projector.0.bias": torch.zeros(2)}))
        ['projector.0.bias']
    """
    state = _merged(state, moe_to_mlp)
    renamed: dict[str, Tensor] = {}
    unknown = []
    for key, value in own_table_once(state, "model.audio_tower.audio_tower.").items():
        if key.endswith(_COMPUTED):
            continue
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None)
        if prefix is None:
            unknown.append(key)
            continue
        name = _PREFIXES[prefix] + key.removeprefix(prefix)
        if name in renamed:
            raise ValueError(f"two keys of the base checkpoint would become {name}; one of them is {key}")
        renamed[name] = value
    _compare(renamed, unknown, model)
    return renamed


def _merged(state: Mapping[str, Tensor], rule: str | None) -> dict[str, Tensor]:
    experts: dict[str, dict[int, Tensor]] = {}
    kept = {}
    for key, value in state.items():
        if found := _EXPERT.fullmatch(key):
            experts.setdefault(found[1] + found[3], {})[int(found[2])] = value
        elif not _GATE.fullmatch(key):
            kept[key] = value
    if experts and rule is None:
        raise ValueError("the checkpoint has experts per token; say moe_to_mlp='expert:0' or 'mean'")
    return kept | {key: _one_of(key, found, rule) for key, found in experts.items()}


def _one_of(key: str, experts: Mapping[int, Tensor], rule: str | None) -> Tensor:
    if rule == "mean":
        return torch.stack([value.double() for value in experts.values()]).mean(0).to(experts[0].dtype)
    name, _, number = str(rule).partition(":")
    if name != "expert" or not number.isdecimal() or int(number) not in experts:
        raise ValueError(f"moe_to_mlp is 'mean' or 'expert:N' with N below {len(experts)} for {key}, got {rule!r}")
    return experts[int(number)]


def _compare(renamed: Mapping[str, Tensor], unknown: list[str], model: nn.Module | None) -> None:
    wanted = renamed if model is None else model.state_dict()
    unknown = [*unknown, *(key for key in renamed if key not in wanted)]
    missing = [key for key in wanted if key not in renamed]
    misshapen = [
        f"{key} {tuple(renamed[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in renamed and renamed[key].shape != wanted[key].shape
    ]
    if unknown or missing or misshapen:
        found = {"unknown": unknown, "missing": missing, "misshapen": misshapen}
        told = "; ".join(f"{kind}: {_few(keys)}" for kind, keys in found.items() if keys)
        raise ValueError(f"not the base checkpoint of this stack; {told}")


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
