"""Command line: ``python -m avexperts.checkpoints convert SRC DST --from avmoe``."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from avexperts.checkpoints import convert
from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._state_file import PICKLED, read_state_file, write_state_file

# What each system can be translated to, the default first.
SYSTEMS: dict[str, tuple[Callable[..., dict[str, Any]], tuple[str, ...]]] = {
    "avmoe": (convert.avmoe, ("avexperts", "papers")),
    "lavish": (convert.lavish, ("avexperts", "papers")),
    "dg_sct": (convert.dg_sct, ("avexperts", "papers")),
    "htsat": (convert.htsat, ("transformers", "papers")),
    "swinv2": (convert.swinv2, ("transformers", "timm", "papers")),
    "php": (convert.php, ("avexperts", "papers")),
    "expert_task": (convert.expert_task, ("avexperts", "papers")),
    "anchor_task": (convert.anchor_task, ("avexperts",)),
}
EXAMPLES = """\
examples:
  the adapters of a whole checkpoint of AVMoE, for model.adapters["default"].load_state_dict(...)
    python -m avexperts.checkpoints convert best.pt ours.safetensors --from avmoe
  and back, for the papers' program
    python -m avexperts.checkpoints convert ours.safetensors theirs.pt --from avmoe --to papers
  the papers' audio tower, for transformers.ClapAudioModel
    python -m avexperts.checkpoints convert HTSAT.ckpt htsat.safetensors --from htsat

Files are never unpickled: a .pt file that holds more than tensors and plain values is refused.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after one line that says what is wrong."""
    options = _parser().parse_args(arguments)
    try:
        print(_convert(options))
    except CheckpointError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m avexperts.checkpoints",
        description="Translate checkpoints between the papers' programs and avexperts.",
    )
    command = parser.add_subparsers(dest="command", required=True, metavar="COMMAND").add_parser(
        "convert",
        help="translate one checkpoint file",
        description="Translate one checkpoint file. A whole checkpoint and the state of a single adapter both work.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("source", metavar="SRC", type=Path, help=f"file to read: .safetensors, {', '.join(PICKLED)}")
    command.add_argument("target", metavar="DST", type=Path, help="file to write: .safetensors, or .pt for --to papers")
    command.add_argument("--from", dest="system", required=True, choices=SYSTEMS, help="whose names these are")
    command.add_argument("--to", help="avexperts or papers; for towers transformers, timm (swinv2 only) or papers")
    command.add_argument(
        "--parts", type=int, nargs="+", choices=(0, 1), help="for --to papers: the coupled parts of each block, from 0"
    )
    command.add_argument("--blocks", help="for --from avmoe --to papers: adapter_blocks or moe_adapter_blocks")
    command.add_argument(
        "--unapplied", nargs="+", help="for --from dg_sct: parts that the program builds and leaves out"
    )
    command.add_argument("--part", choices=("shared", "task"), help="for --from php: the adapters, or a task's prompts")
    command.add_argument("--force", action="store_true", help="replace DST if it is there")
    return parser


def _convert(options: argparse.Namespace) -> str:
    translate, targets = SYSTEMS[options.system]
    to = options.to or targets[0]
    if to not in targets:
        raise CheckpointError(f"--from {options.system} goes --to {' or '.join(targets)}, not {to}")
    _check_target(options.target, to, options.force)
    state = read_state_file(options.source)
    try:
        translated = translate(state, to=to, **_special(options, translate))
    except ValueError as error:
        raise CheckpointError(f"{options.source}: {error}") from error
    write_state_file(options.target, translated)
    numbers = sum(tensor.numel() for tensor in translated.values())
    return f"{options.target}: {len(translated)} tensors, {numbers:,} numbers, from {options.system} to {to}"


def _special(options: argparse.Namespace, translate: Callable[..., object]) -> dict[str, Any]:
    """The options that only some systems have."""
    given = {name: getattr(options, name) for name in ("parts", "blocks", "unapplied", "part")}
    given = {name: value for name, value in given.items() if value is not None}
    parameters = inspect.signature(translate).parameters
    unknown = [f"--{name}" for name in given if name not in parameters]
    if unknown:
        raise CheckpointError(f"--from {options.system} has no {' and no '.join(unknown)}")
    if "part" in parameters and "part" not in given:
        raise CheckpointError(f"--from {options.system} needs --part shared or --part task")
    return given


def _check_target(path: Path, to: str, force: bool) -> None:
    endings = (".safetensors", ".pt", ".pth") if to == "papers" else (".safetensors",)
    if path.suffix not in endings:
        raise CheckpointError(f"{path}: --to {to} writes {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise CheckpointError(f"{path.parent}: there is no such folder")
    if path.is_dir() or (path.exists() and not force):
        raise CheckpointError(f"{path}: is there already" + ("" if path.is_dir() else "; --force replaces it"))


if __name__ == "__main__":
    sys.exit(main())
