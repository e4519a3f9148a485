"""What is done beside the loss: around the optimizer's step, instead of the backward pass, across interruptions."""

from __future__ import annotations

import pytest
import torch
from _small_runs import StoppedError, loss, numbers, rough_network, score
from avtasks.training import Hook, Recipe, fit
from torch import nn


class Doubling(Hook):
    """Doubles the loss by hand and counts."""

    def __init__(self) -> None:
        self.epochs, self.steps, self.stop_at = [], 0, None

    def attach(self, optimizer):
        assert isinstance(optimizer, torch.optim.SGD)
        optimizer.register_step_post_hook(self.count)

    def start_epoch(self, epoch):
        self.epochs.append(epoch)

    def backward(self, terms, weight, backward):
        if self.steps == self.stop_at:
            raise StoppedError
        backward(2 * weight * terms["square"], retain_graph=True)

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]

    def count(self, *_):
        self.steps += 1


def trained(out, hook=None, *, loss=loss, resume=False, **settings) -> nn.Module:
    recipe = Recipe(**{"epochs": 3, "batch_size": 4, "optimizer": "sgd", "lr": 0.02, "save_every": 1} | settings)
    model = rough_network()
    fit(model, numbers(), loss=loss, evaluate=score, recipe=recipe, out=out, hook=hook, resume=resume)
    return model


@pytest.mark.parametrize("settings", [{}, {"accumulate": 3}, {"precision": "bf16"}])
def test_a_hook_may_replace_the_backward_pass(tmp_path, settings):
    found = trained(tmp_path / "hook", hook := Doubling(), **settings)
    expected = trained(tmp_path / "plain", loss=lambda *a: {"square": 2 * loss(*a)["square"]}, **settings)
    assert hook.epochs == [0, 1, 2]
    assert hook.steps == (6 if "accumulate" in settings else 18)
    torch.testing.assert_close(found.state_dict(), expected.state_dict())


def test_a_hook_goes_on_where_it_was_interrupted(tmp_path):
    whole = trained(tmp_path / "whole", Doubling())
    first = Doubling()
    first.stop_at = 8
    with pytest.raises(StoppedError):
        trained(tmp_path / "parts", first)
    resumed = trained(tmp_path / "parts", second := Doubling(), resume=True)
    assert second.epochs == [1, 2]
    assert second.steps == 18
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)


def test_sgd_has_momentum(tmp_path):
    slow, fast = (trained(tmp_path / str(m), momentum=m, epochs=1)[3].weight for m in (0.0, 0.9))
    start = rough_network()[3].weight
    assert (fast - start).norm() > 1.5 * (slow - start).norm()
