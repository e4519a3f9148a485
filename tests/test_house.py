"""The house keeps its order: rooms, arrows, sizes, and the names on the door."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import avexperts

ROOT = Path(__file__).parents[1]
# Each room may import from the rooms after it.
ROOMS = [
    "checkpoints",
    "methods",
    "prompts",
    "streams",
    "experts",
    "adapters",
    "routing",
    "modulation",
    "metrics",
    "ops",
]
# The one arrow back: the methods of LockStep that save and load, which import their room only when called.
AGAINST_THE_ARROWS = {"streams/_sharing.py": {"checkpoints"}}
# The same for the example programs; a task may enter all of these, and no room may enter a task.
WORKSHOP = ["study", "clips", "model", "avlm", "towers", "forge", "report", "layers", "training", "media"]
# A program that learns several tasks enters theirs.
SEVERAL = {"avmtil": {"ave", "avqa", "avs", "avvp"}}
SURFACE = Path(__file__).with_name("api_surface.json")


def imports_of(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def public_names() -> list[str]:
    names = [name for name in vars(avexperts) if not name.startswith("_")]
    modules = {
        "methods": avexperts.methods,
        "modulation": avexperts.modulation,
        "convert": avexperts.convert,
        "metrics": avexperts.metrics,
        "ops": avexperts.ops,
        "prompts": avexperts.prompts,
    }
    return sorted(names + [f"{room}.{name}" for room, module in modules.items() for name in module.__all__])


@pytest.mark.parametrize("room", ROOMS)
def test_arrows_go_one_way(room: str) -> None:
    forbidden = ROOMS[: ROOMS.index(room)]
    files = list((ROOT / "avexperts" / room).glob("*.py"))
    assert files
    for path in files:
        entered = {name.split(".")[1] for name in imports_of(path) if name.startswith("avexperts.")}
        excused = AGAINST_THE_ARROWS.get(f"{room}/{path.name}", set())
        assert not entered & set(forbidden) - excused, f"{path.name} imports from {entered & set(forbidden)}"
        for node in ast.parse(path.read_text()).body if excused else ():
            at_import = ast.unparse(node) if isinstance(node, ast.Import | ast.ImportFrom | ast.If) else ""
            assert not any(f"avexperts.{name}" in at_import for name in excused), f"{path.name} imports at its top"


def test_arrows_between_the_programs_rooms_go_one_way() -> None:
    folder = ROOT / "examples" / "avtasks"
    rooms = [path.name for path in folder.iterdir() if any(path.glob("*.py"))]
    assert set(WORKSHOP) < set(rooms)
    for room in rooms:
        below = WORKSHOP[WORKSHOP.index(room) :] if room in WORKSHOP else [room, *WORKSHOP]
        for path in (folder / room).rglob("*.py"):
            entered = {name.split(".")[1] for name in imports_of(path) if name.startswith("avtasks.")}
            assert entered <= set(below) | SEVERAL.get(room, set()), f"{path} imports from {entered - set(below)}"


def test_importing_the_library_imports_no_backbone_family() -> None:
    code = "import sys, avexperts; print([m for m in ('timm', 'transformers', 'torchvision') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_examples_use_only_public_names() -> None:
    public = set(public_names()) | {"__version__"}
    files = sorted((ROOT / "examples").rglob("*.py"))
    assert len(files) > 20
    for path in files:
        for name in imports_of(path):
            private = name.startswith("avexperts.") and name.removeprefix("avexperts.") not in public
            assert not private, f"{path} imports {name}"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ax":
                assert node.attr in public, f"{path}:{node.lineno} uses ax.{node.attr}"


def test_no_file_is_long_and_none_unpickles() -> None:
    for folder in ("avexperts", "examples", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text()
            assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines"
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                    safe = [k.value.value for k in node.keywords if k.arg == "weights_only"]
                    assert safe == [True], f"{path}:{node.lineno}: torch.load without weights_only=True"
                if isinstance(node, ast.Call):
                    assert not ast.unparse(node.func).startswith("pickle."), f"{path}:{node.lineno}"


def test_public_names_do_not_come_or_go_unnoticed() -> None:
    assert public_names() == json.loads(SURFACE.read_text()), "update tests/api_surface.json and CHANGELOG.md"


def test_every_public_name_says_what_it_is() -> None:
    for name in public_names():
        thing = avexperts
        for part in name.split("."):
            thing = getattr(thing, part)
        if callable(thing):
            assert thing.__doc__, name
            assert ">>>" in thing.__doc__ or "Break" in name or "Output" in name or "SiteInfo" in name, (
                f"{name}: no example"
            )


def test_the_version_is_stated_once() -> None:
    assert f'version = "{avexperts.__version__}"' in (ROOT / "pyproject.toml").read_text()
