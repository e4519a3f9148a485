"""Two processes on one machine train what one does, replicated (DDP) or sharded (FSDP2), and may take over from it."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

import pytest
import torch
from _figures import record
from _processes import run_processes
from _small_runs import (
    LISTENING,
    StoppedError,
    checkpoints,
    difference,
    listener,
    numbers,
    score,
    smooth_network,
    train,
)
from avtasks.training import TensorClips, over_clips, trainable_state
from torch import nn

WORLD = 2
# 21 clips in batches of 5: shares are unequal, one process has no clip in the last batch, and a window ends early
SMOOTH = {
    "network": smooth_network,
    "clips": numbers(21),
    "batch_size": 5,
    "accumulate": 2,
    "clip_norm": 1.0,
    "warmup": 1.0,
}
ROUGH = {"clips": numbers(24), "accumulate": 2}
HEARD = LISTENING | {"network": listener, "epochs": 2, "save_every": 0}
RECOMPUTED = HEARD | {"network": partial(listener, checkpoint="all")}
LIMITS = {"ddp": 1e-6, "fsdp": 1e-5}


def note(out: Path, rank: int, name: str, value: object) -> None:
    (out / f"{name}-{rank}.json").write_text(json.dumps(value))


def noted(out: Path, name: str) -> list:
    return [json.loads((out / f"{name}-{rank}.json").read_text()) for rank in range(WORLD)]


def run_and_note(out: Path, rank: int, **settings) -> None:
    out.mkdir(exist_ok=True)
    evaluate, buffers = settings.pop("evaluate", score), []

    def noting(model: nn.Module) -> dict[str, float]:
        buffers.append([buffer.sum().item() for buffer in model.buffers()])
        return evaluate(model)

    run = train(out, evaluate=noting, **settings)
    note(out, rank, "clips", run.clips)
    note(out, rank, "buffers", buffers)
    torch.save(trainable_state(run.model), out / f"weights-{rank}.pt")


def stop(out: Path, at: int, **settings) -> None:
    try:
        train(out, stop_at=at, **settings)
    except StoppedError:
        return
    raise AssertionError("the run was not stopped")


def do_everything(rank: int, folder: Path) -> None:
    for how in ("ddp", "fsdp"):
        run_and_note(folder / f"whole-{how}", rank, parallel=how, **SMOOTH)
        run_and_note(folder / f"from-one-{how}", rank, parallel=how, resume=True, **SMOOTH)
        run_and_note(folder / f"rough-{how}", rank, parallel=how, **ROUGH)
        stop(folder / f"rough-resumed-{how}", 9, parallel=how, **ROUGH)
        run_and_note(folder / f"rough-resumed-{how}", rank, parallel=how, resume=True, **ROUGH)
        run_and_note(folder / f"heard-{how}", rank, parallel=how, **HEARD)
    stop(folder / "from-sharded", 8, parallel="fsdp", **SMOOTH)
    run_and_note(folder / "recomputed", rank, **RECOMPUTED)
    run_and_note(folder / "bf16", rank, parallel="fsdp", precision="bf16", **SMOOTH)
    note(folder, rank, "frozen", frozen_weight_of_this_process(folder / "frozen", rank))
    note(folder, rank, "answers", answers())
    note(folder, rank, "errors", errors(folder / f"errors-{rank}"))


def frozen_weight_of_this_process(out: Path, rank: int) -> float:
    def network() -> nn.Module:
        model = smooth_network()
        nn.init.constant_(model[0].weight, rank + 1.0)
        return model

    return train(out, network=network, epochs=1).model[0].weight.unique().item()


def answers() -> list[float]:
    asked = []
    clips = TensorClips(x=torch.arange(7.0))
    found = over_clips(
        clips, lambda batch: asked.append(len(batch["x"])) or {"y": batch["x"][:, None] * 2}, batch_size=3
    )
    assert asked == [3, 1]
    return found["y"].flatten().tolist()


def errors(out: Path) -> list[str]:
    messages = []
    for settings in ({"batch_size": 1}, {"resume": True}):
        if settings.get("resume") and int(os.environ["RANK"]) == 0:
            train_alone = out / "checkpoints"
            train_alone.mkdir(parents=True)
            torch.save({"step": 4}, train_alone / "step_00000004.pt")
        with pytest.raises(ValueError) as caught:  # noqa: PT011 the texts are compared by the test
            train(out, **settings)
        messages.append(str(caught.value))
    return messages


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do all two-process runs in one pair of processes, since starting them costs more than running."""
    folder = tmp_path_factory.mktemp("runs")
    train(folder / "whole-one", **SMOOTH)
    train(folder / "heard-one", **HEARD)
    for how in ("ddp", "fsdp"):
        stop(folder / f"from-one-{how}", 8, **SMOOTH)
    return run_processes(do_everything, folder, count=WORLD)


def joint_clips(out: Path) -> list[list[int]]:
    """The clips of each pass over both processes; one of them repeats a clip where it has none of its own."""
    return [sorted({*one, *other}) for one, other in zip(*noted(out, "clips"), strict=True)]


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize("what", ["whole", "heard", "from-one"])
def test_two_processes_train_what_one_does(runs, what, how):
    one, two = checkpoints(runs / f"{what.replace('from-one', 'whole')}-one"), checkpoints(runs / f"{what}-{how}")
    for state in (*one.values(), *two.values()):
        assert state.pop("random")
    apart = difference(one, two)
    record(f"two processes, {how}: difference from one, {what}", apart)
    assert apart <= LIMITS[how]


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_take_over_at_the_next_window(runs, how):
    whole, resumed = joint_clips(runs / f"whole-{how}"), joint_clips(runs / f"from-one-{how}")
    # the ninth pass is the second of its window, which begins anew
    assert resumed == whole[7:]
    assert sorted(clip for batch in whole[:5] for clip in batch) == list(range(21))


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_resume_exactly(runs, how):
    whole, resumed = checkpoints(runs / f"rough-{how}"), checkpoints(runs / f"rough-resumed-{how}")
    assert len(whole) == 9
    assert len(whole["step_00000001.pt"]["random"]) == WORLD
    record(f"two processes, {how}: resumed run, difference", apart := difference(whole, resumed))
    assert apart == 0
    first, second = whole["step_00000001.pt"]["random"]
    assert not torch.equal(first["torch"], second["torch"])  # or all would drop out alike


@pytest.mark.parametrize(
    "run", ["whole-ddp", "whole-fsdp", "rough-ddp", "rough-fsdp", "heard-ddp", "heard-fsdp", "bf16"]
)
def test_all_processes_end_with_equal_weights(runs, run):
    weights = [torch.load(runs / run / f"weights-{rank}.pt", weights_only=True) for rank in range(WORLD)]
    assert weights[0].keys() == weights[1].keys()
    assert difference(*weights) == 0


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_all_processes_evaluate_the_same_statistics(runs, how):
    one, other = noted(runs / f"rough-{how}", "buffers")
    assert one == other
    assert one[0] != one[-1]


def test_one_process_takes_over_from_two_with_shards(runs):
    train(runs / "from-sharded", resume=True, **SMOOTH)
    one, two = checkpoints(runs / "whole-one"), checkpoints(runs / "from-sharded")
    for state in (*one.values(), *two.values()):
        assert state.pop("random")
    assert difference(one, two) <= LIMITS["fsdp"]


def test_a_process_without_sound_stalls_nobody(runs):
    heard = LISTENING["clips"].fields["heard"]
    silent = [[not heard[clips].any() for clips in passes] for passes in noted(runs / "heard-ddp", "clips")]
    assert any(one != other for one, other in zip(*silent, strict=True))


def test_recomputed_activations_across_processes(runs):
    one, two = checkpoints(runs / "heard-ddp"), checkpoints(runs / "recomputed")
    assert difference(one, two) <= LIMITS["ddp"]


def test_frozen_weights_are_not_sent(runs):
    assert noted(runs, "frozen") == [1.0, 2.0]


def test_answers_are_neither_lost_nor_repeated(runs):
    assert noted(runs, "answers") == [[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]] * WORLD


def test_files_are_written_once(runs):
    for out in (runs / "whole-ddp", runs / "whole-fsdp"):
        assert len(list((out / "tensorboard").iterdir())) == 1
        assert not list(out.rglob("*.tmp"))


def test_launches_that_cannot_work(runs):
    for too_small, not_shared in noted(runs, "errors"):
        assert "1 cannot be split over 2; give a larger batch_size" in too_small
        assert "processes found checkpoints of different steps [4, None]; share the folder" in not_shared
