from __future__ import annotations

from collections.abc import Mapping

import torch
from avtasks.model import pooled_tokens
from torch import Tensor, nn

import avexperts as ax

ENTRY = "entry "  # how the other programs name such fields of a clip, too
STREAMS = {"audio": "audio", "image": "vision"}


class CoupledTowers(nn.Module):
    """Two frozen towers in lock-step as encoders: the adapters that write into a stream are its branch.

    Args:
        towers: Streams ``vision`` and ``audio`` with adapters between them.
        dims: Widths of the pooled tokens by branch, ``audio`` and ``image``.

    Example:
        >>> from avtasks.model import AdapterSettings, couple
        >>> from avtasks.towers import Towers, build_small_towers
        >>> towers = Towers(*build_small_towers(), nn.Identity(), (3, 64, 64), (1, 101, 64))
        >>> coupled = CoupledTowers(couple(towers, AdapterSettings(), (1, 1)), {"audio": 128, "image": 128})
        >>> batch = {"image": torch.zeros(1, 3, 64, 64), "audio": torch.zeros(1, 1, 101, 64)}
        >>> coupled(batch)["image"].shape
        torch.Size([1, 128])
    """

    def __init__(self, towers: ax.LockStep, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.towers = towers
        self.dims = dict(dims)

    def branches(self) -> dict[str, list[nn.Parameter]]:
        """Tell which adapters' parameters belong to each branch: those whose output its tokens get."""
        return {
            name: [p for coupling in self.towers.couplings for p in coupling.experts[stream].parameters()]
            for name, stream in STREAMS.items()
        }

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode a batch: the mean over each stream's tokens, ``(B, d)`` by branch.

        Args:
            batch: ``image`` ``(B, 3, H, W)`` and ``audio`` ``(B, 1, time, bins)``; with the entry tokens of
                :meth:`enter` the frozen part before the first adapters is not run.
        """
        entry = {name.removeprefix(ENTRY): value for name, value in batch.items() if name.startswith(ENTRY)}
        pooled = pooled_tokens(self.towers(self._inputs(batch), entry=entry or None))
        return {name: pooled[stream] for name, stream in STREAMS.items()}

    @torch.no_grad()
    def enter(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run what lies before the first adapters.

        Args:
            batch: As for :meth:`forward`.

        Returns:
            Entry tokens ``(B, N, D)`` as ``"entry STREAM.SITE"``.
        """
        return {ENTRY + name: value for name, value in self.towers.entry_tokens(self._inputs(batch)).items()}

    def _inputs(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {stream: batch[name] for name, stream in STREAMS.items()}
