"""Adapters that were stored in the past load today, and compute what they did."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import _figures
import pytest
import torch
from _close import assert_close
from safetensors.torch import load_file

import avexperts as ax

STORED = Path(__file__).parents[1] / "golden" / "stored"
FOLDERS = sorted(path.parent for path in STORED.rglob("adapter.safetensors"))
DIGESTS = {
    "format-1/avmoe": "ab1f0a83ed3385e0",
    "format-1/dg_sct": "fd4bfac463a125af",
    "format-1/lavish": "a181c2819567f2fc",
}


def stored_adapters():
    spec = importlib.util.spec_from_file_location("stored_adapters", STORED / "stored_adapters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(STORED)))
def test_a_stored_adapter_is_replayed(folder: Path) -> None:
    made = stored_adapters()
    expected, head = load_file(folder / "outputs.safetensors"), made.head()
    model = ax.LockStep.from_pretrained(folder, heads={"event": head}, **made.streams())
    got = made.outputs(model, head)
    assert sorted(got) == sorted(expected)
    for name, tensor in expected.items():
        assert_close(got[name], tensor, what=f"{folder.name}: {name}")
        deviation = (got[name] - tensor).abs().max().item()
        _figures.record("stored adapters replayed, largest deviation of an output", deviation)
    bare = ax.LockStep(made.streams())(made.inputs())
    assert not torch.allclose(bare.vision, expected["vision"], atol=1e-2), "the adapter must matter"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(STORED)))
def test_it_can_be_loaded_into_a_model_that_is_there(folder: Path) -> None:
    made = stored_adapters()
    model, _ = made.make(folder.name)
    before = {key: tensor.clone() for key, tensor in model.adapters.state_dict().items()}
    with torch.no_grad():
        for parameter in model.adapter_parameters():
            parameter.zero_()
    ax.load_adapters(model, folder, heads=False)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.adapters.state_dict().items())


def test_the_stored_folders_are_what_was_stored() -> None:
    found = {
        str(path.parent.relative_to(STORED)): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(STORED.rglob("adapter.safetensors"))
    }
    assert found == DIGESTS
