"""An interrupted run ends as if it had not been: equal weights, moments, rates, random state, clips at every step."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from _figures import record
from _small_runs import LISTENING, Augmented, StoppedError, checkpoints, difference, listener, numbers, train
from accelerate import Accelerator
from avtasks.training import Recipe
from avtasks.training.distribute import start_accelerator

RECOMPUTED = LISTENING | {"network": partial(listener, checkpoint="all", batch_norm=True), "epochs": 2}
CASES = {
    "within an epoch": (1, {}),
    "after a shorter last batch": (5, {"batch_size": 5}),
    "after the last step of an epoch": (6, {}),
    "in the second epoch, no saves within": (8, {"save_every": 0}),
    "in an accumulation window, sums": (9, {"accumulate": 2, "sum_gradients": True}),
    "in an accumulation window, short last one": (10, {"accumulate": 4}),
    "step schedule, clipped, Adam": (14, {"schedule": "step", "step_epochs": 1, "clip_norm": 0.1, "optimizer": "adam"}),
    "warm-up and cosine": (9, {"warmup": 1.5}),
    "augmentation, no worker": (8, {"clips": Augmented()}),
    "augmentation, 2 workers": (8, {"clips": Augmented(), "workers": 2, "epochs": 2}),
    "bf16, in an accumulation window": (9, {"precision": "bf16", "accumulate": 2}),
    "recomputed activations": (7, RECOMPUTED),
}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, case):
    stop_at, settings = CASES[case]
    whole = train(tmp_path / "whole", **settings)
    with pytest.raises(StoppedError):
        train(tmp_path / "parts", stop_at=stop_at, **settings)
    resumed = train(tmp_path / "parts", resume=True, **settings)
    assert whole.clips[len(whole.clips) - len(resumed.clips) :] == resumed.clips
    assert resumed.fitted._replace(seconds=0) == whole.fitted._replace(seconds=0)
    expected, found = checkpoints(tmp_path / "whole"), checkpoints(tmp_path / "parts")
    assert len(expected) >= 3
    record("resumed run, difference from the uninterrupted one", apart := difference(expected, found))
    assert apart == 0
    assert difference(whole.model.state_dict(), resumed.model.state_dict()) == 0


def test_stopped_again_and_again(tmp_path):
    settings = {"clips": Augmented(), "accumulate": 2, "epochs": 2}
    whole = train(tmp_path / "whole", **settings)
    for attempt in range(5):  # each gets one window further
        with pytest.raises(StoppedError):
            train(tmp_path / "parts", stop_at=3, resume=attempt > 0, **settings)
        assert len(checkpoints(tmp_path / "parts")) == attempt + 1
    resumed = train(tmp_path / "parts", resume=True, **settings)
    assert difference(whole.model.state_dict(), resumed.model.state_dict()) == 0
    assert difference(checkpoints(tmp_path / "whole"), checkpoints(tmp_path / "parts")) == 0


def test_workers_and_restarts_do_not_change_what_augmentation_draws(tmp_path):
    runs = [train(tmp_path / str(n), clips=Augmented(), workers=n, epochs=1) for n in (0, 2)]
    assert runs[0].clips == runs[1].clips
    assert difference(*(run.model.state_dict() for run in runs)) == 0


def test_a_checkpoint_holds_no_gradients_and_is_not_written_within_a_window(tmp_path):
    train(tmp_path, accumulate=4, epochs=1)
    states = checkpoints(tmp_path)
    assert [state["batch"] for state in states.values()] == [4, 0]
    assert set(states["step_00000001.pt"]) == {
        "epoch", "batch", "step", "best_epoch", "best", "history", "seconds", "order", "model",
        "optimizer", "scaler", "hook", "random",
    }  # fmt: skip


def test_another_order_of_clips_is_refused(tmp_path):
    train(tmp_path, epochs=1)
    message = r"the interrupted run took its clips in another order: clips was 22, is 21, batch_size was 4, is 8"
    with pytest.raises(ValueError, match=message):
        train(tmp_path, resume=True, clips=numbers(21), batch_size=8)


def test_bfloat16_differs_from_float32_and_stays_close(tmp_path):
    plain, rough = (train(tmp_path / p, precision=p, epochs=1, save_every=0).model[3].weight for p in ("no", "bf16"))
    assert plain.dtype == rough.dtype == torch.float32
    assert 0 < (plain - rough).abs().max() < 0.05


def test_recipes_of_one_program_may_differ_in_precision(tmp_path):
    for precision in ("no", "bf16", "no"):
        train(tmp_path, precision=precision, epochs=1)


def test_fp16_needs_a_gpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="'fp16' needs a GPU; on a CPU take 'bf16' or 'no'"):
        train(tmp_path, precision="fp16")


def test_the_loss_scale_is_restored(tmp_path, monkeypatch):
    def accelerator(recipe: Recipe) -> Accelerator:
        started = start_accelerator(recipe)
        # what accelerate makes for fp16 on a GPU, here on the CPU; it doubles every second step
        started.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        return started

    monkeypatch.setattr("avtasks.training.training_run.start_accelerator", accelerator)
    whole = train(tmp_path / "whole")
    with pytest.raises(StoppedError):
        train(tmp_path / "parts", stop_at=7)
    resumed = train(tmp_path / "parts", resume=True)
    expected, found = checkpoints(tmp_path / "whole"), checkpoints(tmp_path / "parts")
    assert found["step_00000018.pt"]["scaler"]["scale"] == 8.0 * 2**9
    assert difference(expected, found) == 0
    assert difference(whole.model.state_dict(), resumed.model.state_dict()) == 0


def test_recomputing_activations_changes_no_gradient(tmp_path):
    settings = LISTENING | {"epochs": 2, "save_every": 0}
    plain = train(tmp_path / "plain", network=listener, **settings)
    again = train(tmp_path / "again", network=partial(listener, checkpoint="all"), **settings)
    apart = difference(plain.model.state_dict(), again.model.state_dict())
    record("recomputed activations: difference of trained weights", apart)
    assert apart <= 1e-6
