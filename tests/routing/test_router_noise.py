"""Noise on the router's logits: while training only, and equal when activations are recomputed."""

from __future__ import annotations

import torch
from _close import assert_close
from _towers import open_gates, toy_avmoe, toy_inputs

import avexperts as ax


def test_noise_acts_in_training_only() -> None:
    torch.manual_seed(0)
    router, x = ax.SoftRouter((4,), 3, noise_std=0.01), torch.randn(2000, 4)
    clean = router.eval()(x)
    assert torch.equal(router(x), clean)
    shift = (router.train()(x).log() - clean.log()).double()
    shift = shift - shift.mean(-1, keepdim=True)  # softmax forgets what all logits share
    assert abs(shift.std().item() - 0.01 * (2 / 3) ** 0.5) < 5e-4


def test_without_noise_training_changes_nothing() -> None:
    router, x = ax.SoftRouter((4,), 3), torch.randn(5, 4)
    assert torch.equal(router.train()(x), router.eval()(x))


def test_recomputed_couplings_draw_the_same_noise() -> None:
    gradients = []
    for checkpoint in (None, "couplings"):
        torch.manual_seed(0)
        model = open_gates(toy_avmoe(router_noise=0.5, checkpoint=checkpoint)).train()
        inputs = toy_inputs()
        torch.manual_seed(1)
        model(inputs).vision.square().sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.couplings.parameters() if p.grad is not None]))
    assert_close(gradients[1], gradients[0], gradient=True)
