"""What modulation is compared with."""

from __future__ import annotations

import pytest
import torch
from _branches import Joined, joined_batch
from _close import assert_close
from torch import nn

from avexperts.modulation import CosineFusion, mmpareto, uniform_loss


def losses_of(model: Joined, heads: nn.ModuleDict):
    torch.manual_seed(1)
    inputs, target = joined_batch()
    logits, features = model(inputs)
    alone = {name: heads[name](value) for name, value in features.items()}
    each = {name: nn.functional.cross_entropy(value, target) for name, value in alone.items()}
    return logits, alone, target, nn.functional.cross_entropy(logits, target), each


def models() -> tuple[Joined, nn.ModuleDict]:
    torch.manual_seed(0)
    return Joined(), nn.ModuleDict({name: nn.Linear(4, 3) for name in ("audio", "vision")})


def test_uniform_loss_is_the_sum() -> None:
    model, heads = models()
    logits, alone, target, fused, each = losses_of(model, heads)
    assert_close(uniform_loss(logits, alone, target).detach(), (fused + each["audio"] + each["vision"]).detach())
    segments = torch.stack([logits, logits], 1)
    doubled = uniform_loss(segments, {"audio": segments}, torch.stack([target, target], 1))
    assert_close(doubled.detach(), 2 * fused.detach())
    with pytest.raises(ValueError, match=r"logits of \['audio'\] carry no gradient"):
        uniform_loss(logits, alone | {"audio": alone["audio"].detach()}, target)


def by_hand(f: torch.Tensor, u: torch.Tensor, gamma: float = 1.5) -> tuple[float, float]:
    a, b, c = float(f @ f), float(u @ u), float(f @ u)
    if c > 0:
        return 0.5, gamma
    return (b - c) / (a + b - 2 * c), gamma


@pytest.mark.parametrize(("sign", "scale"), [(1.0, 1.0), (-1.0, 1.0), (1.0, 512.0)])
def test_pareto_steps(sign: float, scale: float) -> None:
    model, heads = models()
    branches = {name: model.branches[name] for name in ("audio", "vision")}
    parts = {}
    for which in ("fused", "audio", "vision"):
        *_, fused, each = losses_of(model, heads)
        loss = fused if which == "fused" else sign * each[which]
        every = [p for name in branches for p in branches[name].parameters()]
        parts[which] = torch.autograd.grad(loss, every, allow_unused=True)
    *_, fused, each = losses_of(model, heads)
    earlier = {name: torch.randn_like(p) for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.grad = earlier[name].clone()
    passes = []

    def backward(loss: torch.Tensor, retain_graph: bool) -> None:
        passes.append(retain_graph)
        loss.backward(retain_graph=retain_graph)

    found = mmpareto(fused * scale, {k: sign * v * scale for k, v in each.items()}, branches, backward=backward)
    assert passes == [True, False]
    signs = set()
    position = 0
    for name, branch in branches.items():
        count = len(list(branch.parameters()))
        here = slice(position, position + count)
        position += count
        f, u = (torch.cat([g.flatten() for g in parts[which][here]]) for which in ("fused", name))
        weight, gamma = by_hand(f, u)
        assert found[name].fused.item() == pytest.approx(weight, rel=1e-4)
        assert found[name].cosine.item() == pytest.approx(torch.cosine_similarity(f, u, dim=0).item(), abs=1e-5)
        signs.add(found[name].cosine.item() > 0)
        for (key, p), gf, gu in zip(branch.named_parameters(), parts["fused"][here], parts[name][here], strict=True):
            h = 2 * weight * gf + 2 * (1 - weight) * gu
            longer = max(1.0, float((gf + gu).norm() / h.norm()))
            got = (p.grad - earlier[f"branches.{name}.{key}"]) / scale
            torch.testing.assert_close(got, gamma * longer * h, rtol=1e-3, atol=1e-5)  # after adding and taking away
    assert len(signs) == 1 or sign < 0
    # classifiers keep the plain sum, on top of what was there
    (expected,) = torch.autograd.grad(losses_of(model, heads)[3], model.head.weight)
    torch.testing.assert_close(
        (model.head.weight.grad - earlier["head.weight"]) / scale, expected, rtol=1e-3, atol=1e-5
    )
    assert heads["audio"].weight.grad is not None


def test_weights_of_known_gradients() -> None:
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))

    def loss(parameter: torch.Tensor, gradient: tuple[float, float]) -> torch.Tensor:
        return (parameter * torch.tensor(gradient)).sum()

    fused = loss(a, (1.0, 0.0)) + loss(b, (1.0, 0.0))
    found = mmpareto(fused, {"a": loss(a, (-1.0, 3.0**0.5)), "b": loss(b, (0.5, 1.0))}, {"a": [a], "b": [b]})
    assert_close(found["a"].fused, torch.tensor(5 / 7))
    assert_close(found["a"].cosine, torch.tensor(-0.5))
    assert found["b"].fused.item() == 0.5
    assert_close(a.grad, 1.5 * torch.tensor([10 / 7 - 4 / 7, 3.0**0.5 * 4 / 7]) * (3.0 / (12 / 7)) ** 0.5)


def test_frozen_parameters_and_unreached_branches() -> None:
    model, heads = models()
    branches = {name: model.branches[name] for name in ("audio", "vision")}
    branches["audio"][0].requires_grad_(False)
    *_, fused, each = losses_of(model, heads)
    mmpareto(fused, each, branches)
    assert branches["audio"][0].weight.grad is None
    assert branches["audio"][2].weight.grad is not None
    *_, fused, each = losses_of(model, heads)
    with pytest.raises(ValueError, match=r"losses of the branches \['audio', 'vision'\] are expected, got \['audio'\]"):
        mmpareto(fused, {"audio": each["audio"]}, branches)
    with pytest.raises(ValueError, match="branch 'aside': neither"):
        mmpareto(
            fused,
            {"audio": each["audio"], "aside": each["vision"]},
            {"audio": branches["audio"], "aside": nn.Linear(2, 2)},
        )


def test_cosine_logits_do_not_grow_with_features_or_weights() -> None:
    head = CosineFusion({"audio": 4, "vision": 6}, 3)
    features = {"audio": torch.randn(5, 4), "vision": torch.randn(5, 6)}
    before = head(features)
    assert before.abs().max() <= 20
    with torch.no_grad():
        head.weights["audio"].mul_(7)
    assert_close(head({"audio": features["audio"] * 3, "vision": features["vision"]}).detach(), before.detach())
    with pytest.raises(ValueError, match="features of 'vision' must be"):
        head({"audio": features["audio"], "vision": torch.ones(5, 5)})
