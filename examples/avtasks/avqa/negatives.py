"""Pictures of other videos, from the dataset to the head: what the matching loss needs."""

from __future__ import annotations

import torch
from avtasks.model import FeatureModel
from avtasks.study import Bench
from torch import Tensor, nn

from .with_negatives import NEGATIVE, WithNegatives

VISION = f"{FeatureModel.PREFIX}vision"


def add_negatives(bench: Bench) -> Bench:
    """Put a picture of another video beside each picture of the training clips.

    Args:
        bench: What all rows share. Where it has features of the bare towers, negatives are drawn from those; else as
            frames, which :func:`with_negative_tokens` takes through the bare tower.

    Returns:
        The same with other training clips.

    Raises:
        SystemExit: All training questions are about one video; one line says so.
    """
    videos = [media.clip.video_id for media in bench.splits["train"].media]
    if len(set(videos)) < 2:
        raise SystemExit("avqa_train.py: all questions to train with are about one video, others are needed to match")
    bare = bench.featured.get("train")
    name = "frames" if bare is None else VISION
    clips = {**bench.clips, "train": WithNegatives(bench.clips["train"], videos, name, bare)}
    featured = bench.featured if bare is None else {**bench.featured, "train": WithNegatives(bare, videos, name)}
    return bench._replace(clips=clips, featured=featured)


def with_negative_tokens(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring the pictures of other videos to what the head takes: tokens of the bare vision tower.

    Args:
        model: Its towers run without adapters and without gradients where the pictures are frames.
        batch: From :class:`WithNegatives`; one without negatives stays as it is.

    Returns:
        The batch with ``"negative"``, ``(B, T, N, D)``.
    """
    if NEGATIVE + VISION in batch:
        return batch | {"negative": batch[NEGATIVE + VISION]}
    if f"{NEGATIVE}frames" not in batch:
        return batch
    frames, towers = batch[f"{NEGATIVE}frames"], getattr(model, "module", model).towers
    with torch.no_grad(), towers.disable_adapters():
        tokens = towers(vision=frames.flatten(0, 1)).vision
    return batch | {"negative": tokens.unflatten(0, frames.shape[:2])}
