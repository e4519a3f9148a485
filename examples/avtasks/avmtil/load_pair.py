from __future__ import annotations

from avtasks.towers import Towers, load_towers
from torch import nn

from .settings import Settings


def load_pair(settings: Settings) -> Towers:
    """Load the two frozen towers; besides those of the other programs, CLIP's that sees.

    Args:
        settings: ``vision``, ``audio`` and ``random_towers`` are read.

    Returns:
        The towers.

    Raises:
        ValueError: A name has another form, or a checkpoint holds something else.
        FileNotFoundError: There is no such checkpoint.
        OSError: There is no such model on the Hugging Face Hub, or no connection.

    Example:
        >>> load_pair(Settings(vision="resnet"))
        Traceback (most recent call last):
        ...
        ValueError: --vision is 'small' or timm/NAME or clip:NAME, got 'resnet'
    """
    kind, _, name = settings.vision.partition(":")
    clip = kind == "clip" and bool(name)
    if not clip and settings.vision != "small" and not settings.vision.startswith("timm/"):
        raise ValueError(f"--vision is 'small' or timm/NAME or clip:NAME, got {settings.vision!r}")
    towers = load_towers(
        "small" if clip else settings.vision, settings.audio, random=settings.random_towers, clip_seconds=10
    )
    if not clip:
        return towers
    vision = _load_clip(name, settings.random_towers)
    size = vision.config.image_size
    return towers._replace(vision=vision, frame_size=(3, size, size))


def _load_clip(name: str, random: bool) -> nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    # the configuration's own defaults are ViT-B/32
    return CLIPVisionModel(CLIPVisionConfig()) if random else CLIPVisionModel.from_pretrained(name)
