# Shapes: M branches, B samples, C classes.
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ._branches import Branch, Rule, branch_parameters
from ._discrepancy_ratio import discrepancy_ratio
from ._gradient_coefficients import gradient_coefficients
from ._scale_gradients import is_sharded, local, normal_draws, scale, scale_with_noise
from ._score_sums import refuse_nan, several_processes, total_over_processes
from ._target_confidence import target_confidence
from ._window import Window


class ModulationStep(NamedTuple):
    """What :class:`OnTheFlyGradientModulation` found in one optimizer step; each ``(M,)`` float32, without gradient.

    Attributes:
        scores: Target confidences, summed over micro-batches and processes.
        ratio: Discrepancy ratios.
        coefficients: Factors on the branches' gradients, or learning rates.

    Example:
        >>> step = ModulationStep(torch.tensor([2.0, 1.0]), torch.tensor([2.0, 0.5]), torch.tensor([0.25, 1.0]))
        >>> dict(zip(("audio", "vision"), step.coefficients.tolist()))
        {'audio': 0.25, 'vision': 1.0}
    """

    scores: Tensor
    ratio: Tensor
    coefficients: Tensor


class OnTheFlyGradientModulation:
    r"""OGM and OGM-GE: slow down the branch that leads, in every optimizer step (CVPR 2022, TPAMI 2024).

    .. math:: g_m \leftarrow k_m g_m \; [+ \sigma(g_m) z], \quad z \sim \mathcal{N}(0, 1)

    with :math:`k_m` of :func:`gradient_coefficients` from the ratios of the scores of the step, and with ``noise``
    (GE) added to the gradients of all branches, :math:`\sigma` being the spread of each tensor's entries plus 1e-8.
    Nothing changes in the forward pass. In the training loop, once per micro-batch and before its backward pass, call
    :meth:`observe` with each modality's own logits (:func:`unimodal_logits`); then either :meth:`attach` the optimizer
    beforehand, or call :meth:`step` where its ``step()`` follows.

    * Gradients are touched once, when they are whole: accumulated over micro-batches and reduced over processes. With
      a GradScaler they may still be scaled: both terms scale with them. A step that it skips is forgotten.
    * In several processes scores are summed over them and the noise has the same seed, so replicas stay equal.
    * Adam and AdamW hardly notice a factor on the gradients. ``target="lr"`` multiplies what the optimizer changes
      instead, which is the branch's learning rate for this step, in any optimizer and without groups of its own.
    * What is frozen, or has no gradient in a step, is left alone.

    Labels out of range raise in :meth:`observe` on a CPU, and an assertion of the device elsewhere. NaN raises in the
    step on a CPU, elsewhere in :meth:`averages` and :meth:`set_epoch`, so that no step waits for the device; until
    then such a step is not modulated.

    Args:
        branches: A module, or modules and parameters, by modality; see :func:`named_branches` for names.
        alpha: Strength of the suppression. Published: 0.1 (VGGSound) and 0.8 (CREMA-D), 0.3 (BalanceBenchmark).
        noise: GE.
        rule: Which parameters: ``"conv"`` has the kernels of 4 dimensions, as published; ``"matrix"`` all of 2 or more,
            as BalanceBenchmark has it; ``"all"``.
        mode: ``"suppress"`` the leader, or ``"boost"`` the others.
        boost: Factor of ``"boost"``.
        offset: 1 makes the coefficient continuous where a modality begins to lead; the papers have 0.
        target: Gradients or learning rates.
        kind: Of the logits, for :func:`target_confidence`.
        reduction: For :func:`discrepancy_ratio`.
        eps: For :func:`discrepancy_ratio`.
        start: First epoch in which it acts (:meth:`set_epoch`).
        end: Last one; None for all.
        warmup: It acts in no epoch below this, whatever the window says; the TPAMI code has 6.
        seed: Of the noise, which depends on it and on the number of steps alone.
        process_group: Whose scores are summed; all processes by default.

    Raises:
        ValueError: There are fewer than two branches, one is empty or does not train or the rule selects nothing in it,
            one parameter is in two of them, or the arguments do not go together.
        TypeError: A branch holds neither modules nor parameters.

    Example:
        >>> model = torch.nn.ModuleDict({name: torch.nn.Linear(4, 3) for name in ("audio", "vision")})
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> modulation = OnTheFlyGradientModulation(model, alpha=0.5, rule="matrix")
        >>> modulation.attach(optimizer)
        >>> x, target = torch.ones(2, 4), torch.tensor([0, 1])
        >>> logits = {name: branch(x) for name, branch in model.items()}
        >>> modulation.observe(logits, target)
        >>> torch.nn.functional.cross_entropy(logits["audio"] + logits["vision"], target).backward()
        >>> optimizer.step()
        >>> modulation.last.coefficients.shape
        torch.Size([2])
    """

    def __init__(
        self,
        branches: Mapping[str, Branch],
        *,
        alpha: float = 0.3,
        noise: bool = False,
        rule: Rule = "conv",
        mode: Literal["suppress", "boost"] = "suppress",
        boost: float = 4.0,
        offset: float = 0.0,
        target: Literal["grad", "lr"] = "grad",
        kind: Literal["softmax", "sigmoid"] = "softmax",
        reduction: Literal["pairwise", "min"] = "pairwise",
        eps: float = 0.0,
        start: int = 0,
        end: int | None = None,
        warmup: int = 0,
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        if target not in ("grad", "lr"):
            raise ValueError(f"target is 'grad' or 'lr', got {target!r}")
        if noise and target == "lr":
            raise ValueError("noise is added to gradients: it goes with target='grad'")
        self._parameters = branch_parameters(branches, rule)
        self.names = tuple(self._parameters)
        self.alpha, self.mode, self.boost, self.offset = alpha, mode, boost, offset
        self.reduction, self.eps = reduction, eps
        self._coefficients(torch.ones(len(branches)))  # a wrong mode or reduction is wrong before the first step
        self.noise, self.target, self.kind, self.seed, self.process_group = noise, target, kind, seed, process_group
        self._window = Window(start, end, warmup).check()
        self._epoch = self._steps = 0
        self._sums: Tensor | None = None
        self._totals: Tensor | None = None
        self._before: list[tuple[Tensor, Tensor, Tensor]] = []  # parameter, its value before the step, coefficient
        self._hooks: list[RemovableHandle] = []
        self.last: ModulationStep | None = None

    @torch.no_grad()
    def observe(self, logits: Mapping[str, Tensor], target: Tensor | None, mask: Tensor | None = None) -> None:
        """Add the scores of one micro-batch, between ``zero_grad()`` and its backward pass.

        Where no parameter holds a gradient yet, scores of before are forgotten: they are those of a step that was
        skipped.

        Args:
            logits: Each modality's own, ``(B, C)`` or ``(..., C)`` by branch.
            target: Classes ``(...)``, or for ``kind="sigmoid"`` labels ``(..., C)``; None changes nothing.
            mask: What counts, bool ``(...)``.

        Raises:
            ValueError: Logits of other branches, shapes do not fit, or a label is out of range (on a CPU).
        """
        if set(logits) != set(self.names):
            raise ValueError(f"logits of the branches {list(self.names)} are expected, got {list(logits)}")
        if target is None or not self._window.covers(self._epoch):
            return
        scores = [target_confidence(logits[name], target, kind=self.kind, mask=mask) for name in self.names]
        sums = torch.stack([score.to(scores[0].device) for score in scores] + [torch.ones_like(scores[0])])
        self._sums = sums if self._sums is None or self._no_gradient_yet() else self._sums + sums

    def reset(self) -> None:
        """Forget the scores observed since the last step, where a step is given up and gradients are kept as zeros."""
        self._sums = None

    @torch.no_grad()
    def step(self, *, draws: Sequence[Tensor] | None = None) -> None:
        """Modulate the gradients, between the last backward pass and the optimizer's step.

        Without scores since the last step, or outside of the window, nothing happens.

        Args:
            draws: Standard normal noise to use, one tensor per modulated gradient in the order of the branches.

        Raises:
            ValueError: Scores are NaN (on a CPU), or learning rates are the target, which needs :meth:`attach`.
        """
        if self.target == "lr":
            raise ValueError("target='lr' acts on the optimizer's step: use attach(optimizer) instead of step()")
        if (found := self._decide()) is not None:
            self._modulate(*found, draws)

    def attach(self, optimizer: Optimizer) -> None:
        """Modulate before every step of an optimizer from now on.

        Clipping then comes before it; call :meth:`step` yourself to clip afterwards.

        Args:
            optimizer: A wrapper with its optimizer in ``.optimizer``, such as Accelerate's, is looked through.

        Raises:
            ValueError: It is attached already, or was detached.
        """
        if self._hooks:
            raise ValueError("an optimizer is attached already: detach() first")
        if not self._parameters:
            raise ValueError("it was detached and holds no branches any more: make a new one")
        while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
            optimizer = inner
        self._hooks = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def detach(self) -> None:
        """Leave the optimizer and let go of the branches, for good; :attr:`last` can still be read."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._parameters, self._before, self._sums = [], {}, [], None

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; it is 0 otherwise.

        Args:
            epoch: From 0.

        Raises:
            ValueError: Scores were NaN since the last :meth:`averages`.
        """
        if self._totals is not None:
            refuse_nan(self._totals[: len(self.names)], self.names)
        self._epoch = epoch

    def averages(self) -> dict[str, float]:
        """Read the means over the steps since the last call, which waits for the device once.

        Returns:
            ``"score/NAME"``, ``"ratio/NAME"`` and ``"coefficient/NAME"`` of every branch, fit for a logger; empty where
            no step was modulated.

        Raises:
            ValueError: Scores were NaN.
        """
        totals, self._totals = self._totals, None
        if totals is None:
            return {}
        refuse_nan(totals[: len(self.names)], self.names)
        *values, steps = totals.tolist()
        keys = [f"{what}/{name}" for what in ("score", "ratio", "coefficient") for name in self.names]
        return {key: value / steps for key, value in zip(keys, values, strict=True)} if steps else {}

    def state_dict(self) -> dict[str, int]:
        """Return what a resumed run needs between two steps: the epoch, and the count that the noise depends on."""
        return {"epoch": self._epoch, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on from a state.

        Args:
            state: Of :meth:`state_dict`.

        Raises:
            ValueError: It is the state of something else.
        """
        if set(state) != {"epoch", "steps"}:
            raise ValueError(f"the state must have 'epoch' and 'steps', got {sorted(state)}")
        self._epoch, self._steps, self._sums = state["epoch"], state["steps"], None

    def _coefficients(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        ratio = discrepancy_ratio(scores, reduction=self.reduction, eps=self.eps)
        coefficients = gradient_coefficients(
            ratio, alpha=self.alpha, mode=self.mode, boost=self.boost, offset=self.offset
        )
        return ratio, coefficients

    def _decide(self, skipped: Tensor | None = None) -> tuple[Tensor, Tensor] | None:
        """Give the coefficients, and 1 where any process observed anything; None where nothing is to be done."""
        sums, self._sums = self._sums, None
        if not self._parameters or not self._window.covers(self._epoch):
            return None
        if several_processes(self.process_group):
            device = next(iter(self._parameters.values()))[0].device
            sums = total_over_processes(sums, len(self.names) + 1, device, self.process_group)
        if sums is None:
            return None
        if skipped is not None:
            sums = sums.where(skipped.to(sums.device) == 0, 0)
        scores, observed = sums[:-1], (sums[-1] > 0).float()
        if scores.device.type == "cpu":
            refuse_nan(scores, self.names)
        ratio, coefficients = self._coefficients(scores)
        self.last = ModulationStep(scores, ratio, coefficients)
        self._steps += 1
        reading = observed * torch.cat([*self.last, torch.ones_like(observed)[None]])
        self._totals = reading if self._totals is None else self._totals + reading
        return coefficients, observed

    def _modulate(self, coefficients: Tensor, observed: Tensor, draws: Sequence[Tensor] | None = None) -> None:
        draw = normal_draws(self.seed, self._steps, draws) if self.noise else None
        for name, coefficient in zip(self.names, coefficients.unbind(), strict=True):
            gradients = [each.grad for each in self._trained(name) if each.grad is not None]
            if draw is None:
                scale(map(local, gradients), coefficient)
            elif any(map(is_sharded, gradients)):
                raise ValueError("noise needs the spread of whole gradients: leave it off where they are sharded")
            else:
                scale_with_noise(gradients, coefficient, observed, draw)

    def _remember(self, coefficients: Tensor, _: Tensor) -> None:
        for name, coefficient in zip(self.names, coefficients.unbind(), strict=True):
            parts = [local(parameter) for parameter in self._trained(name)]
            self._before += [(part, part.detach().clone(), coefficient.to(part)) for part in parts]

    def _trained(self, name: str) -> list[Tensor]:
        return [each for each in self._parameters[name] if each.requires_grad and each.grad is not None]

    def _no_gradient_yet(self) -> bool:
        # sharded gradients that are still being accumulated are kept elsewhere
        every = (parameter for parameters in self._parameters.values() for parameter in parameters)
        return all(parameter.grad is None and not is_sharded(parameter) for parameter in every)

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        # a fused optimizer is stepped by the GradScaler in any case, and skips inside
        found = self._decide(skipped=getattr(optimizer, "found_inf", None))
        if found is not None:
            (self._modulate if self.target == "grad" else self._remember)(*found)

    @torch.no_grad()
    def _after_step(self, *_: Any) -> None:
        for parameter, before, coefficient in self._before:
            parameter.lerp_(before, 1 - coefficient)
        self._before = []
