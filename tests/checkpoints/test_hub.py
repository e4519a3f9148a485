"""Sharing, against a server on loopback that speaks the part of the Hub's interface that is needed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from _hub import LoopbackHub, loopback_hub
from _towers import toy_avmoe, toy_inputs
from _trained import assert_equal, assert_same_state, reopened
from torch import nn

import avexperts as ax

TOKEN = "a-token"
# Some releases of huggingface_hub trip over their own HTTP client here.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    # The server offers large files by the plain protocol; the chunked one is not a matter of HTTP alone.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with loopback_hub(TOKEN) as server:
        yield server


def test_push_and_load_from_a_repository(hub: LoopbackHub) -> None:
    event, other = nn.Linear(48, 5), nn.Linear(48, 5)
    model = toy_avmoe().eval()
    address = model.push_to_hub(
        "someone/ave", heads={"event": event}, metrics={"accuracy": 0.8}, token=TOKEN, endpoint=hub.address
    )
    commit, files = hub.files("someone/ave", "main")
    assert address == f"{hub.address}/someone/ave/commit/{commit}"
    assert sorted(files) == ["README.md", "adapter.safetensors", "config.json"]
    assert b'ax.LockStep.from_pretrained("someone/ave", vision=vision, audio=audio' in files["README.md"]
    assert hub.large_files, "the tensors are not uploaded as a large file"

    back = ax.LockStep.from_pretrained("someone/ave", heads={"event": other}, endpoint=hub.address, **reopened(model))
    assert_same_state(back.adapters, model.adapters)
    assert_same_state(other, event)
    assert_equal(back, model, toy_inputs())


def test_revisions_and_a_second_push(hub: LoopbackHub) -> None:
    first, second = toy_avmoe().eval(), toy_avmoe().eval()
    second.towers.load_state_dict(first.towers.state_dict())
    for model, revision in ((first, None), (second, "trial"), (second, "trial")):
        model.push_to_hub("someone/ave", revision=revision, token=TOKEN, endpoint=hub.address)
    loaded = toy_avmoe(streams=reopened(first))
    ax.load_adapters(loaded, "someone/ave", revision="trial", endpoint=hub.address)
    assert_same_state(loaded.adapters, second.adapters)
    commit, _ = hub.files("someone/ave", "main")
    ax.load_adapters(loaded, "someone/ave", revision=commit, endpoint=hub.address)
    assert_same_state(loaded.adapters, first.adapters)


def test_the_cache_serves_without_network(hub: LoopbackHub, tmp_path: Path) -> None:
    model = toy_avmoe().eval()
    model.push_to_hub("someone/ave", token=TOKEN, endpoint=hub.address)
    loaded = toy_avmoe(streams=reopened(model))
    cache = tmp_path / "elsewhere"
    with pytest.raises(ax.CheckpointError, match="the Hub cannot be reached nor its cache used"):
        ax.load_adapters(loaded, "someone/ave", cache_dir=cache, local_files_only=True, endpoint=hub.address)
    ax.load_adapters(loaded, "someone/ave", cache_dir=cache, endpoint=hub.address)
    asked = len(hub.requests)
    again = toy_avmoe(streams=reopened(model))
    ax.load_adapters(again, "someone/ave", cache_dir=cache, local_files_only=True, endpoint=hub.address)
    assert_same_state(again.adapters, model.adapters)
    assert len(hub.requests) == asked
    (weights,) = cache.glob("models--someone--ave/snapshots/*/adapter.safetensors")
    data = weights.read_bytes()
    weights.resolve().write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ax.CheckpointError, match="damaged, or changed after it was saved"):
        ax.load_adapters(again, "someone/ave", cache_dir=cache, local_files_only=True)


def test_private_repositories_need_the_token(hub: LoopbackHub) -> None:
    model = toy_avmoe()
    with pytest.raises(ax.CheckpointError, match=r"someone/secret: cannot be published on the Hub \(.*401"):
        model.push_to_hub("someone/secret", token="wrong", endpoint=hub.address)
    model.push_to_hub("someone/secret", private=True, token=TOKEN, endpoint=hub.address)
    assert hub.private == {"someone/secret"}
    with pytest.raises(ax.CheckpointError, match=r"nor can it be fetched from the Hub \(RepositoryNotFoundError"):
        ax.load_adapters(model, "someone/secret", token=False, endpoint=hub.address)
    ax.load_adapters(model, "someone/secret", token=TOKEN, endpoint=hub.address)


def test_what_is_not_there_is_named(hub: LoopbackHub) -> None:
    model = toy_avmoe()
    hub.create("someone/empty", private=False)
    model.push_to_hub("someone/ave", token=TOKEN, endpoint=hub.address)
    for repo, revision, says in (
        ("someone/nothing", None, r"no such folder, nor can it be fetched from the Hub \(RepositoryNotFoundError"),
        ("someone/ave", "trial", r"nor can it be fetched from the Hub \(RevisionNotFoundError"),
        ("someone/empty", None, r"the repository holds no adapter\.safetensors"),
        ("some--one/..", None, r"nor can it be fetched from the Hub \(HFValidationError"),
    ):
        with pytest.raises(ax.CheckpointError, match=says) as error:
            ax.load_adapters(model, repo, revision=revision, endpoint=hub.address)
        assert str(error.value).startswith(f"{repo}: ")
    _, files = hub.files("someone/ave", "main")
    del files["config.json"]
    ax.load_adapters(model, "someone/ave", endpoint=hub.address)


def test_no_network(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy_avmoe()
    model.push_to_hub("someone/ave", token=TOKEN, endpoint=hub.address)
    hub.shutdown()
    hub.server_close()
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its retries
    with pytest.raises(ax.CheckpointError, match="someone/ave: there is no such folder, and the Hub cannot be reached"):
        ax.load_adapters(model, "someone/ave", endpoint=hub.address)
    with pytest.raises(ax.CheckpointError, match=r"someone/ave: cannot be published on the Hub \(ConnectError"):
        model.push_to_hub("someone/ave", token=TOKEN, endpoint=hub.address)


def test_a_folder_goes_before_a_repository(hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = toy_avmoe()
    model.save_pretrained("someone/ave")
    ax.load_adapters(model, "someone/ave", endpoint=hub.address)
    assert not hub.requests
    assert json.loads(Path("someone/ave/config.json").read_text())["library_name"] == "avexperts"
    shutil.rmtree("someone")
    with pytest.raises(ax.CheckpointError, match="RepositoryNotFoundError"):
        ax.load_adapters(model, "someone/ave", endpoint=hub.address)
    assert torch.is_tensor(next(model.adapter_parameters()))
