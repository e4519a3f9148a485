from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from avtasks.training import (
    Checkpoints,
    EpochSampler,
    Recipe,
    SeededClips,
    TensorClips,
    learning_rate_factor,
    over_clips,
    write_atomically,
)
from torch.utils.data import Dataset


def flat(batches):
    return [place for batch in batches for place in batch]


def test_order_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(50, batch_size=8, seed=1)
    first = list(sampler)
    assert sorted(flat(first)) == [(0, clip) for clip in range(50)]
    assert [len(batch) for batch in first] == [8, 8, 8, 8, 8, 8, 2]
    torch.manual_seed(123)
    sampler.seek(1)
    second = list(sampler)
    assert flat(second)[0][0] == 1
    assert [clip for _, clip in flat(second)] != [clip for _, clip in flat(first)]
    assert list(EpochSampler(50, batch_size=8, seed=2)) != first
    sampler.seek(0, batch=3)
    assert list(sampler) == first[3:]
    assert len(sampler) == 4


def test_order_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(EpochSampler(50, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_every_batch(processes):
    whole = list(EpochSampler(22, batch_size=7))
    samplers = [EpochSampler(22, batch_size=7, process=p, processes=processes) for p in range(processes)]
    for number, (batch, *shares) in enumerate(zip(whole, *samplers, strict=True)):
        own = [sampler.own_clips(number) for sampler in samplers]
        assert sum(own) == samplers[0].clips(number) == len(batch)
        assert sorted(flat(share[:n] for share, n in zip(shares, own, strict=True))) == sorted(batch)
        assert all(shares)  # none may miss a step
    assert samplers[1].own_clips(3) == 0  # the last batch holds one clip


def test_a_batch_smaller_than_the_processes():
    with pytest.raises(ValueError, match="batch_size counts the clips of all processes together: 2 cannot be split"):
        EpochSampler(10, batch_size=2, processes=4)


def test_augmentation_depends_on_seed_epoch_and_clip_alone():
    class Draws(Dataset):
        def __getitem__(self, index):
            return random.random(), float(np.random.rand()), torch.rand(()).item()

    clips = SeededClips(Draws(), seed=0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = clips[1, 2]
    assert clips[1, 2] == first
    for other in (clips[2, 1], clips[1, 3], SeededClips(Draws(), seed=1)[1, 2]):
        assert not set(other) & set(first)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_schedules():
    paper = Recipe(schedule="step", step_epochs=3, step_factor=0.35, epochs=50)
    assert [learning_rate_factor(paper, epoch) for epoch in (0, 2.9, 3, 6)] == pytest.approx([1, 1, 0.35, 0.1225])
    cosine = Recipe(schedule="cosine", epochs=10, warmup=2)
    assert [learning_rate_factor(cosine, epoch) for epoch in (0, 1, 2, 6, 10)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert learning_rate_factor(Recipe(schedule="constant"), 17.3) == 1


def test_a_torn_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "config.json"
    write_atomically(file, lambda path: path.write_text("old"))

    def torn(path):
        path.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, torn)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_only_the_last_checkpoints_stay_and_a_torn_one_is_passed_over(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10):
        checkpoints.save(step, {"step": step})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000002.pt", "step_00000010.pt"]
    assert checkpoints.latest() == {"step": 10}
    newest = tmp_path / "step_00000010.pt"
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoints.latest() == {"step": 2}
    assert "step_00000010.pt: cannot be read" in capsys.readouterr().out
    (tmp_path / "step_00000002.pt").write_bytes(b"")
    with pytest.raises(ValueError, match="none of 2 checkpoints can be read"):
        checkpoints.latest()


def test_a_checkpoint_that_cannot_be_read_outlives_no_newer_one(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {"step": 1})
    (tmp_path / "step_00000010.pt").write_bytes(b"torn")
    assert checkpoints.latest() == {"step": 1}
    checkpoints.save(2, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002.pt"]


def test_what_killed_saves_left_is_cleaned_up(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    (tmp_path / "step_00000001.pt.tmp").write_bytes(b"half")
    checkpoints.save(2, {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000002.pt"]
    (tmp_path / "step_00000003.pt.tmp").write_bytes(b"half")
    checkpoints.clear()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_is_never_unpickled(tmp_path):
    torch.save({"step": 1, "model": torch.nn.Linear(1, 1)}, tmp_path / "step_00000001.pt")
    with pytest.raises(ValueError, match="none of 1 checkpoints can be read"):
        Checkpoints(tmp_path).latest()


def test_fields_of_unequal_length():
    with pytest.raises(ValueError, match=r"'frames': 3, 'labels': 2"):
        TensorClips(frames=torch.zeros(3), labels=torch.zeros(2))


def test_an_empty_dataset():
    with pytest.raises(ValueError, match="nothing to sample from"):
        EpochSampler(0)


def test_answers_about_clips_come_in_their_order():
    clips = TensorClips(x=torch.arange(5.0))
    found = over_clips(clips, lambda batch: {"segments": batch["x"].repeat_interleave(2)}, batch_size=2)
    assert found["segments"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
