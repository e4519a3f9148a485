"""The gate before every timing: whatever claims to compute the same must give the peer's numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from .case import Mode, Setting, Variant
from .passes import make_pass

# Relative RMS error of outputs and of each gradient. The logits of the papers' latent attention are not scaled and reach
# hundreds, which makes its gradients sensitive to the order of summation.
LIMITS = {"float32": (1e-4, 2e-3), "bfloat16": (5e-2, 2e-1)}
_NEGLIGIBLE = 1e-4  # of the largest gradient: below, as before batch norm where it is exactly zero, errors are absolute


class GateError(AssertionError):
    """Two variants that should agree do not: there is nothing to time."""


def check_case(variants: dict[str, Variant], mode: Mode, setting: Setting, name: str) -> dict[str, dict[str, float]]:
    """Compare outputs, and when training gradients, of all variants with those of the first, the peer.

    Args:
        variants: By name. Those that are not ``equal`` must only give finite numbers, and each trained parameter a
            gradient.
        mode: ``"forward"`` or ``"train"``.
        setting: Gives the limits.
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
    found: dict[str, dict[str, float]] = {}
    expected: tuple[list[Tensor], dict[str, Tensor]] | None = None
    for key, variant in variants.items():
        if mode == "train" and not variant.trains:
            continue
        outputs, gradients = _numbers(variant, mode, setting, f"{name}, {key}")
        if expected is None:
            expected = outputs, gradients
        elif variant.equal:
            found[key] = _compare(outputs, gradients, *expected, setting, f"{name}, {key}")
        _forget_gradients(variant)
    return found


def _numbers(variant: Variant, mode: Mode, setting: Setting, name: str) -> tuple[list[Tensor], dict[str, Tensor]]:
    outputs = [out.detach().clone() for out in make_pass(variant, mode, setting)()]
    gradients: dict[str, Tensor] = {}
    if mode == "train":
        leaves = {f"input {index}": leaf for index, leaf in enumerate(variant.inputs)}
        leaves |= {key: leaf for key, leaf in variant.module.named_parameters() if leaf.requires_grad}
        silent = [key for key, leaf in leaves.items() if leaf.grad is None]
        if silent:
            raise GateError(f"{name}: no gradient for {', '.join(silent[:5])}")
        gradients = {key: leaf.grad.detach() for key, leaf in leaves.items() if leaf.grad is not None}
    bad = [str(key) for key, value in [*enumerate(outputs), *gradients.items()] if not value.isfinite().all()]
    if bad:
        raise GateError(f"{name}: not finite: output or gradient {', '.join(bad[:5])}")
    return outputs, gradients


def _compare(
    outputs: list[Tensor],
    gradients: dict[str, Tensor],
    peer_outputs: list[Tensor],
    peer_gradients: dict[str, Tensor],
    setting: Setting,
    name: str,
) -> dict[str, float]:
    if gradients.keys() != peer_gradients.keys():
        raise GateError(f"{name}: only one side has {sorted(gradients.keys() ^ peer_gradients.keys())[:5]}")
    errors = {"output": {str(i): _error(*pair) for i, pair in enumerate(zip(outputs, peer_outputs, strict=True))}}
    if gradients:
        floor = _NEGLIGIBLE * max(float(value.norm()) for value in peer_gradients.values())
        errors["gradient"] = {key: _error(value, peer_gradients[key], floor) for key, value in gradients.items()}
    limits = dict(zip(("output", "gradient"), LIMITS[setting.precision.partition(" ")[0]], strict=True))
    for kind, values in errors.items():
        worst = max(values, key=values.__getitem__)
        if not values[worst] <= limits[kind]:
            raise GateError(
                f"{name}: {kind} {worst} is off by {values[worst]:.1e} of the peer's, {limits[kind]} is allowed"
            )
    return {kind: max(values.values()) for kind, values in errors.items()}


def _error(value: Tensor, expected: Tensor, floor: float = 0.0) -> float:
    value, expected = value.double(), expected.double().view_as(value)
    return float((value - expected).norm()) / max(float(expected.norm()), floor, 1e-30)


def _forget_gradients(variant: Variant) -> None:
    for leaf in [*variant.inputs, *variant.module.parameters()]:
        leaf.grad = None
