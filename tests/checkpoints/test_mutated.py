"""Damaged and edited files: our one error, never a crash, and no memory beyond the file's own size."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _figures
import pytest
import torch
from _towers import toy_stream
from _trained import reopened

import avexperts as ax
from avexperts.checkpoints._tensor_file import read_tensor_file, write_tensor_file

WEIGHTS, CONFIG = "adapter.safetensors", "config.json"


def tiny() -> ax.LockStep:
    streams = {"vision": toy_stream(9, 3, 16, 1), "audio": toy_stream(6, 5, 16, 1)}
    return ax.methods.lavish(**streams, parts=(0,))


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    mutated = bytearray(data)
    for bit in draw.sample(range(8 * len(data)), draw.choice((1, 1, 1, 2, 8))):
        mutated[bit // 8] ^= 1 << bit % 8
    return bytes(mutated)


def flip_a_bit_of_the_header(data: bytes, draw: random.Random) -> bytes:
    size = 8 + int.from_bytes(data[:8], "little")
    return flip_bits(data[:size], draw) + data[size:]


def cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data))]


def lengthen(data: bytes, draw: random.Random) -> bytes:
    return data + draw.randbytes(draw.choice((1, 8, 1000)))


def drop_a_piece(data: bytes, draw: random.Random) -> bytes:
    at, size = draw.randrange(len(data)), draw.randrange(1, 64)
    return data[:at] + data[at + size :]


def blank_a_piece(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]


def lie_about_the_header(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice((0, 1, 2**63, 2**64 - 1, len(data), len(data) - 8, draw.randrange(2 * len(data))))
    return size.to_bytes(8, "little") + data[8:]


def edit_the_header(data: bytes, draw: random.Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    mutate_json(header, draw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


ODD_VALUES: list[Any] = [
    None, True, 0, -1, 2**63, 10**400, 1.5, "", "F32", "F4", [], [0], [[]], {}, {"a": 1}, [2**40, 2**40], "[" * 3000,
]  # fmt: skip


def mutate_json(value: Any, draw: random.Random) -> None:
    """Change, remove or rename something at a random depth."""
    while True:
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        if isinstance(value[key], dict | list) and value[key] and draw.random() < 0.8:
            value = value[key]
            continue
        how = draw.randrange(3)
        if how == 0 and isinstance(value, dict):
            value[str(key) + "x"] = value.pop(key)
        elif how == 1:
            del value[key]
        else:
            value[key] = draw.choice([odd for odd in ODD_VALUES if odd != value[key]])
        return


MUTATIONS: dict[Callable[[bytes, random.Random], bytes], int] = {
    flip_bits: 3000,
    flip_a_bit_of_the_header: 2000,
    cut: 1200,
    lengthen: 300,
    drop_a_piece: 500,
    blank_a_piece: 500,
    lie_about_the_header: 300,
    edit_the_header: 1200,
}


def mutants(original: bytes, mutate: Callable, times: int, draw: random.Random) -> list[bytes]:
    found: list[bytes] = []
    while len(found) < times:
        found += [mutated for mutated in [mutate(original, draw)] if mutated != original]
    return found


def in_turn(contents: list[bytes], path: Path) -> Iterator[bytes]:
    """Give the file one content after another, without opening it anew, which costs most of the time."""
    with path.open("r+b", buffering=0) as file:
        for content in contents:
            file.seek(0)
            file.write(content)
            file.truncate()
            yield content


def test_ten_thousand_mutated_files(tmp_path: Path) -> None:
    model, draw, count = tiny(), random.Random(0), 0
    model.save_pretrained(tmp_path)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    originals = {name: (tmp_path / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    rounds = {WEIGHTS: MUTATIONS, CONFIG: {flip_bits: 600, cut: 200, drop_a_piece: 200}}
    for name, mutations in rounds.items():
        for mutate, times in mutations.items():
            for mutated in in_turn(mutants(originals[name], mutate, times, draw), tmp_path / name):
                try:
                    ax.load_adapters(model, tmp_path)
                except ax.CheckpointError as error:
                    count += str(tmp_path / name) in str(error)
                else:
                    (tmp_path / "unnoticed").write_bytes(mutated)
                    pytest.fail(f"{mutate.__name__} was not noticed, see {tmp_path / 'unnoticed'}")
        (tmp_path / name).write_bytes(originals[name])
    ax.load_adapters(model, tmp_path)
    _figures.record("mutated files refused with CheckpointError", count)
    assert count == 10_000
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.filterwarnings("ignore:the tower")
def test_a_forged_file_that_vouches_for_itself_is_no_crash_either(tmp_path: Path) -> None:
    """Whoever recomputes the digest can write anything: it loads or is refused with the one error."""
    model, draw, refused = tiny(), random.Random(1), 0
    model.save_pretrained(tmp_path)
    (tmp_path / CONFIG).unlink()
    streams = reopened(model)
    metadata, tensors = read_tensor_file(tmp_path / WEIGHTS)
    for _ in range(600):
        config = json.loads(metadata["config"])
        mutate_json(config, draw)
        write_tensor_file(tmp_path / WEIGHTS, tensors, {"config": json.dumps(config)})
        for load in (
            lambda: ax.load_adapters(model, tmp_path),
            lambda: ax.LockStep.from_pretrained(tmp_path, **streams),
        ):
            try:
                load()
            except ax.CheckpointError:
                refused += 1
    assert refused > 400


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    metadata, tensors = read_tensor_file(tmp_path / WEIGHTS)
    write_tensor_file(tmp_path / WEIGHTS, tensors, {**metadata, "avexperts_format": "2"})
    with pytest.raises(ax.CheckpointError, match="format 2, and this version of avexperts reads up to 1: upgrade"):
        ax.load_adapters(model, tmp_path)


MEASURE = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from test_mutated import one_layer
import avexperts as ax
from _towers import toy_stream

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

stream, kept = toy_stream(9, 3, 16, 1), []
for folder in sys.argv[2:]:
    width = 16 if folder.endswith("small") else WIDTH
    try:
        kept.append(ax.LockStep.from_pretrained(folder, vision=stream, method=lambda vision: one_layer(vision, width)))
    except ax.CheckpointError as error:
        assert "sha256" in str(error)
    print(peak())
"""
WIDTH = 1 << 19


def one_layer(vision: ax.Stream, width: int) -> ax.LockStep:
    expert = torch.nn.Sequential(torch.nn.Linear(16, width), torch.nn.Linear(width, 16))
    return ax.LockStep({"vision": vision}, [({"vision": "blocks.0.attn"}, ax.ResidualCoupling({"vision": expert}))])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.filterwarnings("ignore:the tower")
def test_loading_takes_less_than_twice_the_memory_of_the_file(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("small", "damaged", "whole")]
    for folder in folders:
        one_layer(toy_stream(9, 3, 16, 1), 16 if folder.name == "small" else WIDTH).save_pretrained(folder)
    path = folders[1] / WEIGHTS
    with path.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    search = ":".join(map(str, (Path(__file__).parent, Path(__file__).parents[1], Path(__file__).parents[2])))
    script = f"WIDTH = {WIDTH}\n{MEASURE}"
    run = [sys.executable, "-W", "ignore", "-c", script, search, *map(str, folders)]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    peaks = [int(line) for line in out.split()]
    for folder, before, after in zip(folders[1:], peaks, peaks[1:], strict=False):
        _figures.record(f"memory to load a {folder.name} file over its size", (after - before) / path.stat().st_size)
        assert after - before < 1.5 * path.stat().st_size, folder.name
    assert peaks[2] - peaks[0] > 0.9 * path.stat().st_size
