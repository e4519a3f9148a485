"""The cache of the frozen prefix: exact, refused where it does not belong, and safe from kills and full disks."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from _figures import record
from _towers import open_gates, toy_avmoe, toy_inputs, toy_pair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import avexperts as ax
from avexperts.streams import _prefix_cache

IDS = [f"clip {index}" for index in range(12)]
SITES = ["audio.blocks.1.attn", "vision.blocks.2.attn"]


def late_model(**options) -> ax.LockStep:
    torch.manual_seed(0)
    pairing = options.pop("pairing", [{"vision": "blocks.2", "audio": "blocks.1"}])
    return open_gates(toy_avmoe(pairing=pairing, **options))


def numbered(rows: list[int]) -> dict[str, Tensor]:
    """Tokens that tell which row they are of."""
    sizes = {SITES[0]: (6, 32), SITES[1]: (9, 16)}
    return {site: torch.stack([torch.full(size, float(row + 1)) for row in rows]) for site, size in sizes.items()}


def is_numbered(entry: dict[str, Tensor], rows: list[int]) -> bool:
    return all(torch.equal(entry[site], tokens) for site, tokens in numbered(rows).items())


@pytest.fixture(scope="module")
def model() -> ax.LockStep:
    return late_model()


@pytest.fixture
def cache(model, tmp_path) -> ax.PrefixCache:
    return ax.PrefixCache(tmp_path / "cache", model, IDS)


def test_a_model_gives_the_same_from_the_cache(model, cache) -> None:
    inputs = toy_inputs(12)
    for rows in ([3, 1], [0, 2, 4, 5], [6, 7, 8, 9, 10, 11]):
        cache.write(rows, model.entry_tokens({name: x[rows] for name, x in inputs.items()}))
    assert cache.missing() == []
    rows = [7, 0, 3, 7]
    batch = {name: x[rows] for name, x in inputs.items()}
    entry = cache.read(rows)
    assert sorted(entry) == SITES
    placeholders = {name: torch.zeros_like(x) for name, x in batch.items()}
    expected, found = model(batch), model(placeholders, entry=entry)
    for name in ("vision", "audio"):
        torch.testing.assert_close(found.tokens[name], expected.tokens[name], rtol=1e-5, atol=1e-6)
    same = model.entry_tokens(batch)
    assert all(torch.allclose(entry[site], same[site], rtol=1e-6, atol=1e-6) for site in SITES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_come_back_as_they_were_rounded(model, tmp_path, dtype) -> None:
    cache = ax.PrefixCache(tmp_path / "cache", model, IDS, dtype=dtype)
    entry = {site: torch.randn_like(tokens) for site, tokens in numbered([0, 5]).items()}
    cache.write([5, 0], entry)
    found = ax.PrefixCache(tmp_path / "cache", model, IDS, dtype=dtype).read([5, 0])
    for site, tokens in entry.items():
        assert found[site].dtype == torch.float32
        assert torch.equal(found[site], tokens.to(dtype).float())
    bits = 32 if dtype == torch.float32 else 16
    array = np.load(tmp_path / "cache" / f"{SITES[0]}.npy", mmap_mode="r")
    assert (array.shape, array.itemsize * 8) == ((12, 6, 32), bits)


def test_it_reads_in_the_dtype_of_the_towers(tmp_path) -> None:
    cache = ax.PrefixCache(tmp_path / "cache", late_model().to(torch.bfloat16), IDS)
    cache.write([0], numbered([0]))
    assert {tokens.dtype for tokens in cache.read([0]).values()} == {torch.bfloat16}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=5, unique=True), max_size=6))
def test_whatever_order_rows_are_written_in(model, tmp_path, steps) -> None:
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    cache = ax.PrefixCache(tmp_path / "cache", model, IDS)
    for rows in steps:
        cache.write(rows, numbered(rows))
    written = sorted({row for rows in steps for row in rows})
    again = ax.PrefixCache(tmp_path / "cache", model, IDS)
    assert again.missing() == cache.missing() == [row for row in range(12) if row not in written]
    assert is_numbered(again.read(written[::-1]), written[::-1]) if written else not again.read([])[SITES[0]].numel()


def other_weights() -> ax.LockStep:
    model = late_model()
    with torch.no_grad():
        model.towers["vision"].blocks[3][1][1].weight[0, 0] += 1e-6
    return model


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (other_weights, {}, r"towers\.vision\.weights is \w{8} there, \w{8} here"),
        (lambda: late_model(pairing=[{"vision": "blocks.1", "audio": "blocks.1"}]), {}, r"tokens\.vision\.blocks\.1"),
        (lambda: late_model(streams=toy_pair() | {"audio": toy_pair()["vision"]}), {}, r"towers\.audio\.sites is"),
        (late_model, {"ids": [*IDS[:5], "other", *IDS[6:]]}, "first that differs is 'clip 5' there, 'other' here"),
        (late_model, {"ids": IDS[:8]}, "12 samples there, 8 here, the first that differs is 'clip 8' there, None here"),
        (late_model, {"dtype": torch.float16}, "dtype is 'float32' there, 'float16' here"),
        (late_model, {"source": "louder"}, "source is '' there, 'louder' here"),
    ],
)
def test_what_belongs_to_something_else_is_refused(cache, build, options, message) -> None:
    cache.write([0], numbered([0]))
    ids = options.pop("ids", IDS)
    with pytest.raises(ValueError, match=message) as caught:
        ax.PrefixCache(cache.folder, build(), ids, **options)
    assert str(cache.folder) in str(caught.value)
    assert is_numbered(cache.read([0]), [0])


@pytest.mark.parametrize(
    ("build", "ids", "dtype", "message"),
    [
        (lambda: late_model(towers="trainable"), IDS, torch.float32, "towers are 'trainable'"),
        (lambda: late_model(towers="frozen-train"), IDS, torch.float32, "towers are 'frozen-train'"),
        (lambda: late_model().to("meta"), IDS, torch.float32, "on the meta device: load their weights first"),
        (lambda: ax.LockStep(toy_pair()), IDS, torch.float32, "no active couplings"),
        (late_model, ["a", "b", "a"], torch.float32, "every sample once, 'a' is there more often"),
        (late_model, [], torch.float32, "at least one is needed"),
        (late_model, [1, 2], torch.float32, "names of the samples, as text"),
        (late_model, IDS, torch.int8, "dtype is one of torch.float32, torch.float16, torch.bfloat16, got torch.int8"),
    ],
)
def test_what_cannot_be_cached_leaves_no_folder(tmp_path, build, ids, dtype, message) -> None:
    with pytest.raises(ValueError, match=message):
        ax.PrefixCache(tmp_path / "cache", build(), ids, dtype=dtype)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        ([12], {}, "no row 12, there are 12"),
        ([-1], {}, "no row -1"),
        ([3, 3], {}, r"must differ, got \[3, 3\]"),
        ([3], {SITES[0]: None}, r"entry has \['vision\.blocks\.2\.attn'\], the cache \['audio"),
        ([3], {SITES[0]: torch.zeros(1, 6, 31)}, r"must be \(1, 6, 32\) for 1 rows, got \(1, 6, 31\)"),
        ([3], {SITES[0]: torch.zeros(2, 6, 32)}, r"got \(2, 6, 32\)"),
        ([3], {SITES[0]: torch.full((1, 6, 32), torch.nan)}, "row 3, 'clip 3', is not finite as torch.float32"),
    ],
)
def test_what_cannot_be_written(cache, rows, change, message) -> None:
    entry = {site: tokens for site, tokens in (numbered(rows) | change).items() if tokens is not None}
    with pytest.raises(ValueError, match=message):
        cache.write(rows, entry)
    assert cache.missing() == list(range(12))


def test_half_precision_overflow_names_the_sample(model, tmp_path) -> None:
    cache = ax.PrefixCache(tmp_path / "cache", model, IDS, dtype=torch.float16)
    entry = numbered([4, 2])
    entry[SITES[1]][1, 3, 3] = 1e5
    with pytest.raises(ValueError, match=r"vision.blocks.2.attn of row 2, 'clip 2', is not finite as torch\.float16"):
        cache.write([4, 2], entry)


def test_missing_rows_are_named(cache) -> None:
    cache.write([0, 1], numbered([0, 1]))
    with pytest.raises(ValueError, match="2 of these 3 samples are missing, the first is row 7, 'clip 7'"):
        cache.read([0, 7, 5])
    assert "12 samples, 10 missing, float32" in repr(cache)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"ids": 3}', "\ud83d".encode("utf-8", "surrogatepass")])
def test_a_damaged_manifest_loses_nothing(model, cache, text) -> None:
    cache.write([3], numbered([3]))
    manifest = cache.folder / "manifest.json"
    before = manifest.read_bytes()
    manifest.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(f"{manifest}: damaged")):
        ax.PrefixCache(cache.folder, model, IDS)
    manifest.write_bytes(before)
    assert is_numbered(ax.PrefixCache(cache.folder, model, IDS).read([3]), [3])


def test_damaged_arrays_are_named(model, cache) -> None:
    cache.write([3], numbered([3]))
    array = cache.folder / f"{SITES[1]}.npy"
    os.truncate(array, array.stat().st_size - 1)
    with pytest.raises(ValueError, match=f"{re.escape(str(array))}: cannot be read"):
        ax.PrefixCache(cache.folder, model, IDS)
    np.save(array, np.zeros((12, 9, 16)))
    with pytest.raises(ValueError, match=r"holds float64 \(12, 9, 16\) where float32 \(12, 9, 16\) belongs"):
        ax.PrefixCache(cache.folder, model, IDS)
    array.unlink()
    with pytest.raises(ValueError, match=f"{re.escape(str(array))}: cannot be read"):
        ax.PrefixCache(cache.folder, model, IDS)


def test_a_folder_of_other_things_is_left_alone(model, tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("everything")
    with pytest.raises(ValueError, match=r"holds other files and no manifest\.json"):
        ax.PrefixCache(tmp_path, model, IDS)
    with pytest.raises(OSError, match=r"thesis\.tex: cannot be made"):
        ax.PrefixCache(tmp_path / "thesis.tex", model, IDS)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_too_little_space_is_said_before_anything_is_done(model, tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(OSError, match=r"cache: cannot be made \(it needs 0\.0 GB and 0\.0 GB are free; give another"):
        ax.PrefixCache(tmp_path / "cache", model, IDS)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_costs_the_running_write_only(model, cache) -> None:
    cache.write([0, 1], numbered([0, 1]))
    array = cache.folder / f"{SITES[1]}.npy"
    array.rename(array.with_suffix(".real"))
    array.symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"rows 1 to 5 could not be written \(No space left on device\); 1 of 12 rows"):
        cache.write([5, 1], numbered([5, 1]))
    array.unlink()
    array.with_suffix(".real").rename(array)
    again = ax.PrefixCache(cache.folder, model, IDS)
    assert again.missing() == list(range(1, 12))
    again.write([1, 5], numbered([1, 5]))
    assert is_numbered(again.read([5, 1, 0]), [5, 1, 0])


def test_two_processes_may_make_it_at_once(model, tmp_path, monkeypatch) -> None:
    replace, others = os.replace, []

    def slower(source, target) -> None:
        monkeypatch.setattr(_prefix_cache.os, "replace", replace)
        others.append(ax.PrefixCache(tmp_path / "cache", model, IDS))
        others[0].write([2], numbered([2]))
        replace(source, target)

    monkeypatch.setattr(_prefix_cache.os, "replace", slower)
    cache = ax.PrefixCache(tmp_path / "cache", model, IDS)
    assert is_numbered(cache.read([2]), [2])
    assert [file.name for file in tmp_path.iterdir()] == ["cache"]


class Entries(Dataset):
    def __init__(self, cache: ax.PrefixCache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {site: tokens[0] for site, tokens in self.cache.read([row]).items()}


def test_workers_of_a_loader_read_it(cache) -> None:
    cache.write(list(range(12)), numbered(list(range(12))))
    assert len(pickle.dumps(cache)) < 4000
    loader = DataLoader(Entries(cache), batch_size=4, num_workers=2)
    for first, batch in enumerate(loader):
        assert is_numbered(batch, list(range(4 * first, 4 * first + 4)))


MANY = [str(index) for index in range(400)]


def write_every_other(folder: Path, start: int, pause: float) -> None:
    cache = ax.PrefixCache(folder, late_model(), MANY)
    for row in range(start, len(MANY), 2):
        cache.write([row], numbered([row]))
        time.sleep(pause)


def test_a_killed_writer_leaves_whole_rows_beside_those_of_another(model, tmp_path) -> None:
    spawn = multiprocessing.get_context("spawn")
    folder = tmp_path / "cache"
    killed, lives = (
        spawn.Process(target=write_every_other, args=(folder, start, pause)) for start, pause in ((1, 0.01), (0, 0))
    )
    killed.start()
    lives.start()
    cache = ax.PrefixCache(folder, model, MANY)
    waited = time.monotonic()
    while 1 in cache.missing() and time.monotonic() - waited < 60:
        time.sleep(0.01)
    killed.kill()
    killed.join()
    lives.join()
    assert (killed.exitcode, lives.exitcode) == (-9, 0)
    missing = cache.missing()
    present = [row for row in range(len(MANY)) if row not in missing]
    assert all(row % 2 for row in missing)
    assert 0 < len(missing) < 200
    broken = [row for row in present if not is_numbered(cache.read([row]), [row])]
    record("rows of a killed writer that were present and not whole", len(broken))
    assert not broken
    cache.write(missing, numbered(missing))
    assert json.loads((folder / "manifest.json").read_text())["ids"] == MANY
    assert is_numbered(cache.read(range(400)), list(range(400)))
