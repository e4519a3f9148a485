from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from avtasks.training import Hook
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from avexperts import modulation

from .branch_classifier import BranchAnswer, BranchClassifier
from .method_row import MethodRow
from .settings import BalanceSettings

GRADIENT_METHODS = ("ogm", "ogm-ge", "opm+ogm", "boost")


def build_drop(row: MethodRow, dims: dict[str, int]) -> nn.Module | None:
    """Make what drops features between encoders and head, if the method has such.

    Args:
        row: Of the comparison.
        dims: Widths of the features.

    Example:
        >>> from .settings import BalanceSettings
        >>> type(build_drop(MethodRow("opm", "opm", BalanceSettings(), 0.1), {"audio": 4, "image": 4})).__name__
        'OnTheFlyPredictionModulation'
    """
    chosen = row.balance
    if row.method == "dropout":
        return modulation.ModalityDropout(dims, probability=chosen.dropout, rescale=chosen.rescale)
    if row.method not in ("opm", "opm+ogm"):
        return None
    return modulation.OnTheFlyPredictionModulation(
        dims,
        base=chosen.base,
        strength=chosen.strength,
        execute=chosen.execute,
        rescale=chosen.rescale,
        **_window(chosen),
    )


class BalanceHook(Hook):
    """One method of balancing: its loss, and what it does to the gradients before the optimizer steps.

    Args:
        row: The method.
        model: Whose branches are balanced; built with what :func:`build_drop` gave.
        seed: Of the noise on gradients.

    Attributes:
        steps: Ratios, coefficients on gradients and probabilities to be dropped of each step so far, each ``(M,)``.

    Example:
        >>> from avtasks.balance import BranchClassifier, SeparateEncoders, Settings, method_rows
        >>> model = BranchClassifier(SeparateEncoders({"audio": 1, "image": 1}, small=True), 10)
        >>> hook = BalanceHook(method_rows(Settings(), ["audio", "image"])[2], model, seed=0)
        >>> batch = {"audio": torch.randn(2, 1, 24, 31), "image": torch.randn(2, 1, 16, 16)}
        >>> list(hook.loss(model, batch | {"label": torch.tensor([3, 5])}))
        ['fused']
    """

    def __init__(self, row: MethodRow, model: BranchClassifier, seed: int) -> None:
        self.row, self.model, self.steps = row, model, []
        self.ratio: Tensor | None = None
        self.last: modulation.ModulationStep | None = None
        self.gradients = _gradient_modulation(row, model, seed) if row.method in GRADIENT_METHODS else None

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the terms of one batch's loss.

        Args:
            model: As it trains: perhaps wrapped for several processes.
            batch: Inputs of the branches and ``label``.
        """
        answer: BranchAnswer = model(batch)
        label = batch["label"]
        if self.gradients:
            self.gradients.observe(answer.unimodal, label)
        self.ratio = answer.ratio
        each = F.cross_entropy(answer.logits, label, reduction="none")
        fused = (answer.keep * each).sum() / answer.keep.sum().clamp(min=1)
        return {"fused": fused} | {name: F.cross_entropy(own, label) for name, own in answer.own.items()}

    def attach(self, optimizer: Optimizer) -> None:
        """Modulate gradients before every step, and remember each step."""
        if self.gradients:
            self.gradients.attach(optimizer)
        optimizer.register_step_post_hook(self._remember)

    def start_epoch(self, epoch: int) -> None:
        """Tell the methods that have a window of epochs."""
        for part in (self.gradients, self.model.drop):
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def backward(self, terms: dict[str, Tensor], weight: float, backward: Callable[..., None]) -> None:
        """Add up the terms; MMPareto weighs the gradients of the encoders instead."""
        if self.row.method != "mmpareto":
            super().backward(terms, weight, backward)
            return
        weighted = {name: term * weight for name, term in terms.items()}
        fused, branches = weighted.pop("fused"), self.model.encoders.branches()
        modulation.mmpareto(fused, weighted, branches, gamma=self.row.balance.gamma, backward=backward)

    def state_dict(self) -> dict[str, Any]:
        """Tell what must survive an interruption: the steps, and where the noise is."""
        state: dict[str, Any] = {"steps": self.trace()}
        return state | ({"gradients": self.gradients.state_dict()} if self.gradients else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.steps = list(state["steps"])
        if self.gradients:
            self.gradients.load_state_dict(state["gradients"])

    def trace(self) -> Tensor:
        """Ratios, coefficients and drop probabilities of all steps so far, ``(steps, 3, M)``."""
        self.steps = [step.cpu() for step in self.steps]
        return torch.stack(self.steps) if self.steps else torch.zeros(0, 3, 0)

    def _remember(self, *_: Any) -> None:
        if self.ratio is None:
            return
        coefficients, dropped = torch.ones_like(self.ratio), _drop_probabilities(self.model.drop, self.ratio)
        last = self.gradients.last if self.gradients else None
        if last is not self.last:  # outside of its window the last step is an old one
            self.last, coefficients = last, last.coefficients
        self.steps.append(torch.stack([self.ratio, coefficients, dropped]))


def _gradient_modulation(row: MethodRow, model: BranchClassifier, seed: int) -> modulation.OnTheFlyGradientModulation:
    chosen = row.balance
    return modulation.OnTheFlyGradientModulation(
        model.encoders.branches(),
        alpha=chosen.alpha,
        noise=row.method == "ogm-ge",
        rule=chosen.rule,
        mode="boost" if row.method == "boost" else "suppress",
        boost=chosen.boost,
        offset=chosen.offset,
        target=chosen.target,
        eps=chosen.eps,
        seed=seed,
        **_window(chosen),
    )


def _drop_probabilities(drop: nn.Module | None, ratio: Tensor) -> Tensor:
    if isinstance(drop, modulation.ModalityDropout):
        return drop.probabilities.to(ratio)
    found = drop.drop_probabilities if isinstance(drop, modulation.OnTheFlyPredictionModulation) else None
    return torch.zeros_like(ratio) if found is None else found


def _window(chosen: BalanceSettings) -> dict[str, int | None]:
    return {"start": chosen.start, "end": chosen.end, "warmup": chosen.warmup}
