from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


class CouplingSet(nn.Module):
    """One named adapter of a :class:`LockStep`: the couplings that were trained together, and where they sit.

    Args:
        couplings: Pairs of (stream to site, module), in run order.

    Attributes:
        couplings: The modules.
        pairings: From stream to site, one per coupling.
        recipe: How to build them again, ``{"method": "avmoe", "arguments": {...}}``, which the functions of
            :mod:`avexperts.methods` fill in; None for couplings made by hand.

    Example:
        >>> import torch
        >>> pair = {"vision": "blocks.0.attn"}
        >>> CouplingSet([(pair, nn.Linear(2, 2))]).pairings
        [{'vision': 'blocks.0.attn'}]
    """

    def __init__(self, couplings: Sequence[tuple[Mapping[str, str], nn.Module]]) -> None:
        super().__init__()
        self.couplings = nn.ModuleList(module for _, module in couplings)
        self.pairings = [dict(pairing) for pairing, _ in couplings]
        self.recipe: dict[str, Any] | None = None
        self._resting: set[str] | None = None

    @property
    def reads(self) -> list[tuple[str, ...]]:
        """Sites, ``"STREAM.SITE"``, whose arriving tokens each coupling asks for."""
        return [tuple(getattr(coupling, "reads", ())) for coupling in self.couplings]

    def rest(self) -> None:
        """Take the gradients off while another adapter is active."""
        if self._resting is None:
            self._resting = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
            self.requires_grad_(False)

    def wake(self) -> None:
        """Give the gradients back to the parameters that had them."""
        for name, parameter in self.named_parameters():
            if self._resting is not None and name in self._resting:
                parameter.requires_grad_()
        self._resting = None
