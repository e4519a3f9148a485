from __future__ import annotations

import pytest
import torch
from avtasks.training import (
    Checkpoints,
    EpochSampler,
    Recipe,
    TensorClips,
    learning_rate_factor,
    write_atomically,
)


def test_order_depends_on_seed_and_epoch_alone():
    sampler = EpochSampler(50, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    torch.manual_seed(123)
    sampler.seek(1)
    second = list(sampler)
    assert second != first
    assert list(EpochSampler(50, seed=2)) != first
    sampler.seek(0, position=30)
    assert list(sampler) == first[30:]
    assert len(sampler) == 20


def test_order_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(EpochSampler(50, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


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
