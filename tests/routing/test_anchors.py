"""Running means, anchor banks and their files: the papers' vectors, weights by hand, resuming, merging, bad input."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from _close import assert_close
from _figures import record
from _processes import run_processes
from safetensors.torch import load_file, save_file

from avexperts.routing import AnchorBank, CosineAnchorRouter, RunningMean

GOLDEN = Path(__file__).parents[1] / "golden" / "avqacl"
DIMS = {"video": 8, "audio": 6, "text": 12}


def golden_steps() -> tuple[dict[str, torch.Tensor], list[dict[str, torch.Tensor]]]:
    found = load_file(GOLDEN / "anchor_running_mean.safetensors")
    return found, [{name: found[f"in.step{step}.{name}"] for name in DIMS} for step in range(6)]


@pytest.mark.parametrize("counter", ["per_key", "shared"])
def test_running_means_are_the_papers(counter: str) -> None:
    found, steps = golden_steps()
    mean = RunningMean(counter=counter, weighting="batch")
    worst = 0.0
    for step, values in enumerate(steps):
        mean.update(values)
        assert int(mean.calls) == int(found[f"out.step{step}.sample_count"])
        for name in DIMS:
            expected = found[f"out.step{step}.{name}"]
            assert_close(mean.mean(name).float(), expected, what=f"step {step} {name}")
            worst = max(worst, (mean.mean(name) - expected).abs().max().item())
    record("anchors against the papers' vectors, largest deviation", worst)


def test_anchors_pooled_at_once_are_the_papers_pooled_afterwards() -> None:
    found, steps = golden_steps()
    bank = AnchorBank(DIMS, weighting="batch", counter="shared")
    bank.begin("task_0")
    for values in steps:
        bank.update({name: value[None] for name, value in values.items()})
    bank.end()
    for name in ("video", "audio"):
        assert_close(bank.anchors(name)[0], found[f"out.final_pooled.{name}"], what=name)


def test_a_modality_that_comes_late_weighs_as_its_counter_says() -> None:
    expected = {"shared": 1.75, "per_key": 2.5}
    for counter, value in expected.items():
        mean = RunningMean(counter=counter)
        for values in ({"text": 1.0}, {"text": 1.0}, {"text": 1.0, "audio": 1.0}, {"text": 1.0, "audio": 4.0}):
            mean.update({name: torch.tensor(each) for name, each in values.items()})
        assert mean.mean("audio").item() == pytest.approx(value)


def test_calls_without_any_value_advance_the_shared_counter() -> None:
    mean = RunningMean(counter="shared", weighting="batch")
    mean.update({"text": torch.tensor(1.0)})
    mean.update({})
    mean.update({"text": torch.tensor(4.0)})
    assert mean.mean("text").item() == pytest.approx(2.0)


def test_weighting_by_sample_does_not_depend_on_the_batches() -> None:
    x = torch.randn(7, 5, 4)
    banks = []
    for sizes in ([7], [2, 2, 2, 1], [1] * 7):
        bank = AnchorBank({"video": 4})
        bank.begin("a")
        for part in x.split(sizes):
            bank.update({"video": part})
        banks.append(bank.anchors("video"))
    for found in banks:
        torch.testing.assert_close(found[0], x.mean((0, 1)), rtol=0, atol=1e-7)
    odd = AnchorBank({"video": 4}, weighting="batch")
    odd.begin("a")
    for part in x.split([4, 3]):
        odd.update({"video": part})
    torch.testing.assert_close(odd.anchors("video")[0], (x[:4].mean((0, 1)) + x[4:].mean((0, 1))) / 2)


def test_masks_leave_out_samples_and_tokens() -> None:
    x = torch.randn(3, 4, 2)
    tokens = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    x[~tokens] = math.inf
    bank = AnchorBank({"audio": 2, "text": 2})
    bank.begin("a")
    bank.update({"audio": x, "text": x[:, 0].nan_to_num(0, 9, 9)}, {"audio": tokens, "text": torch.tensor([1, 0, 1])})
    expected = (x[0, :2].mean(0) + x[2].mean(0)) / 2
    torch.testing.assert_close(bank.anchors("audio")[0], expected)
    torch.testing.assert_close(bank.anchors("text")[0], (x[0, 0] + x[2, 0]) / 2)
    batch = AnchorBank({"audio": 2}, weighting="batch")  # as published: all tokens of the batch alike
    batch.begin("a")
    batch.update({"audio": x}, {"audio": tokens})
    torch.testing.assert_close(batch.anchors("audio")[0], x[tokens].mean(0))


def test_a_batch_without_a_modality_leaves_no_anchor() -> None:
    bank = AnchorBank({"audio": 2, "text": 2})
    bank.begin("a")
    bank.update({"audio": torch.ones(2, 2), "text": torch.ones(2, 2)}, {"audio": torch.zeros(2).bool()})
    assert bank.present.tolist() == [[False, True]]
    assert bank.anchors("audio").tolist() == [[0, 0]]


def random_bank(seed: int, tasks: tuple[str, ...] = ("a", "b"), **options) -> AnchorBank:
    torch.manual_seed(seed)
    bank = AnchorBank(DIMS, **options)
    for task in tasks:
        bank.begin(task)
        for _ in range(2):
            bank.update({"video": torch.randn(3, 9, 8), "text": torch.randn(2, 12)})
        bank.end()
    return bank


@pytest.mark.parametrize("options", [{}, {"counter": "shared", "weighting": "batch"}])
def test_going_on_after_a_save_gives_the_same_bytes(tmp_path: Path, options: dict) -> None:
    whole, part = random_bank(1, **options), random_bank(1, **options)
    part.save(tmp_path / "part.safetensors")
    resumed = AnchorBank.load(tmp_path / "part.safetensors")
    other = AnchorBank(DIMS, **options)
    save_file(part.state_dict(), tmp_path / "state.safetensors")  # the state holds tensors alone, names included
    other.load_state_dict(load_file(tmp_path / "state.safetensors"))
    more = {"video": torch.randn(4, 2, 8), "audio": torch.randn(4, 6)}
    written = []
    for bank in (whole, resumed, other):
        bank.begin("b")
        bank.update(more)
        bank.end()
        bank.save(tmp_path / "whole.safetensors")
        written.append((tmp_path / "whole.safetensors").read_bytes())
    assert written[0] == written[1] == written[2]
    assert resumed.names == ("a", "b")


def test_halves_merge_to_the_whole() -> None:
    x = torch.randn(5, 8)
    banks = [AnchorBank({"video": 8, "text": 3}) for _ in range(3)]
    for bank, part in zip(banks, (x, x[:2], x[2:]), strict=True):
        bank.begin("a")
        bank.update({"video": part})
    banks[2].begin("a")
    banks[2].end()
    banks[2].begin("b")
    banks[2].update({"text": torch.ones(1, 3)})
    banks[1].merge(banks[2])
    assert banks[1].names == ("a", "b")
    torch.testing.assert_close(banks[1].anchors("video")[0], banks[0].anchors("video")[0])
    assert banks[1].present.tolist() == [[True, False], [False, True]]
    banks[1].end()
    banks[1].remove("a")
    assert banks[1].anchors("text").tolist() == [[1, 1, 1]]


def work(rank: int, folder: Path) -> None:
    x = torch.arange(40.0).view(5, 8)
    bank = AnchorBank({"video": 8, "text": 2})
    bank.begin("a")
    bank.update({"video": x[: 2 * rank + 1]} | ({"text": torch.ones(1, 2)} if rank else {}))
    bank.all_reduce()
    bank.end()
    bank.save(folder / f"{rank}.safetensors")
    bank.begin(f"task of {rank}")
    with pytest.raises(RuntimeError, match="the last task of every process"):
        bank.all_reduce()


def test_two_processes_have_the_anchors_of_both(tmp_path: Path) -> None:
    folder = run_processes(work, tmp_path)
    banks = [AnchorBank.load(folder / f"{rank}.safetensors") for rank in range(2)]
    x = torch.arange(40.0).view(5, 8)
    expected = (x[0] + x[:3].sum(0)) / 4
    for bank in banks:
        torch.testing.assert_close(bank.anchors("video")[0], expected)
        assert bank.anchors("text").tolist() == [[1, 1]]


def published(folder: Path, numbers: tuple[int, ...] = (0, 1, 2)) -> dict[str, torch.Tensor]:
    found = load_file(GOLDEN / "router_cosine.safetensors")
    for position, number in enumerate(numbers):
        torch.save({name: found[f"anchor.{position}.{name}"] for name in DIMS}, folder / f"anchor_task_{number}.pt")
    return found


def test_published_files_are_read(tmp_path: Path) -> None:
    found = published(tmp_path)
    bank = AnchorBank.from_published(tmp_path)
    assert bank.names == ("task_0", "task_1", "task_2")
    for position in range(3):
        torch.testing.assert_close(bank.anchors("audio")[position], found[f"anchor.{position}.audio"].mean(0))
    assert AnchorBank.from_published(tmp_path, ["come", "happening", "where"]).names[1] == "happening"


def test_published_files_with_a_gap_or_with_code_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without gaps"):
        AnchorBank.from_published(tmp_path)
    published(tmp_path, (0, 1, 3))
    with pytest.raises(ValueError, match=r"without gaps, and there are \[0, 1, 3\]"):
        AnchorBank.from_published(tmp_path)
    (tmp_path / "anchor_task_3.pt").unlink()
    with pytest.raises(ValueError, match="2 anchor files and 1 names"):
        AnchorBank.from_published(tmp_path, ["come"])
    torch.save({"text": Path("x")}, tmp_path / "anchor_task_1.pt")
    with pytest.raises(ValueError, match=r"anchor_task_1.pt: damaged, or holds more than tensors"):
        AnchorBank.from_published(tmp_path)
    torch.save({"text": torch.zeros(2, 3, 4)}, tmp_path / "anchor_task_1.pt")
    with pytest.raises(ValueError, match=r"anchor_task_1.pt: an anchor file holds \(N, D\)"):
        AnchorBank.from_published(tmp_path)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda bank: bank.update({"smell": torch.ones(1, 2)}), ValueError, "unknown modality 'smell'; there are"),
        (lambda bank: bank.update({"text": torch.ones(1, 2)}), ValueError, r"text is \(B, 12\).*got \(1, 2\)"),
        (lambda bank: bank.update({"text": torch.ones(12)}), ValueError, r"text is \(B, 12\).*got \(12,\)"),
        (lambda bank: bank.update({"text": torch.ones(2, 12)}, {"text": torch.ones(3)}), ValueError, "mask of text"),
        (lambda bank: bank.update({}, {"smell": torch.ones(3)}), ValueError, "unknown modality 'smell'"),
        (lambda bank: bank.anchors("smell"), ValueError, "unknown modality 'smell'"),
        (lambda bank: bank.begin("c"), RuntimeError, r"task 'b' is still open: end\(\) comes before begin\('c'\)"),
        (lambda bank: (bank.end(), bank.update({})), RuntimeError, "no task is open"),
        (lambda bank: bank.remove("c"), ValueError, r"no anchors of task 'c'; there are \['a', 'b'\]"),
        (lambda bank: bank.merge(AnchorBank({"text": 3})), ValueError, "cannot be merged"),
        (lambda bank: AnchorBank({}), ValueError, "dims are widths"),
        (lambda bank: AnchorBank({"a.b": 2}), ValueError, "have no dot"),
        (lambda bank: AnchorBank({"a": 2}, counter="x"), ValueError, "'per_key' or 'shared', got 'x'"),
        (lambda bank: AnchorBank({"a": 2}, weighting="x"), ValueError, "'sample' or 'batch', got 'x'"),
        (lambda bank: AnchorBank.load("no-such-file"), ValueError, "no-such-file: there is no such file"),
        (lambda bank: RunningMean().mean("text"), KeyError, "no 'text' was seen"),
    ],
)
def test_bad_input_is_named(call, error: type, message: str) -> None:
    bank = random_bank(0)
    bank.begin("b")
    before = json.dumps([bank.anchors(name).tolist() for name in DIMS])
    with pytest.raises(error, match=message):
        call(bank)
    assert json.dumps([bank.anchors(name).tolist() for name in DIMS]) == before


def test_other_files_and_other_states_are_refused(tmp_path: Path) -> None:
    save_file({"text": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no anchors"):
        AnchorBank.load(tmp_path / "other.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"abc")
    with pytest.raises(ValueError, match="no safetensors file, or cut short"):
        AnchorBank.load(tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"the stored anchors are of .*these of \{'text': 12\}"):
        AnchorBank({"text": 12}).load_state_dict(random_bank(0).state_dict())
    mean = RunningMean()
    mean.update({"text": torch.ones(2)})
    with pytest.raises(ValueError, match=r"text was \(2,\) so far, got \(3,\)"):
        mean.update({"text": torch.ones(3)})


def test_the_golden_files_have_what_the_router_reads(tmp_path: Path) -> None:
    published(tmp_path)
    found = CosineAnchorRouter()({"text": torch.ones(2, 12)}, AnchorBank.from_published(tmp_path))
    assert found.similarity.shape == (2, 3)
