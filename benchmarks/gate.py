"""The gate before every timing: whatever claims to compute the same must give the peer's numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .case import Mode, Setting, Variant
from .passes import make_pass

# Relative RMS error of outputs and of each gradient, or for a whole model of all gradients together. The logits of the
# papers' latent attention are not scaled and reach hundreds, so rounding grows from coupling to coupling; and where a
# ReLU's input is zero up to rounding, rows of a gradient are there or not. Formulas are compared in tests, in float64;
# here only what is wrong is stopped.
LIMITS = {"float32": (1e-4, 3e-2), "bfloat16": (2e-2, 2e-1)}
WHOLE_LIMITS = {"float32": (1e-4, 1e-3), "bfloat16": (2e-1, 5e-1)}
_NEGLIGIBLE = 1e-3  # of the largest gradient: below, as before batch norm where it is exactly zero, errors are absolute
_AS_GOOD = 1.5  # in bfloat16 an error is also fine if the peer's own is nearly as large


class GateError(AssertionError):
    """Two variants that should agree do not: there is nothing to time."""


def check_case(variants: dict[str, Variant], mode: Mode, setting: Setting, name: str) -> dict[str, dict[str, float]]:
    """Compare outputs, and when training gradients, with those that the first variant, the peer, has in float32.

    Args:
        variants: By name. Those that are not ``equal`` must only give finite numbers, and each trained parameter a
            gradient.
        mode: ``"forward"`` or ``"train"``.
        setting: Gives the limits. In bfloat16 the peer itself is off, and its error is given too.
        name: For the message.

    Returns:
        Worst relative error by variant, ``{"output": ..., "gradient": ...}``.

    Raises:
        GateError: Naming case, variant and tensor.

    Example:
        >>> layers = [torch.nn.Linear(2, 2) for _ in range(2)]
        >>> layers[1].load_state_dict(layers[0].state_dict())
        <All keys matched successfully>
        >>> variants = {str(i): Variant(layer, lambda f=layer: [f(torch.ones(1, 2))]) for i, layer in enumerate(layers)}
        >>> check_case(variants, "train", Setting(torch.device("cpu")), "doctest")
        {'1': {'output': 0.0, 'gradient': 0.0}}
    """
    peer = next(iter(variants))
    exact = setting._replace(precision="float32")
    with torch.compiler.set_stance("force_eager" if setting.compiled else "default"):
        expected = _numbers(variants[peer], mode, exact, f"{name}, {peer}")
    found: dict[str, dict[str, float]] = {}
    for key, variant in variants.items():
        if (key == peer and setting == exact) or (mode == "train" and not variant.trains):
            continue
        numbers = _numbers(variant, mode, setting, f"{name}, {key}")
        if variant.equal:
            found[key] = _compare(numbers, expected, variant, setting, found.get(peer, {}), f"{name}, {key}")
    return found


def _numbers(variant: Variant, mode: Mode, setting: Setting, name: str) -> dict[str, dict[str, Tensor]]:
    outputs = {str(index): out.detach().clone() for index, out in enumerate(make_pass(variant, mode, setting)())}
    gradients: dict[str, Tensor] = {}
    if mode == "train":
        leaves = {f"input {index}": leaf for index, leaf in enumerate(variant.inputs)}
        leaves |= {key: leaf for key, leaf in variant.module.named_parameters() if leaf.requires_grad}
        silent = [key for key, leaf in leaves.items() if leaf.grad is None]
        if silent:
            raise GateError(f"{name}: no gradient for {', '.join(silent[:5])}")
        gradients = {key: leaf.grad.detach() for key, leaf in leaves.items() if leaf.grad is not None}
        for leaf in leaves.values():
            leaf.grad = None
    bad = [key for key, value in [*outputs.items(), *gradients.items()] if not value.isfinite().all()]
    if bad:
        raise GateError(f"{name}: not finite: output or gradient {', '.join(bad[:5])}")
    return {"output": outputs, "gradient": gradients} if gradients else {"output": outputs}


def _compare(
    numbers: dict[str, dict[str, Tensor]],
    expected: dict[str, dict[str, Tensor]],
    variant: Variant,
    setting: Setting,
    of_peer: dict[str, float],
    name: str,
) -> dict[str, float]:
    limits = (WHOLE_LIMITS if variant.whole else LIMITS)[setting.precision.partition(" ")[0]]
    worst: dict[str, float] = {}
    for kind, limit in zip(numbers, limits, strict=False):
        ours, theirs = numbers[kind], expected[kind]
        if ours.keys() != theirs.keys():
            raise GateError(f"{name}: only one side has {kind} {sorted(ours.keys() ^ theirs.keys())[:5]}")
        errors = _errors(ours, theirs, together=variant.whole and kind == "gradient")
        largest = max(errors, key=errors.__getitem__)
        allowed = max(limit, _AS_GOOD * of_peer.get(kind, 0.0))
        # in bfloat16 the peer may be off by any amount: it is what the others are measured against
        if (of_peer or setting.precision == "float32") and not errors[largest] <= allowed:
            raise GateError(f"{name}: {kind} {largest} is off by {errors[largest]:.1e}, {allowed:.1e} is allowed")
        worst[kind] = errors[largest]
    return worst


def _errors(ours: dict[str, Tensor], theirs: dict[str, Tensor], *, together: bool) -> dict[str, float]:
    off = {key: float((value.double() - theirs[key].double().view_as(value)).norm()) for key, value in ours.items()}
    size = {key: float(value.double().norm()) for key, value in theirs.items()}
    if together:
        return {"of all parameters": math.hypot(*off.values()) / max(math.hypot(*size.values()), 1e-30)}
    floor = _NEGLIGIBLE * max(size.values())
    return {key: off[key] / max(size[key], floor, 1e-30) for key in off}
