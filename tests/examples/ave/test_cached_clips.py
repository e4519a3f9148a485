"""A run from the cache on disk is the run from memory; only the first one reads the media."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import ave_train
import pytest
import torch
from avtasks import ave, study
from avtasks.towers import build_small_towers
from safetensors.torch import load_file

SMOKE = ("--smoke", "--forge.classes", "8", "--rows", "avmoe", "--adapters.no-converged-head")


@pytest.fixture(scope="module", autouse=True)
def fresh_small_towers():
    torch.manual_seed(0)
    towers = build_small_towers()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avtasks.towers.loading.load_small_towers", lambda: towers)
        yield


def run(*arguments: object) -> None:
    ave_train.main(study.parse([*map(str, arguments), *SMOKE], ave.PRESETS, ave_train.__doc__))


def result(out: Path) -> tuple[dict, dict[str, torch.Tensor]]:
    row = json.loads((out / "metrics.json").read_text())["rows"][0]
    weights = load_file(out / "rows/avmoe-0/best.safetensors") | load_file(out / "rows/avmoe-0/test.safetensors")
    return row | {"seconds": 0}, weights


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """One run from memory, and one that fills a cache on the way."""
    root = tmp_path_factory.mktemp("runs")
    run("--out", root / "memory")
    shutil.copytree(next((root / "memory").glob("data-*")), root / "data")
    run("--out", root / "filling", "--data", root / "data", "--cache", root / "cache", "--no-in-memory")
    return root


def assert_same_run(one: Path, other: Path) -> None:
    (row, weights), (expected_row, expected) = result(one), result(other)
    assert row == expected_row
    assert weights.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())


def test_the_run_from_the_cache_is_the_run_from_memory(folders):
    assert_same_run(folders / "filling", folders / "memory")


def test_a_second_run_reads_no_media(folders, tmp_path, monkeypatch):
    def read(self, index):
        raise AssertionError(f"clip {index} was decoded")

    monkeypatch.setattr(ave.AVEDataset, "__getitem__", read)
    again = ("--data", folders / "data", "--cache", folders / "cache", "--no-in-memory")
    run("--out", tmp_path, *again, "--adapter-recipe.workers", "0")
    assert_same_run(tmp_path, folders / "memory")


def test_a_cache_that_was_filled_in_part_is_filled_up(folders, tmp_path, monkeypatch):
    shutil.copytree(folders / "cache", tmp_path / "cache")
    present = tmp_path / "cache" / "train" / "present.npy"
    content = bytearray(present.read_bytes())
    content[-15:] = bytes(15)  # the last clip and half of the one before
    present.write_bytes(content)
    read, decoded = ave.AVEDataset.__getitem__, []
    monkeypatch.setattr(ave.AVEDataset, "__getitem__", lambda self, index: decoded.append(index) or read(self, index))
    run("--out", tmp_path / "out", "--data", folders / "data", "--cache", tmp_path / "cache", "--no-in-memory")
    assert decoded == [2, 3]
    assert_same_run(tmp_path / "out", folders / "memory")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--adapters.stages", "1"), "train: was filled for something else: tokens.vision."),
        (("--cache-dtype", "bfloat16"), "dtype is 'float32' there, 'bfloat16' here"),
        (("--adapters.towers", "frozen-train"), "the towers are 'frozen-train'"),
        (("--no-final-audio-norm",), None),
    ],
)
def test_only_its_own_cache_is_used(folders, tmp_path, options, message):
    arguments = ("--out", tmp_path, "--data", folders / "data", "--cache", folders / "cache", *options)
    if message is None:
        run(*arguments)
    else:
        with pytest.raises(SystemExit) as caught:
            run(*arguments)
        assert message in str(caught.value)


def test_another_dataset_of_the_same_names_is_refused(folders, tmp_path):
    data = shutil.copytree(folders / "data", tmp_path / "data")
    with pytest.raises(SystemExit) as caught:
        run("--out", tmp_path / "out", "--data", data, "--cache", folders / "cache")
    assert "source is" in str(caught.value)
    assert str(data) in str(caught.value)
