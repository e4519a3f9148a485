"""LoRA on both towers, by PEFT: the usual way to adapt a tower, without any exchange between the two."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Sequence

from torch import nn

_TARGETS = r".*(attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2|query|key|value|output\.dense|intermediate\.dense)"


def lora_rank(towers: Sequence[nn.Module], parameters: int) -> int:
    """Rank at which LoRA on all linear maps of the towers' blocks trains about as many parameters.

    Args:
        towers: Swin-V2 of timm, CLAP's audio tower of transformers.
        parameters: How many.

    Example:
        >>> tower = nn.ModuleDict({"mlp": nn.ModuleDict({"fc1": nn.Linear(6, 10)})})
        >>> lora_rank([tower], 48)
        3
    """
    per_rank = sum(each.in_features + each.out_features for tower in towers for each in _targets(tower).values())
    return max(1, round(parameters / per_rank))


def with_lora(tower: nn.Module, rank: int) -> nn.Module:
    """Copy a tower and put LoRA of this rank on all linear maps of its blocks; frozen weights are shared.

    Args:
        tower: Left as it is.
        rank: Of all updates.
    """
    from peft import LoraConfig, get_peft_model

    shared = {id(weight): weight for weight in tower.parameters()}
    tower = copy.deepcopy(tower, shared)
    for part in tower.modules():
        if hasattr(part, "qkv_bias_separate"):
            part.qkv_bias_separate = True  # else timm reads the weight past the module, and LoRA never runs
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=list(_targets(tower)), init_lora_weights="gaussian")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads a name that transformers is about to drop
        return get_peft_model(tower, config).base_model.model


def _targets(tower: nn.Module) -> dict[str, nn.Linear]:
    modules = {name: part for name, part in tower.named_modules() if isinstance(part, nn.Linear)}
    found = {name: part for name, part in modules.items() if re.fullmatch(_TARGETS, name)}
    if not found:
        raise ValueError(f"{type(tower).__name__} has none of the linear maps that LoRA is put on: {_TARGETS}")
    return found
