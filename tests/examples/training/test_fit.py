from __future__ import annotations

import pytest
import torch
from avtasks.training import Recipe, TensorClips, fit, seed_everything
from torch import Tensor, nn


class StoppedError(Exception):
    pass


def clips(count: int = 22) -> TensorClips:
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(5))
    return TensorClips(x=x, y=(x[:, :1] - x[:, 1:2]).tanh())


def network() -> nn.Module:
    seed_everything(0)
    frozen = nn.Linear(6, 8).requires_grad_(False)
    return nn.Sequential(frozen, nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))


def loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"square": (model(batch["x"]) - batch["y"]).square().mean()}


def score(model: nn.Module) -> dict[str, float]:
    return {"accuracy": -loss(model, clips().fields)["square"].item()}


def train(out, *, interrupt_at: int | None = None, resume: bool = False, evaluate=score, **settings):
    recipe = Recipe(**{"epochs": 3, "batch_size": 4, "lr": 0.02, "save_every": 1} | settings)
    model, batches = network(), []

    def interrupted_loss(model, batch):
        if len(batches) == interrupt_at:
            raise StoppedError
        batches.append(batch["x"])
        return loss(model, batch)

    if resume:
        torch.rand(7)  # a new process has drawn other numbers
    fitted = fit(
        model,
        clips(),
        loss=interrupted_loss,
        evaluate=evaluate,
        recipe=recipe,
        out=out,
        resume=resume,
        seed=3,
    )
    return model, fitted, batches


@pytest.mark.parametrize(
    ("interrupt_at", "settings"),
    [
        (1, {}),
        (6, {}),  # after the last batch of an epoch and its evaluation
        (8, {}),
        (9, {"accumulate": 2, "sum_gradients": True}),
        (8, {"save_every": 0}),
        (14, {"schedule": "step", "step_epochs": 1, "clip_norm": 0.1, "optimizer": "adam"}),
    ],
)
def test_an_interrupted_run_goes_on_exactly(tmp_path, interrupt_at, settings):
    whole, expected, batches = train(tmp_path / "whole", **settings)
    with pytest.raises(StoppedError):
        train(tmp_path / "parts", interrupt_at=interrupt_at, **settings)
    resumed, found, rest = train(tmp_path / "parts", resume=True, **settings)
    assert found.history == expected.history
    assert found[:3] == expected[:3]
    assert all(torch.equal(one, other) for one, other in zip(batches[-len(rest) :], rest, strict=True))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, expected, _ = train(tmp_path)
    again, found, batches = train(tmp_path, resume=True)
    assert batches == []
    assert found.history == expected.history
    assert torch.equal(first[3].weight, again[3].weight)


def test_without_resume_old_checkpoints_do_not_count(tmp_path):
    train(tmp_path)
    _, _, batches = train(tmp_path, interrupt_at=None)
    assert len(batches) == 3 * 6


def test_gradients_of_accumulated_passes_are_summed_or_averaged(tmp_path):
    def step(out, **settings):
        model = nn.Linear(6, 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        moved = []
        fit(
            model,
            clips(8),
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
    loss(model, clips(8).fields)["square"].backward()
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
    assert torch.equal(model[0].weight, network()[0].weight)
    newest = max((tmp_path / "checkpoints").glob("*.pt"))
    assert "0.weight" not in torch.load(newest, weights_only=True)["model"]


def test_a_loss_that_is_not_finite_is_named(tmp_path):
    def broken(model, batch):
        return loss(model, batch) | {"other": batch["x"].sum() * float("nan")}

    with pytest.raises(FloatingPointError, match=r"epoch 1, batch 1: square \d\.\d+, other nan"):
        fit(network(), clips(), loss=broken, evaluate=score, recipe=Recipe(epochs=1), out=tmp_path)


def test_nothing_to_train(tmp_path):
    with pytest.raises(ValueError, match="nothing to train"):
        fit(network().requires_grad_(False), clips(), loss=loss, evaluate=score, recipe=Recipe(), out=tmp_path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path)
    other = nn.Sequential(nn.Linear(6, 1))
    with pytest.raises(KeyError, match=r"missing: \['0.bias', '0.weight'\], unknown: \['1"):
        fit(other, clips(), loss=loss, evaluate=score, recipe=Recipe(), out=tmp_path, resume=True)


def test_the_log_holds_losses_and_scores(tmp_path):
    train(tmp_path)
    events = next((tmp_path / "tensorboard").iterdir()).read_bytes()
    for name in (b"train/square", b"train/total", b"val/accuracy"):
        assert name in events
