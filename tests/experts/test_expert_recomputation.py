"""Activation checkpointing computes with the route of its own forward pass, whatever the route is by then."""

from __future__ import annotations

import copy

import pytest
import torch
from test_expert_bank import bank_of
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from avexperts.experts import ExpertBank
from avexperts.routing import RoutingState


class Layers(nn.Module):
    """Two layers with a bank each; something after the bank keeps tensors of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.state = RoutingState()
        self.banks = nn.ModuleList(bank_of(state=self.state) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(6) for _ in range(2))

    def layer(self, index: int, x: Tensor) -> Tensor:
        return self.norms[index](x + self.banks[index](x.tanh()))

    def forward(self, x: Tensor, how: bool | str | None = None) -> Tensor:
        if how == "both":  # one region around all layers
            return checkpoint(lambda x: self.layer(1, self.layer(0, x)), x, use_reentrant=False)
        if how == "nested":
            inner = lambda x: checkpoint(self.layer, 1, self.layer(0, x), use_reentrant=False)  # noqa: E731
            return checkpoint(inner, x, use_reentrant=False)
        for index in range(2):
            x = self.layer(index, x) if how is None else checkpoint(self.layer, index, x, use_reentrant=how)
        return x


def gradients(model: Layers) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("routes", [(0, 1), (torch.tensor([0, 2, 1]), torch.tensor([2, 1, 1])), (None, 1)])
@pytest.mark.parametrize("how", [False, True, "both", "nested"])
def test_two_routes_in_flight_before_backward(how: bool | str, routes: tuple) -> None:
    plain = Layers()
    for bank in plain.banks:
        bank.default = "base"
    recomputing = copy.deepcopy(plain)
    x = torch.randn(3, 4, 6, requires_grad=True)  # the same input twice: only the route tells them apart
    for model, kind in ((plain, None), (recomputing, how)):
        outs = []
        for route in routes:
            with model.state.routed(route):
                outs.append(model(x, kind))
        with model.state.routed(2):  # whatever is followed by then
            outs[0].square().sum().backward()
            model(x.detach())
        outs[1].sin().sum().backward()
    expected, found = gradients(plain), gradients(recomputing)
    assert expected.keys() == found.keys()
    assert len(expected) >= 10
    for name, gradient in expected.items():
        assert torch.equal(gradient, found[name]), name


def test_evaluating_in_between_does_not_wear_the_memory_out() -> None:
    model = Layers()
    x = torch.randn(2, 6, requires_grad=True)
    with model.state.routed(1):
        y = model(x, False)
    with torch.no_grad():
        for _ in range(3000):
            with model.state.routed(0):
                pass
    y.sum().backward()
    assert all(bank.experts["task_1"].up_proj.weight.grad is not None for bank in model.banks)
    with model.state.routed(1):
        y = model(x, False)
    for _ in range(600):
        with model.state.routed(0):
            x.exp()
        x.exp()
    with pytest.raises(RuntimeError, match="go backward sooner"):
        y.sum().backward()


def test_a_route_that_was_set_without_gradients_is_remembered() -> None:
    model, x = Layers(), torch.randn(2, 6, requires_grad=True)
    with torch.no_grad():
        model.state.route = torch.tensor([1, 2])
    y = model(x, False)
    model.state.route = None
    y.sum().backward()
    grads = [model.banks[0].experts[f"task_{position}"].up_proj.weight.grad is not None for position in range(3)]
    assert grads == [False, True, True]


def test_a_bank_of_its_own_state_and_an_argument_for_a_route() -> None:
    bank = ExpertBank(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.LayerNorm(4)))
    bank.add("a")
    bank.add("b")
    x = torch.randn(2, 4, requires_grad=True)
    y = checkpoint(lambda x: bank(x, route="b"), x, use_reentrant=False)
    y.sum().backward()
    assert bank.expert("a")[0].weight.grad is None
    assert bank.expert("b")[0].weight.grad is not None
