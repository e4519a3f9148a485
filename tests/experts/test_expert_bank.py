"""Banks of experts: what each sample gets, whatever the batch; the papers' vectors; errors; cheap forms."""

from __future__ import annotations

import copy
from collections import namedtuple
from functools import partial
from pathlib import Path

import pytest
import torch
from _close import assert_close
from _figures import record
from safetensors.torch import load_file
from torch import Tensor, nn

from avexperts.experts import ExpertBank, LowRankExpert, TokenTopKExperts
from avexperts.routing import RoutingState

GOLDEN = Path(__file__).parents[1] / "golden" / "avqacl"
Pair = namedtuple("Pair", "y loss")


class GatedMLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def bank_of(count: int = 3, width: int = 6, **options) -> ExpertBank:
    bank = ExpertBank(GatedMLP(width, 9), **options)
    for position in range(count):
        bank.add(f"task_{position}", GatedMLP(width, 9))
    return bank


def test_an_expert_is_the_papers() -> None:
    found = load_file(GOLDEN / "expert_mlp.safetensors")
    bank = ExpertBank(GatedMLP(16, 24))
    bank.add("a", part(found, "weight."))
    x = found["in.x"].clone().requires_grad_()
    y = bank(x, route="a")
    y.backward(found["in.grad_y"])
    assert_close(y, found["out.y"])
    assert_close(x.grad, found["grad.x"], gradient=True)
    for name, parameter in bank.expert("a").named_parameters():
        assert_close(parameter.grad, found[f"grad.{name}"], gradient=True, what=name)
    record("experts against the papers' vectors, largest deviation", (y - found["out.y"]).abs().max().item())


def test_a_gated_mlp_by_hand() -> None:
    mlp = GatedMLP(1, 1)
    for parameter, value in zip(mlp.parameters(), (1.0, 2.0, 3.0), strict=True):
        nn.init.constant_(parameter, value)
    assert mlp(torch.ones(1)).item() == pytest.approx(4.386351, abs=1e-6)


def test_the_switch_layer_is_the_papers() -> None:
    found = load_file(GOLDEN / "anchor_expert_layer.safetensors")
    bank = ExpertBank(GatedMLP(16, 24))
    for position in range(3):
        bank.add(f"task_{position}", part(found, f"weight.experts.{position}."))
    for position in range(3):
        bank.zero_grad()
        x = found["in.x"].clone().requires_grad_()
        y = bank(x, route=position)
        y.backward(found["in.grad_y"])
        assert_close(y, found[f"out.{position}.y"])
        assert_close(x.grad, found[f"out.{position}.grad_x"], gradient=True)
        for other, size in enumerate(found[f"out.{position}.expert_grad_l1"].tolist()):
            gradients = [parameter.grad for parameter in bank.expert(f"task_{other}").parameters()]
            if other == position:
                assert sum(g.abs().sum().item() for g in gradients) == pytest.approx(size, rel=1e-5)
            else:
                assert gradients == [None] * 3
                assert size == 0


def test_the_token_router_is_the_papers() -> None:
    found = load_file(GOLDEN / "token_topk_layer.safetensors")
    layer = TokenTopKExperts([GatedMLP(12, 20) for _ in range(4)], nn.Linear(12, 4, bias=False))
    layer.load_state_dict(part(found, "weight."))
    x = found["in.x"].clone().requires_grad_()
    y, logits = layer(x, return_logits=True)
    y.backward(found["in.grad_y"])
    assert_close(logits, found["out.gate_logits"])
    assert logits.topk(2).indices.tolist() == found["out.selected"].tolist()
    assert_close(y, found["out.y"])
    assert_close(x.grad, found["grad.x"], gradient=True)
    assert_close(layer.gate.weight.grad, found["grad.gate.weight"], gradient=True)
    assert_close(layer.experts[0].gate_proj.weight.grad, found["grad.experts.0.gate_proj.weight"], gradient=True)


def test_a_token_expert_that_nobody_chose_gets_a_gradient_of_zero() -> None:
    layer = TokenTopKExperts([GatedMLP(4, 5) for _ in range(3)], nn.Linear(4, 3, bias=False), k=1)
    nn.init.zeros_(layer.gate.weight)  # ties go to one expert
    layer(torch.randn(2, 3, 4)).sum().backward()
    assert sorted(bool(expert.up_proj.weight.grad.any()) for expert in layer.experts) == [False, False, True]
    with pytest.raises(ValueError, match="k is between 1 and the 2 experts, got 3"):
        TokenTopKExperts([nn.Identity()] * 2, nn.Linear(4, 2), k=3)
    with pytest.raises(ValueError, match="the gate gives 3 logits for 2 experts"):
        TokenTopKExperts([nn.Identity()] * 2, nn.Linear(4, 3))(torch.ones(1, 4))


@pytest.mark.parametrize("copies", [1, 3])
def test_a_mixed_batch_is_its_samples_one_by_one(copies: int) -> None:
    bank, route = bank_of(), torch.tensor([2, 0, 2, 1, 0])
    x = torch.randn(5 * copies, 4, 6, dtype=torch.float64, requires_grad=True)
    bank.double()
    with bank.state.routed(route):
        together = bank(x)
    weight = torch.randn_like(together)
    (together * weight).sum().backward()
    mixed = {name: p.grad.clone() for name, p in bank.experts.named_parameters()} | {"x": x.grad.clone()}
    bank.zero_grad()
    x.grad = None
    rows = route.repeat_interleave(copies).tolist()
    alone = torch.cat([bank.expert(f"task_{e}")(x[i : i + 1]) for i, e in enumerate(rows)])
    (alone * weight).sum().backward()
    assert_close(together, alone)
    for name, parameter in bank.experts.named_parameters():
        assert_close(mixed[name], parameter.grad, gradient=True, what=name)
    assert_close(mixed["x"], x.grad, gradient=True)


def test_experts_equal_to_the_base_give_its_bits() -> None:
    bank = ExpertBank(GatedMLP(6, 9), default="base")
    bank.add("a")
    bank.add("b", partial(LowRankExpert, rank=2))
    bank.add("c", bank.base.state_dict())
    x = torch.randn(4, 5, 6)
    expected = bank(x)
    for route in (0, 1, "c", ["b", "b"]):
        assert torch.equal(bank(x, route=route), expected)
    for route in (["a", "b", "c", 0], torch.tensor([2, 1])):  # products of fewer rows may round otherwise
        assert_close(bank(x, route=route), expected)
    assert bank.names == ("a", "b", "c")
    assert bank.position("c") == 2


def test_one_expert_for_all_is_called_with_the_arguments_as_they_are() -> None:
    seen = []

    class Look(nn.Module):
        def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
            seen.append((x, scale))
            return x

    bank = ExpertBank(Look())
    bank.add("a")
    x, scale = torch.randn(4, 2), torch.randn(4)
    with bank.state.routed(torch.zeros(2, dtype=torch.long)):
        assert bank(x, scale=scale) is x
    assert seen[0][0] is x
    assert seen[0][1] is scale


class Rich(nn.Module):
    """Returns all that may be joined, and takes what goes along with the rows and what does not."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor, other: Tensor | None, *, table: Tensor, words: dict[str, Tensor]) -> dict:
        y = x * self.factor + words["row"][:, None] + table.sum()
        loss = y.mean()
        return {"pair": Pair(y, loss), "list": [y + 1, None, "kept"], "other": other}


def test_all_arguments_and_outputs_follow_the_rows() -> None:
    bank = ExpertBank(Rich(1.0))
    for name, factor in {"a": 2.0, "b": 3.0}.items():
        bank.add(name, Rich(factor))
    x, words, table = torch.randn(3, 2), {"row": torch.arange(3.0)}, torch.ones(2, 2)
    out = bank(x, x * 5, table=table, words=words, route=["b", "a", "b"])
    expected = x * torch.tensor([3.0, 2, 3])[:, None] + torch.arange(3.0)[:, None] + 4
    assert isinstance(out["pair"], Pair)
    torch.testing.assert_close(out["pair"].y, expected)
    torch.testing.assert_close(out["pair"].loss, expected.mean())
    torch.testing.assert_close(out["list"][0], expected + 1)
    assert out["list"][1:] == [None, "kept"]
    torch.testing.assert_close(out["other"], x * 5)


def test_weights_mix_the_experts() -> None:
    bank = bank_of()
    x = torch.randn(4, 3, 6)  # two samples, twice each
    weights = torch.tensor([[0.25, 0.0, 0.75], [0.0, 1.0, 0.0]], requires_grad=True)
    with bank.state.routed(weights.argmax(1), weights) as state:
        assert state.weights is weights
        y = bank(x)
    outs = torch.stack([bank.expert(name)(x) for name in bank.names])
    torch.testing.assert_close(y[:2], 0.25 * outs[0, :2] + 0.75 * outs[2, :2])
    torch.testing.assert_close(y[2:], outs[1, 2:])
    y.sum().backward()
    torch.testing.assert_close(weights.grad[0, 2], outs[2, :2].sum())
    assert weights.grad[1, 0] == 0  # what has no share is not run


def test_nested_routes_come_back() -> None:
    state = RoutingState()
    with state.routed(1):
        with pytest.raises(KeyError), state.routed(torch.tensor([0, 1])):
            raise KeyError
        assert state.route.tolist() == [1]
        with state.routed(None):
            assert state.route is None
    assert state.route is None
    state.route = torch.tensor([1, 0])
    assert state.route.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda bank, x: bank(x), RuntimeError, "no route is set"),
        (lambda bank, x: bank(x, route=3), ValueError, "asks for expert 3, and there are 3"),
        (lambda bank, x: bank(x, route=-1), ValueError, "position -1; positions count from 0"),
        (lambda bank, x: bank(x, route=torch.tensor([0, 1, 2])), ValueError, "3 samples does not divide a batch of 4"),
        (lambda bank, x: bank(x, route=torch.tensor([0.0])), ValueError, r"integers \(B,\), got \(1,\) torch.float32"),
        (lambda bank, x: bank(x, route=torch.tensor([[0]])), ValueError, r"integers \(B,\), got \(1, 1\)"),
        (lambda bank, x: bank(x, route="task_9"), ValueError, "no expert 'task_9'; there are"),
        (lambda bank, x: bank.state.routed({0}).__enter__(), ValueError, "a position or a tensor of them"),
        (lambda bank, x: bank.state.routed(None, x).__enter__(), ValueError, "weights without a route"),
        (lambda bank, x: bank.state.routed(0, torch.ones(2, 3)).__enter__(), ValueError, r"are \(B, K\), got \(2, 3\)"),
        (lambda bank, x: bank.add("task_1"), ValueError, "there is an expert 'task_1' already"),
        (lambda bank, x: bank.add("a.b"), ValueError, r"letters, digits.*got 'a.b'"),
        (lambda bank, x: bank.add("type"), ValueError, "no word of torch, got 'type'"),
        (lambda bank, x: bank.remove("gone"), ValueError, "no expert 'gone'"),
        (lambda bank, x: bank.train_only("gone"), ValueError, "no expert 'gone'"),
        (lambda bank, x: ExpertBank(nn.Identity(), default="none"), ValueError, "'error' or 'base', got 'none'"),
        (
            lambda bank, x: bank.add("b", {"up_proj.weight": torch.ones(9, 5), "bias": x}),
            ValueError,
            r"expert 'b' does not fit: 2 missing: gate_proj.weight, down_proj.weight; 1 unexpected: bias; "
            r"1 of another shape: up_proj.weight \(9, 5\) instead of \(9, 6\)",
        ),
        (lambda bank, x: LowRankExpert(nn.ReLU()), ValueError, "ReLU has no linear layer"),
        (lambda bank, x: LowRankExpert(nn.Linear(2, 2), rank=0), ValueError, "rank must be at least 1, got 0"),
    ],
)
def test_bad_input_is_named(call, error: type, message: str) -> None:
    bank = bank_of()
    with pytest.raises(error, match=message):
        call(bank, torch.randn(4, 6))
    assert bank.names == ("task_0", "task_1", "task_2")
    assert bank.state.route is None


def test_an_expert_that_returns_other_rows_is_refused() -> None:
    bank = ExpertBank(nn.Flatten(0))
    bank.add("a")
    bank.add("b")
    with pytest.raises(ValueError, match=r"returned \(6,\) for 1 rows"):
        bank(torch.ones(2, 6), route=[0, 1])
    whole = ExpertBank(nn.Identity())
    whole.add("a")
    with (
        pytest.raises(ValueError, match=r"torch.int64 cannot be mixed"),
        whole.state.routed(0, torch.ones(1, 1)),
    ):
        whole(torch.ones(2, dtype=torch.long))


def test_training_and_freezing() -> None:
    bank = bank_of()
    bank.train_only("task_1")
    trains = {name: any(p.requires_grad for p in bank.expert(name).parameters()) for name in bank.names}
    assert trains == {"task_0": False, "task_1": True, "task_2": False}
    assert [module.training for module in (bank.base, *bank.experts.values())] == [False, False, True, False]
    bank.eval().train()
    assert [module.training for module in (bank.base, *bank.experts.values())] == [False, False, True, False]
    bank.train_only(None)
    assert not any(p.requires_grad for p in bank.parameters())
    bank.remove("task_0")
    assert (bank.names, bank.position("task_2")) == (("task_1", "task_2"), 1)


def test_low_rank_experts_follow_their_base_and_own_their_factors_alone() -> None:
    base = nn.Sequential(GatedMLP(6, 9), nn.LayerNorm(6), nn.Dropout(0.5), nn.Sequential(nn.Linear(6, 4)))
    expert = LowRankExpert(base, rank=2, alpha=6.0)
    assert expert.places == ["0.gate_proj", "0.up_proj", "0.down_proj", "3.0"]
    names = {f"factors.{index}.{which}" for index in range(4) for which in ("down", "up")}
    assert set(expert.state_dict()) == names == {name for name, _ in expert.named_parameters()}
    base.eval()
    x = torch.randn(3, 6)
    for factors in expert.factors:
        nn.init.normal_(factors.up)
    changed = copy.deepcopy(base)
    with torch.no_grad():
        for place, factors in zip(expert.places, expert.factors, strict=True):
            changed.get_submodule(place).weight += 3.0 * factors.up @ factors.down
    torch.testing.assert_close(expert(x), changed(x))
    with torch.no_grad():
        base[3][0].bias += 1.0  # the base's own weight, not a copy
    torch.testing.assert_close(expert(x), changed(x) + 1)
    both = copy.deepcopy(nn.ModuleList([base, expert]))
    with torch.no_grad():
        both[0][3][0].bias -= 1.0
    torch.testing.assert_close(both[1](x), changed(x))
    expert.train()
    assert not base[2].training
    base.requires_grad_(False)
    expert(x).sum().backward()
    assert all(p.grad is not None for p in expert.parameters())


def test_banks_are_saved_copied_and_loaded_like_any_module() -> None:
    bank = bank_of()
    other = bank_of()
    other.load_state_dict(bank.state_dict())
    x = torch.randn(3, 6)
    for copied in (other, copy.deepcopy(bank)):
        assert torch.equal(copied(x, route=[0, 2, 1]), bank(x, route=[0, 2, 1]))
    assert "base.up_proj.weight" in bank.state_dict()
    assert "experts.task_1.up_proj.weight" in bank.state_dict()


def test_an_empty_batch_passes() -> None:
    bank = bank_of()
    assert bank(torch.ones(0, 6), route=0).shape == (0, 6)


def test_mixed_precision() -> None:
    bank = bank_of()
    bank.add("low", LowRankExpert(bank.base, rank=2))
    x, route = torch.randn(4, 5, 6), torch.tensor([3, 0, 2, 0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        together = bank(x, route=route)
        alone = torch.cat(
            [bank.experts[name](x[i : i + 1]) for i, name in enumerate(("low", "task_0", "task_2", "task_0"))]
        )
    assert together.dtype is torch.bfloat16
    assert_close(together, alone)
