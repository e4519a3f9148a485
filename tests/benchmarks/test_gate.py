from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from benchmarks.case import Setting, Variant
from benchmarks.gate import GateError, check_case

SETTING = Setting(torch.device("cpu"))


def variant(module: nn.Module, factor: float = 1.0, **options) -> Variant:
    x = torch.linspace(-1, 1, 12).view(3, 4).requires_grad_()
    return Variant(module, lambda: [factor * module(x)], [x], **options)


@pytest.fixture
def layers() -> tuple[nn.Module, nn.Module]:
    layer = nn.Linear(4, 2)
    return layer, copy.deepcopy(layer)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_equal_variants_pass(layers, precision) -> None:
    setting = SETTING._replace(precision=precision)
    found = check_case({"a": variant(layers[0]), "b": variant(layers[1])}, "train", setting, "case")
    assert set(found) == ({"b"} if precision == "float32" else {"a", "b"})
    assert found["b"]["gradient"] <= 2e-2
    assert all(parameter.grad is None for parameter in layers[1].parameters())


@pytest.mark.parametrize("whole", [False, True])
def test_another_output_or_gradient_is_refused_by_name(layers, whole) -> None:
    with pytest.raises(GateError, match="case, b: output 0"):
        check_case({"a": variant(layers[0]), "b": variant(layers[1], 1.1, whole=whole)}, "forward", SETTING, "case")

    class Detached(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight * 0.5 + self.weight.detach() * 0.5, self.bias)

    other = Detached(4, 2)
    other.load_state_dict(layers[0].state_dict())
    with pytest.raises(GateError, match="gradient of all parameters" if whole else "gradient weight"):
        check_case({"a": variant(layers[0]), "b": variant(other, whole=whole)}, "train", SETTING, "case")


def test_a_parameter_without_gradient_and_a_number_that_is_none_are_refused(layers) -> None:
    layers[1].spare = nn.Parameter(torch.ones(1))
    with pytest.raises(GateError, match="no gradient for spare"):
        check_case({"a": variant(layers[0]), "b": variant(layers[1], equal=False)}, "train", SETTING, "case")
    with pytest.raises(GateError, match="not finite"):
        check_case(
            {"a": variant(layers[0]), "b": variant(layers[1], float("nan"), equal=False)}, "forward", SETTING, "case"
        )


def test_other_models_need_not_agree(layers) -> None:
    assert check_case({"a": variant(layers[0]), "b": variant(layers[1], 2.0, equal=False)}, "train", SETTING, "") == {}
