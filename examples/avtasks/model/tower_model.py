from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import avexperts as ax

ENTRY = "entry "


class TowerModel(nn.Module):
    """Two towers in lock-step, and a head on what it reads of their tokens.

    Args:
        towers: Streams named ``vision`` and ``audio``, with or without adapters between them.
        front_end: Maps seconds of sound ``(B, samples)`` to what the audio tower takes.
        head: ``head.read(out)`` picks from a :class:`avexperts.LockStepOutput` what the head needs, by name, frames
            along the first axis; ``head(features, batch)`` takes it as ``(clips, segments, ...)``.

    Example:
        >>> import torch
        >>> from avtasks.ave import SegmentHead
        >>> from avtasks.towers import build_small_towers
        >>> vision, audio = build_small_towers()
        >>> towers = ax.methods.avmoe(vision, audio, frame_size=(3, 64, 64), audio_size=(1, 101, 64))
        >>> model = TowerModel(towers, nn.Identity(), SegmentHead(128, 128))
        >>> batch = {"frames": torch.zeros(1, 2, 3, 64, 64), "mel": torch.zeros(1, 2, 1, 101, 64)}
        >>> model(batch)[0].predictions().shape
        torch.Size([1, 2])
    """

    def __init__(self, towers: ax.LockStep, front_end: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.towers = towers
        self.front_end = front_end
        self.head = head

    def forward(self, batch: dict[str, Tensor]) -> tuple[Any, ax.LockStepOutput]:
        """Answer a batch of clips.

        Args:
            batch: ``frames`` ``(clips, segments, 3, H, W)``, and ``waveform`` ``(clips, segments, samples)``
                or, made from it by the front end before, ``mel`` ``(clips, segments, 1, time, bins)``. With
                ``"entry STREAM.SITE"``, ``(clips, segments, N, D)``, the frozen prefix is not run.

        Returns:
            What the head says, and what the towers did, segments folded into the batch.
        """
        features, out = self.features(batch)
        return self.head(features, batch), out

    def features(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], ax.LockStepOutput]:
        """Run the towers and read what the head needs.

        Args:
            batch: As for :meth:`forward`.

        Returns:
            Features ``(clips, segments, ...)`` by name, and what the towers did.
        """
        entry = {name.removeprefix(ENTRY): batch[name].flatten(0, 1) for name in batch if name.startswith(ENTRY)}
        out = self.towers(self.inputs(batch), entry=entry or None)
        clips = batch["frames"].shape[:2]
        return {name: value.unflatten(0, clips) for name, value in self.head.read(out).items()}, out

    def inputs(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Fold the segments into the batch, and take sound through the front end where that was not done before.

        Args:
            batch: As for :meth:`forward`.

        Returns:
            What the towers take, by stream.
        """
        heard = "mel" in batch
        sound = batch["mel" if heard else "waveform"].flatten(0, 1)
        return {"vision": batch["frames"].flatten(0, 1), "audio": sound if heard else self.front_end(sound)}
