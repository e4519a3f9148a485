"""Sizes of the papers' towers, Swin-V2-L 192 and HTS-AT: tokens and widths by stage, and how often they pair."""

from __future__ import annotations

from typing import NamedTuple

VISION = ((2304, 192), (576, 384), (144, 768), (36, 1536))
AUDIO = ((4096, 96), (1024, 192), (256, 384), (64, 768))
PAIRS = (2, 2, 6, 2)
VISION_BLOCKS = (2, 2, 18, 2)


class Shape(NamedTuple):
    """One place of an adapter.

    Attributes:
        tokens: Own tokens ``N``.
        dim: Own channels ``D``.
        other_tokens: Tokens ``M`` of the other stream.
        other_dim: Channels ``D'`` of the other stream.
        stage: From 0.
    """

    tokens: int
    dim: int
    other_tokens: int
    other_dim: int
    stage: int

    def facts(self) -> dict[str, object]:
        """Sizes, and how many adapters of a model have them: two per pair and stream."""
        counts = {"12 pairs": 2 * PAIRS[self.stage], "8 pairs": 0 if self.stage % 2 else 2 * PAIRS[self.stage]}
        return {**self._asdict(), "count": counts}


SHAPES = {
    f"stage {stage + 1} {stream}": Shape(*own[stage], *other[stage], stage)
    for stage in range(4)
    for stream, own, other in (("audio", AUDIO, VISION), ("vision", VISION, AUDIO))
}

SAME_TOWER = {f"stage {stage + 1}": Shape(*size, *size, stage) for stage, size in enumerate(VISION)}
