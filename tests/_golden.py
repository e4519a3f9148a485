"""Stored vectors from the papers' code: load one case, run it, compare every output and gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import _figures
import torch
from _close import assert_close
from safetensors.torch import load_file
from torch import Tensor, nn

GOLDEN = Path(__file__).parent / "golden"


class Golden:
    """One case: tensors grouped by their prefix (``w``, ``in``, ``out``, ``cot``, ``gin``, ``grad``, ``buf``)."""

    def __init__(self, system: str, case: str) -> None:
        self.tensors = load_file(GOLDEN / system / f"{case}.safetensors")

    def __getattr__(self, prefix: str) -> dict[str, Tensor]:
        start = prefix + "."
        return {key[len(start) :]: value for key, value in self.tensors.items() if key.startswith(start)}

    def check(
        self,
        module: nn.Module,
        run: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
        convert: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
    ) -> None:
        """Load the weights, run forward and backward, and compare everything that is stored."""
        module.load_state_dict(convert(self.w))
        inputs = {key: value.clone().requires_grad_() for key, value in getattr(self, "in").items()}
        out = run(inputs)
        for key, expected in self.out.items():
            assert_close(out[key].to(expected.dtype), expected, what=f"out.{key}")
        sum((out[key] * cot).sum() for key, cot in self.cot.items()).backward()
        for key, expected in self.gin.items():
            got = inputs[key].grad
            assert_close(torch.zeros_like(expected) if got is None else got, expected, gradient=True, what=f"gin.{key}")
        parameters = dict(module.named_parameters())
        gradients = convert(self.grad)
        assert gradients, "the case stores no gradient"
        for key, expected in gradients.items():
            assert_close(parameters[key].grad, expected, gradient=True, what=f"grad.{key}")
        after = convert(self.w | self.buf)
        for key, buffer in module.named_buffers():
            assert_close(buffer, after[key], what=f"buf.{key}")
        worst = max((out[key] - expected).abs().max().item() for key, expected in self.out.items())
        dtype = next(value.dtype for value in self.out.values() if value.is_floating_point())
        kind = str(dtype).removeprefix("torch.")
        _figures.record(f"papers' vectors, {kind} outputs, largest deviation", worst)
