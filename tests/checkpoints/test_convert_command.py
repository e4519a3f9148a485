"""``python -m avexperts.checkpoints convert``: files in, files out, and nothing half done."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from _golden import Golden
from safetensors.torch import load_file, save_file

from avexperts import convert
from avexperts.checkpoints.__main__ import main


@pytest.fixture
def papers() -> dict[str, torch.Tensor]:
    return Golden("avmoe", "moe_1x1_bn_train").w


@pytest.fixture
def source(tmp_path, papers) -> Path:
    path = tmp_path / "best.pt"
    torch.save({"state_dict": {f"module.{key}": value for key, value in papers.items()}, "epoch": 3}, path)
    return path


class Refused:
    """Runs the command in a folder and insists on exit code 2, one line, and no other file than before."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys

    def __call__(self, *arguments: object) -> str:
        before = self.contents()
        assert main(["convert", *map(str, arguments)]) == 2
        printed = self.capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1
        assert printed.err.startswith("error: ")
        assert self.contents() == before
        return printed.err

    def contents(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(tmp_path, capsys) -> Refused:
    return Refused(tmp_path, capsys)


class TestConverting:
    def test_there_and_back(self, tmp_path, source, papers, capsys) -> None:
        ours, back, safe = tmp_path / "ours.safetensors", tmp_path / "back.pt", tmp_path / "back.safetensors"
        assert main(["convert", str(source), str(ours), "--from", "avmoe"]) == 0
        assert "46 tensors" in capsys.readouterr().out
        assert load_file(ours).keys() == convert.avmoe(papers).keys()
        for target in (back, safe):
            assert main(["convert", str(ours), str(target), "--from", "avmoe", "--to", "papers"]) == 0
        for state in (torch.load(back, weights_only=True), load_file(safe)):
            assert state.keys() == papers.keys()
            assert all(torch.equal(state[key], value) for key, value in papers.items())
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "back.pt", "back.safetensors", "best.pt", "ours.safetensors",
        ]  # fmt: skip

    def test_a_lightning_file_of_a_tower(self, tmp_path) -> None:
        state = {f"sed_model.{key}": value for key, value in Golden("avmoe", "htsat_body").w.items()}
        torch.save({"state_dict": state, "epoch": 1, "lr_schedulers": [{"base": 0.1}]}, tmp_path / "htsat.ckpt")
        arguments = [str(tmp_path / "htsat.ckpt"), str(tmp_path / "out.safetensors"), "--from", "htsat"]
        assert main(["convert", *arguments]) == 0
        assert "audio_encoder.batch_norm.weight" in load_file(tmp_path / "out.safetensors")

    @pytest.mark.parametrize(("case", "system", "to"), [
        ("lavish_adapter", "lavish", "avexperts"), ("dgsct_adapter", "dg_sct", "avexperts"),
        ("swinv2_body", "swinv2", "timm"), ("swinv2_body", "swinv2", "transformers"),
    ])  # fmt: skip
    def test_every_system_from_safetensors(self, tmp_path, case: str, system: str, to: str) -> None:
        save_file(Golden("avmoe", case).w, tmp_path / "in.safetensors")
        arguments = [str(tmp_path / "in.safetensors"), str(tmp_path / "out.safetensors"), "--from", system, "--to", to]
        assert main(["convert", *arguments]) == 0
        expected = getattr(convert, system)(Golden("avmoe", case).w, to=to)
        assert load_file(tmp_path / "out.safetensors").keys() == expected.keys()

    def test_force_replaces_and_views_are_stored_alone(self, tmp_path, papers) -> None:
        source, target = tmp_path / "in.pt", tmp_path / "out.pt"
        large = torch.zeros(100_000)
        torch.save({"gate": large[:1], "down_sampler.weight": large[:8].view(2, 4, 1, 1)}, source)
        target.write_bytes(b"old")
        middle = tmp_path / "middle.safetensors"
        assert main(["convert", str(source), str(middle), "--from", "avmoe"]) == 0
        assert main(["convert", str(middle), str(target), "--from", "avmoe", "--to", "papers", "--force"]) == 0
        assert torch.load(target, weights_only=True)["down_sampler.weight"].shape == (2, 4, 1, 1)
        assert middle.stat().st_size < 2000
        assert target.stat().st_size < 4000

    def test_one_coupled_part(self, tmp_path, papers) -> None:
        prefixed = {f"{s}_moe_adapter_blocks_p2.0.{key}": t for s in ("audio", "vis") for key, t in papers.items()}
        save_file({key: value.clone() for key, value in prefixed.items()}, tmp_path / "in.safetensors")
        ours, back = str(tmp_path / "ours.safetensors"), str(tmp_path / "back.safetensors")
        assert main(["convert", str(tmp_path / "in.safetensors"), ours, "--from", "avmoe"]) == 0
        assert main(["convert", ours, back, "--from", "avmoe", "--to", "papers", "--parts", "1"]) == 0
        assert load_file(back).keys() == prefixed.keys()


class TestRefusing:
    def test_a_canary_is_not_unpickled(self, tmp_path, papers, refused) -> None:
        canary = tmp_path / "sang"
        for name, content in {"bare.pt": Canary(canary), "deep.pth": papers | {"extra": Canary(canary)}}.items():
            torch.save(content, tmp_path / name)
            said = refused(tmp_path / name, tmp_path / "out.safetensors", "--from", "avmoe")
            assert "open, which is no tensor and could run code" in said
        (tmp_path / "raw.ckpt").write_bytes(pickle.dumps(Canary(canary)))
        assert "raw.ckpt" in refused(tmp_path / "raw.ckpt", tmp_path / "out.safetensors", "--from", "htsat")
        assert not canary.exists()

    def test_the_canary_does_sing_when_unpickled(self, tmp_path) -> None:
        pickle.loads(pickle.dumps(Canary(tmp_path / "sang"))).close()
        assert (tmp_path / "sang").exists()

    @pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
    @pytest.mark.parametrize("ending", [".pt", ".safetensors"])
    def test_truncated_files(self, tmp_path, papers, refused, keep: float, ending: str) -> None:
        path = tmp_path / f"cut{ending}"
        save_file(papers, path) if ending == ".safetensors" else torch.save(papers, path)
        data = path.read_bytes()
        path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
        said = refused(path, tmp_path / "out.safetensors", "--from", "avmoe")
        assert f"{path}: damaged, or no checkpoint" in said

    @pytest.mark.parametrize(("content", "message"), [
        ([1, 2], "not a state dict but list"),
        ({"epoch": 3, "lr": 0.1}, "'epoch' is int, 'lr' is float"),
        ({"state_dict": {"gate": "open"}}, "'gate' is str"),
        ({"state_dict": {"gate": torch.ones(1), "gate_x": torch.ones(1)}}, "unknown keys: gate_x"),
        ({}, "no key of an adapter is in it"),
    ])  # fmt: skip
    def test_other_content(self, tmp_path, refused, content, message: str) -> None:
        torch.save(content, tmp_path / "in.pt")
        assert message in refused(tmp_path / "in.pt", tmp_path / "out.safetensors", "--from", "avmoe")

    def test_a_dictionary_in_itself(self, tmp_path, refused) -> None:
        content: dict = {}
        content["model"] = content
        torch.save(content, tmp_path / "in.pt")
        assert "'model' is dict" in refused(tmp_path / "in.pt", tmp_path / "out.safetensors", "--from", "avmoe")

    @pytest.mark.parametrize(("arguments", "message"), [
        (["none.pt", "out.safetensors", "--from", "avmoe"], "none.pt: there is no such file"),
        (["best.txt", "out.safetensors", "--from", "avmoe"], "ends in .safetensors, .pt, .pth, .ckpt"),
        (["best.pt", "out.pt", "--from", "avmoe"], "--to avexperts writes .safetensors"),
        (["best.pt", "out.npz", "--from", "avmoe", "--to", "papers"], "writes .safetensors or .pt or .pth"),
        (["best.pt", "old.safetensors", "--from", "avmoe"], "is there already; --force replaces it"),
        (["best.pt", "folder.safetensors", "--from", "avmoe", "--force"], "is there already"),
        (["best.pt", "none/out.safetensors", "--from", "avmoe"], "there is no such folder"),
        (["best.pt", "out.safetensors", "--from", "avmoe", "--to", "timm"], "goes --to avexperts or papers, not timm"),
        (["best.pt", "out.safetensors", "--from", "swinv2", "--parts", "0"], "--from swinv2 has no --parts"),
        (["best.pt", "out.safetensors", "--from", "htsat"], "best.pt: not a whole state dict of this tower"),
        (["best.pt", "out.safetensors", "--from", "lavish"], "conv_adapter.bias, conv_adapter.weight, "),
        (["best.pt", "out.pt", "--from", "avmoe", "--to", "papers", "--parts", "1", "0"], "got (1, 0)"),
        (["best.pt", "out.pt", "--from", "avmoe", "--to", "papers", "--blocks", "blocks"], "'moe_adapter_blocks', got"),
        (["best.pt", "out.safetensors", "--from", "lavish", "--blocks", "b", "--unapplied", "c"], "no --blocks and no"),
    ])  # fmt: skip
    def test_bad_arguments(self, tmp_path, source, refused, arguments: list[str], message: str) -> None:
        (tmp_path / "best.txt").write_text("text")
        (tmp_path / "old.safetensors").write_bytes(b"old")
        (tmp_path / "folder.safetensors").mkdir()
        paths = [str(tmp_path / name) for name in arguments[:2]]
        assert message in refused(*paths, *arguments[2:])

    def test_a_failed_write_leaves_the_old_file(self, tmp_path, source, refused, monkeypatch) -> None:
        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        target = tmp_path / "out.safetensors"
        target.write_bytes(b"old")
        monkeypatch.setattr("avexperts.checkpoints._state_file.write_tensor_file", fail)
        said = refused(source, target, "--from", "avmoe", "--force")
        assert f"{target}: cannot be written (No space left on device)" in said


class Canary:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_help(capsys) -> None:
    for arguments in (["--help"], ["convert", "--help"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
    told = capsys.readouterr().out
    for word in ("translate one checkpoint file", "SRC", "--from avmoe --to papers", "never unpickled"):
        assert word in told


def test_as_a_program(tmp_path, source) -> None:
    command = [sys.executable, "-W", "error", "-m", "avexperts.checkpoints", "convert", str(source)]
    done = subprocess.run([*command, str(tmp_path / "none" / "x"), "--from", "avmoe"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
