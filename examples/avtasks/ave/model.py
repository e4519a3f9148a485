from __future__ import annotations

from torch import Tensor, nn

import avexperts as ax

from .output import AVEOutput
from .segment_output import SegmentOutput

ENTRY = "entry "


class AVEModel(nn.Module):
    """Two towers in lock-step, the mean over their tokens, and a head.

    Args:
        towers: Streams named ``vision`` and ``audio``, with or without adapters between them.
        front_end: Maps seconds of sound ``(B, samples)`` to what the audio tower takes.
        head: Takes both streams' pooled tokens, ``(clips, segments, width)`` each.

    Example:
        >>> import torch
        >>> from avtasks.ave import SegmentHead
        >>> from avtasks.towers import build_small_towers
        >>> vision, audio = build_small_towers()
        >>> towers = ax.methods.avmoe(vision, audio, frame_size=(3, 64, 64), audio_size=(1, 101, 64))
        >>> model = AVEModel(towers, nn.Identity(), SegmentHead(128, 128))
        >>> batch = {"frames": torch.zeros(1, 2, 3, 64, 64), "mel": torch.zeros(1, 2, 1, 101, 64)}
        >>> model(batch)[0].predictions().shape
        torch.Size([1, 2])
    """

    def __init__(self, towers: ax.LockStep, front_end: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.towers = towers
        self.front_end = front_end
        self.head = head

    def forward(self, batch: dict[str, Tensor]) -> tuple[AVEOutput | SegmentOutput, ax.LockStepOutput]:
        """Localise the events of a batch of clips.

        Args:
            batch: ``frames`` ``(clips, segments, 3, H, W)``, and ``waveform`` ``(clips, segments, samples)``
                or, made from it by the front end before, ``mel`` ``(clips, segments, 1, time, bins)``. With
                ``"entry STREAM.SITE"``, ``(clips, segments, N, D)``, the frozen prefix is not run.

        Returns:
            What the head says, and what the towers did, segments folded into the batch.
        """
        vision, audio, towers = self.pooled(batch)
        return self.head(vision, audio), towers

    def pooled(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, ax.LockStepOutput]:
        """Run the towers and average their tokens.

        Args:
            batch: As for :meth:`forward`.

        Returns:
            Vision ``(clips, segments, width)``, audio likewise, and what the towers did.
        """
        entry = {name.removeprefix(ENTRY): batch[name].flatten(0, 1) for name in batch if name.startswith(ENTRY)}
        out = self.towers(self.inputs(batch), entry=entry or None)
        clips = batch["frames"].shape[:2]
        return out.vision.mean(1).unflatten(0, clips), out.audio.mean(1).unflatten(0, clips), out

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
