# Shapes: S mixtures, B samples, E experts.
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from avexperts._table import table


class RoutingRow(NamedTuple):
    """What :class:`RoutingRecorder` says of one mixture; all means are over its samples.

    Attributes:
        samples: How many samples were routed.
        mean_probs: Mean probability of each expert; cross-modal experts first.
        entropy: Mean entropy of the probabilities, in nats.
        normalised_entropy: The same divided by ``ln E``: 0 where one expert gets all, 1 where all get as much.
        load: Share of the samples whose most probable expert it is, for each expert.
        aux_loss: Mean over the batches of the mixture's load-balance loss; None where it reported none.
    """

    samples: int
    mean_probs: tuple[float, ...]
    entropy: float
    normalised_entropy: float
    load: tuple[float, ...]
    aux_loss: float | None


class RoutingRecorder:
    """Record what the routers of a model decide, in training or outside of it.

    Within ``with RoutingRecorder(model) as recorder:`` every call of the model is recorded; :meth:`update` records one
    output by hand, for instance inside of a larger model that is compiled as a whole. Running sums are kept in float64
    on the model's device and nothing waits for it before :meth:`summary`. Probabilities are read detached: gradients
    and memory stay as they are. A model that is not being recorded carries nothing of this.

    Args:
        model: A :class:`~avexperts.LockStep`, compiled or not, or what wraps one and returns its output (distributed
            data parallelism, ``torch.compile``). Not needed for :meth:`update`.

    Example:
        >>> recorder = RoutingRecorder()
        >>> recorder.update({"vision.blocks.0.attn": torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])})
        >>> recorder.summary()["vision.blocks.0.attn"].mean_probs
        (0.5, 0.5)
        >>> print(recorder)
        mixture               samples  mean probabilities  entropy  normalised  load         load-balance loss
        ------------------------------------------------------------------------------------------------------
        vision.blocks.0.attn        3  0.500 0.500           0.606       0.874  0.667 0.333                  -
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        self.model = model
        self._sums: dict[tuple[tuple[str, ...], torch.device], Tensor] = {}
        self._hook: RemovableHandle | None = None

    def __enter__(self) -> RoutingRecorder:
        if self.model is None:
            raise ValueError("nothing to record: give the model, RoutingRecorder(model)")
        if self._hook is not None:
            raise RuntimeError("this recorder is recording already")
        # Not compiled, or it would become a graph of its own for every set of streams.
        hook = torch.compiler.disable(lambda _model, _args, out: self.update(out))
        self._hook = self.model.register_forward_hook(hook)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._hook is not None
        self._hook.remove()
        self._hook = None

    @torch.no_grad()
    def update(self, out: Any) -> None:
        """Add one batch.

        Args:
            out: What a :class:`~avexperts.LockStep` returned, or routing probabilities ``(B, E)`` by name. Rows that
                are all zero, of samples that no expert could serve, do not count.

        Raises:
            TypeError: It carries no routing.
            ValueError: Probabilities are not ``(B, E)``, or the number of experts changed.
        """
        probs, losses = _readings(out)
        for names in _alike(probs, losses):
            device = probs[names[0]].device.type
            with torch.autocast(device, enabled=False):
                stacked = torch.stack([probs[name] for name in names])
                stacked = stacked.to(torch.float32 if device == "mps" else torch.float64)  # mps has no float64
                loss = torch.stack([losses[name] for name in names]).to(stacked) if names[0] in losses else None
                self._add(names, _sums_of(stacked, loss))

    def merge(self, other: RoutingRecorder) -> None:
        """Add what another recorder holds.

        Args:
            other: Of the same model; it is not changed.

        Raises:
            ValueError: A mixture has another number of experts there.
        """
        for (names, _), sums in other._sums.items():
            self._add(names, sums)

    def reduce(self) -> RoutingRecorder:
        """Sum up over all processes of a distributed run.

        Every process calls this together. Without a process group it gives a copy.

        Returns:
            A new recorder with the totals, the same on every process; this one keeps its own share.

        Raises:
            ValueError: A mixture has another number of experts on another process.
        """
        shares: list[Any] = [self._totals()]
        if dist.is_available() and dist.is_initialized():
            shares = [None] * dist.get_world_size()
            dist.all_gather_object(shares, self._totals())
        total = RoutingRecorder()
        for share in shares:
            for name, sums in share.items():
                total._add((name,), torch.tensor([sums], dtype=torch.float64))
        return total

    def reset(self) -> None:
        """Forget all batches."""
        self._sums.clear()

    def summary(self) -> dict[str, RoutingRow]:
        """Return one :class:`RoutingRow` per mixture.

        Returns:
            By ``"STREAM.SITE"``, or ``"ADAPTER/STREAM.SITE"`` in batches of several adapters, in run order.

        Raises:
            RuntimeError: Nothing was recorded.
        """
        if not self._sums:
            raise RuntimeError(
                "no routing was recorded: the model was not called, has no routers or its adapters are disabled, or it "
                "is compiled inside of something larger, where update(out) is needed"
            )
        return {name: _row(sums) for name, sums in self._totals().items()}

    def __str__(self) -> str:
        if not self._sums:
            return "RoutingRecorder: nothing recorded"
        header = ["mixture", "samples", "mean probabilities", "entropy", "normalised", "load", "load-balance loss"]
        return table(header, [_cells(name, row) for name, row in self.summary().items()], "<><>><>")

    def _add(self, names: tuple[str, ...], sums: Tensor) -> None:
        known = self._sums.get((names, sums.device))
        if known is not None and known.shape != sums.shape:
            experts = [(tensor.shape[1] - _FIXED) // 2 for tensor in (known, sums)]
            raise ValueError(f"{names[0]} had {experts[0]} experts and now has {experts[1]}: reset(), or record anew")
        # Not in place: sums made in inference mode may not be changed outside of it.
        self._sums[names, sums.device] = sums.clone() if known is None else known + sums

    def _totals(self) -> dict[str, list[float]]:
        totals: dict[str, list[float]] = {}
        for (names, _), sums in self._sums.items():
            for name, row in zip(names, sums.tolist(), strict=True):
                known = totals.setdefault(name, [0.0] * len(row))
                if len(known) != len(row):
                    raise ValueError(f"{name} was recorded with different numbers of experts: reset(), or record anew")
                totals[name] = [a + b for a, b in zip(known, row, strict=True)]
        return totals


_FIXED = 4  # samples, entropy, batches with a loss, loss; then E probabilities and E loads


def _sums_of(probs: Tensor, loss: Tensor | None) -> Tensor:
    """``(S, B, E)`` and ``(S,)`` to ``(S, 4 + 2E)``, without waiting for the device."""
    routed = probs.sum(-1, keepdim=True) > 0
    top = (torch.arange(probs.shape[-1], device=probs.device) == probs.argmax(-1, keepdim=True)) & routed
    entropy = torch.special.entr(probs).sum(-1, keepdim=True)
    batches = probs.new_zeros(len(probs), 1) if loss is None else probs.new_ones(len(probs), 1)
    losses = batches if loss is None else loss[:, None]
    return torch.cat([routed.sum(1), entropy.sum(1), batches, losses, probs.sum(1), top.sum(1)], -1)


def _row(sums: list[float]) -> RoutingRow:
    samples, entropy, batches, loss = sums[:_FIXED]
    means = [total / samples if samples else math.nan for total in sums[_FIXED:]]
    experts = len(means) // 2
    entropy = entropy / samples if samples else math.nan
    return RoutingRow(
        samples=round(samples),
        mean_probs=tuple(means[:experts]),
        entropy=entropy,
        normalised_entropy=entropy / math.log(experts) if experts > 1 else 0.0,
        load=tuple(means[experts:]),
        aux_loss=loss / batches if batches else None,
    )


def _cells(name: str, row: RoutingRow) -> list[str]:
    return [
        name,
        str(row.samples),
        " ".join(f"{prob:.3f}" for prob in row.mean_probs),
        f"{row.entropy:.3f}",
        f"{row.normalised_entropy:.3f}",
        " ".join(f"{share:.3f}" for share in row.load),
        "-" if row.aux_loss is None else f"{row.aux_loss:.4f}",
    ]


def _readings(out: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    readings = {"probs": out} if isinstance(out, Mapping) else getattr(out, "readings", None)
    if readings is None:
        raise TypeError(
            f"{type(out).__name__} carries no routing: record the LockStep itself, or update(out) with what it returns"
        )
    probs, losses = ({k: v.detach() for k, v in readings.get(kind, {}).items()} for kind in ("probs", "aux_loss"))
    for name, value in probs.items():
        if value.dim() != 2:
            raise ValueError(f"{name}: routing probabilities must be (B, E), got {tuple(value.shape)}")
    return probs, losses


def _alike(probs: Mapping[str, Tensor], losses: Mapping[str, Tensor]) -> list[tuple[str, ...]]:
    # Mixtures of one shape are summed together: a model has dozens, and each operation costs a launch.
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, value in probs.items():
        if value.shape[0]:
            groups.setdefault((value.shape, value.dtype, value.device, name in losses), []).append(name)
    return [tuple(names) for names in groups.values()]
