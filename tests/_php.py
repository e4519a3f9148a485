"""The papers' vectors of prompts: names in their state dicts and ours, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping

import _figures
import torch
from _close import assert_close
from _golden import Golden
from torch import Tensor

from avexperts.checkpoints import convert


def case(name: str) -> Golden:
    return Golden("php", name)


def inputs(golden: Golden) -> dict[str, Tensor]:
    """The inputs in float64, ready for gradients."""
    return {
        key: value.double().requires_grad_() if value.is_floating_point() else value
        for key, value in getattr(golden, "in").items()
    }


def pool(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _inner(convert.php(_inside("deep_visual_e_prompt.", tensors), part="task"), "deep.")


def generator(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return _inner(convert.php(_inside("mid_e_prompt.", tensors), part="task"), "mid.")


def adapter(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    state = convert.php(_inside("vis_adapter_blocks_p1.0.", tensors), part="shared")
    return _inner(state, "couplings.0.first.module.vision.")


def _inside(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {start + key: value for key, value in tensors.items()}


def _inner(state: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {key.removeprefix(start): value.double() for key, value in state.items()}


def check(found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor], *, gradient: bool = False) -> None:
    """Compare float64 results with stored float32 numbers, all of ``found``."""
    assert found
    for key, value in found.items():
        assert value is not None, key
        assert_close(value.to(expected[key].dtype), expected[key], gradient=gradient, what=key)
        if value.is_floating_point() and not gradient:
            _figures.record("PHP's vectors, outputs, largest deviation", (value - expected[key]).abs().max().item())


def gradients(module: torch.nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}
