from __future__ import annotations

from avtasks.towers import build_small_towers, load_small_towers

from .clip_tower import ClipTower
from .small_vision_tower import SmallVisionTower
from .vision_tower import VisionTower


def open_vision_tower(name: str = "small") -> VisionTower:
    """Open a frozen picture encoder by name.

    Args:
        name: ``"small"`` for the one beside the programs, or ``"clip:NAME"`` for a model of the Hub or a folder. With
            ``none`` for the name, a tiny encoder with random weights, for which nothing is fetched.

    Returns:
        The tower.

    Raises:
        ValueError: The family is unknown, or there is no such model.

    Example:
        >>> open_vision_tower("vit:base")
        Traceback (most recent call last):
        ...
        ValueError: a vision tower is 'small' or 'clip:NAME', got 'vit:base'
    """
    family, _, source = name.partition(":")
    if family == "small" and source in ("", "none"):
        return SmallVisionTower((build_small_towers if source else load_small_towers)()[0])
    if family != "clip" or not source:
        raise ValueError(f"a vision tower is 'small' or 'clip:NAME', got {name!r}")
    from transformers import CLIPVisionConfig, CLIPVisionModel

    if source == "none":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
        return ClipTower(CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=32, patch_size=16)))
    try:
        return ClipTower(CLIPVisionModel.from_pretrained(source))
    except OSError as error:
        raise ValueError(f"{name}: {str(error).splitlines()[0]}") from None
