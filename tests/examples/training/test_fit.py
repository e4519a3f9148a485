from __future__ import annotations

import pytest
import torch
from _small_runs import loss, numbers, rough_network, score, train
from avtasks.training import Recipe, fit
from torch import Tensor, nn


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, expected, _ = train(tmp_path)
    again, found, batches = train(tmp_path, resume=True)
    assert batches == []
    assert found.history == expected.history
    assert torch.equal(first[3].weight, again[3].weight)


def test_without_resume_old_checkpoints_do_not_count(tmp_path):
    train(tmp_path)
    _, _, batches = train(tmp_path)
    assert len(batches) == 3 * 6


def test_gradients_of_accumulated_passes_are_summed_or_averaged(tmp_path):
    def step(out, **settings):
        model = nn.Linear(6, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        moved = []
        fit(
            model,
            numbers(8),
            loss=loss,
            evaluate=lambda model: moved.append(model.weight.detach().clone()) or {"accuracy": 0.0},
            recipe=Recipe(epochs=1, batch_size=2, optimizer="adam", schedule="constant", **settings),
            out=out,
            groups=[{"params": model.parameters(), "lr": 1.0, "eps": 1e6, "betas": (0.0, 0.0)}],
        )
        return moved[0] * 1e6  # with a huge eps Adam's step is the gradient itself

    whole = step(tmp_path / "a", accumulate=4)
    expected = network_gradient()
    torch.testing.assert_close(whole, -expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(step(tmp_path / "b", accumulate=4, sum_gradients=True), 4 * whole, rtol=1e-4, atol=1e-5)


def network_gradient() -> Tensor:
    model = nn.Linear(6, 1)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    loss(model, numbers(8).fields)["square"].backward()
    return model.weight.grad


def test_the_best_weights_come_back_and_patience_ends_the_run(tmp_path):
    biases = []

    def worse_and_worse(model):
        biases.append(model[3].bias.item())
        return {"accuracy": -float(len(biases))}

    model, fitted, _ = train(tmp_path, evaluate=worse_and_worse, epochs=9, patience=2)
    assert (fitted.best_epoch, fitted.epochs, fitted.best["accuracy"]) == (1, 3, -1.0)
    assert model[3].bias.item() == biases[0] != biases[-1]
    assert not model.training


def test_frozen_parameters_are_neither_trained_nor_saved(tmp_path):
    model, _, _ = train(tmp_path)
    assert torch.equal(model[0].weight, rough_network()[0].weight)
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    assert "0.weight" not in torch.load(newest, weights_only=True)["model"]


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    def broken(model, batch):
        return loss(model, batch) | {"other": batch["x"].sum() * float("nan")}

    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 1: square \d\.\d+, other nan"):
        fit(rough_network(), numbers(), loss=broken, evaluate=score, recipe=Recipe(epochs=1), out=tmp_path)


def test_nothing_to_train(tmp_path):
    with pytest.raises(ValueError, match="nothing to train"):
        fit(rough_network().requires_grad_(False), numbers(), loss=loss, evaluate=score, recipe=Recipe(), out=tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path, epochs=1)
    with pytest.raises(KeyError, match=r"missing: \['0.bias', '0.weight'\], unknown: \['1"):
        train(tmp_path, network=lambda: nn.Sequential(nn.Linear(6, 1)), resume=True)


def test_the_log_holds_losses_and_scores(tmp_path):
    train(tmp_path)
    events = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    for name in (b"train/square", b"train/total", b"val/accuracy"):
        assert name in events
