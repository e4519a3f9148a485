"""Measure, and store what was found.

    python -m benchmarks.run --quick
    python -m benchmarks.run --out benchmarks/results/cpu.json
    python -m benchmarks.run --device cuda --suite all --out benchmarks/results/cuda.json

The page is made from what is stored: python -m benchmarks.page.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import traceback
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

import benchmarks.cases  # noqa: F401  (fills the registry)

from .case import COMPILED, REGISTRY, Case, Mode, Setting, Variant
from .environment import environment, revision
from .gate import check_case
from .memory import kept_bytes, peak_bytes
from .passes import make_pass
from .ratios import spread
from .timing import measure

SUITES = ("layer", "step", "memory", "scaling", "parts")
SCHEMA = 1


def main(argv: Sequence[str] | None = None) -> None:
    """Run the chosen cases; each result is stored as soon as it is there.

    Args:
        argv: Command line; the process's own by default.

    Raises:
        SystemExit: Nothing to run, no such device, or a case failed.
    """
    options = _options(argv)
    cases = chosen_cases(options.suite, options.cases)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("benchmarks.run: --device cuda, but torch sees no CUDA device")
    if not cases:
        raise SystemExit(f"benchmarks.run: no case of suite {options.suite!r} is called {options.cases!r}")
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32 in convolutions too, as it does in products
    repeats = options.repeats or (2 if options.quick else 5 if device.type == "cpu" else 20)
    document = start(options.out if options.add else None, options.quick, repeats, device)
    measured = revision()
    before, began = document["seconds"], time.monotonic()
    for name, modes in cases.items():
        case = REGISTRY[name]
        for precision in precisions(case, device, options.precision):
            setting = Setting(device, precision, options.quick)
            document["failed"].pop(f"{name}, {precision}", None)
            try:
                for record in run_case(case, modes, setting, repeats):
                    record["revision"] = measured
                    document["records"] = merged(document["records"], record)
                    print(_line(record), flush=True)
            except Exception as error:
                document["failed"][f"{name}, {precision}"] = f"{type(error).__name__}: {error}"[:500]
                print(f"{name}, {precision}: FAILED\n{traceback.format_exc()}", flush=True)
            document["seconds"] = round(before + time.monotonic() - began, 1)
            write(document, options.out)
    print(f"{len(document['records'])} results in {document['seconds']:.0f} s: {options.out}")
    if document["failed"]:
        raise SystemExit(f"benchmarks.run: {len(document['failed'])} failed: {', '.join(document['failed'])}")


def precisions(case: Case, device: torch.device, wanted: str | None) -> Sequence[str]:
    """What a case is run in: float32 on a CPU, all that it names on a GPU, or the wanted one of these.

    Args:
        case: From the registry.
        device: Where it runs.
        wanted: One of ``COMPILED``, or None for all.

    Example:
        >>> precisions(REGISTRY["avmoe/stage 4 vision"], torch.device("cpu"), None)
        ['float32']
    """
    found = case.precisions if device.type == "cuda" else ("float32",)
    return [each for each in found if wanted in (None, each)]


def start(file: Path | None, quick: bool, repeats: int, device: torch.device) -> dict[str, Any]:
    """Begin a result, or go on with a stored one, so that a long run can be made in parts.

    Args:
        file: The stored one; None, or a file that is not there, begins anew.
        quick: As in the new run.
        repeats: As in the new run.
        device: Where the new run is made.

    Returns:
        The result.

    Raises:
        SystemExit: The stored one was measured elsewhere or otherwise.

    Example:
        >>> start(None, True, 3, torch.device("cpu"))["records"]
        []
    """
    setup = {"schema": SCHEMA, "quick": quick, "repeats": repeats, "environment": environment(device)}
    if file is None or not file.exists():
        return {**setup, "records": [], "failed": {}, "seconds": 0.0}
    stored = json.loads(file.read_text())
    other = [key for key, value in setup.items() if stored.get(key) != value]
    if other:
        raise SystemExit(f"benchmarks.run: --add: the file differs in {', '.join(other)}; measure into another one")
    return stored


def merged(records: list[dict[str, Any]], record: dict[str, Any]) -> list[dict[str, Any]]:
    """Put a record in the place of the one of the same case, mode and precision; cases stay in the registry's order."""
    keys, order = ("case", "mode", "precision"), list(REGISTRY)
    others = [each for each in records if each["case"] in order and any(each[key] != record[key] for key in keys)]
    return sorted([*others, record], key=lambda each: order.index(each["case"]))


def chosen_cases(suite: str, pattern: str) -> dict[str, list[Mode]]:
    """Cases of a suite, or of ``"all"``, whose name fits the pattern, with what is to be measured.

    Args:
        suite: One of ``SUITES`` or ``"all"``.
        pattern: As in a shell: ``"avmoe/*vision"``.

    Example:
        >>> chosen_cases("memory", "ave*")
        {'ave variants/8 pairs': ['kept', 'peak']}
    """
    suites = SUITES if suite == "all" else (suite,)
    chosen = {
        name: [mode for key in suites for mode in case.suites.get(key, ())]
        for name, case in REGISTRY.items()
        if fnmatch(name, pattern)
    }
    return {name: modes for name, modes in chosen.items() if modes}


def run_case(case: Case, modes: Sequence[Mode], setting: Setting, repeats: int) -> Iterator[dict[str, Any]]:
    """Build a case, check it, measure it.

    Args:
        case: From the registry.
        modes: What to measure.
        setting: Where and how.
        repeats: Rounds.

    Yields:
        One record per mode.

    Raises:
        GateError: Variants that should agree do not; nothing was timed.
    """
    torch.manual_seed(0)
    if setting.device.type == "cuda" or setting.compiled:
        torch._dynamo.reset()  # also variants of other precisions are compiled, and graphs of one function are limited
    # what a compiled graph keeps is no list of saved tensors; its peak says it
    inside = [mode for mode in modes if mode != "peak" and not (mode == "kept" and setting.compiled)]
    variants = case.build(setting, case.argument)
    names = [name for name, variant in variants.items() if variant.trains]
    facts = {"facts": dict(case.facts), "precision": setting.precision}
    errors: dict[str, Any] = {}
    for mode in inside:
        passes: Mode = "train" if mode == "kept" else mode
        if passes not in errors:
            errors[passes] = check_case(variants, passes, setting, case.name)
        found = _measured(variants, mode, setting, repeats)
        yield {"case": case.name, "mode": mode, **facts, "gate": errors[passes], "variants": found}
    del variants
    gc.collect()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    if "peak" in modes and not setting.quick:
        peaks = {name: peak_bytes(case.name, name, "train", setting) for name in names}
        yield {"case": case.name, "mode": "peak", **facts, "gate": errors.get("train", {}), "variants": peaks}


def _measured(variants: dict[str, Variant], mode: Mode, setting: Setting, repeats: int) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    if mode == "kept":
        found = {name: {"kept": kept_bytes(variant, setting)} for name, variant in variants.items() if variant.trains}
    else:
        calls = {
            name: make_pass(variant, mode, setting)
            for name, variant in variants.items()
            if variant.trains or mode == "forward"
        }
        whole = any(variant.whole for variant in variants.values())
        # the gate has run each once already, which is enough for a pass of seconds on a CPU
        warm_up = 3 if setting.device.type == "cuda" else int(not whole)
        rounds = min(repeats, 2) if whole and setting.device.type == "cpu" else repeats
        least = 0.02 if setting.device.type == "cuda" else 0.05
        taken = measure(calls, repeats=rounds, device=setting.device, least=least, warm_up=warm_up)
        found = {name: {"seconds": samples} for name, samples in taken.items()}
    for name in found:
        parameters = variants[name].module.parameters()
        found[name]["parameters"] = sum(p.numel() for p in parameters if p.requires_grad)
    return found


def write(document: dict[str, Any], out: Path) -> None:
    """Store the results; a file that is there already is replaced whole."""
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    part.write_text(json.dumps(_rounded(document), indent=1) + "\n")
    part.replace(out)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _line(record: dict[str, Any]) -> str:
    parts = []
    for name, found in record["variants"].items():
        if "seconds" in found:
            clocks = found["seconds"]
            parts.append(f"{name} {1000 * spread(clocks.get('cpu', clocks['wall'])).median:.1f} ms")
        else:
            parts.append(f"{name} {found.get('kept', found.get('peak', 0)) / 1e6:.1f} MB")
    return f"{record['case']}, {record['mode']}, {record['precision']}: " + "; ".join(parts)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--suite", choices=(*SUITES, "all"), default="all")
    parser.add_argument("--cases", default="*", help="only cases of this name, as in a shell: 'avmoe/*vision'")
    parser.add_argument("--precision", choices=COMPILED, help="only this one; a GPU runs several, a CPU float32")
    parser.add_argument("--repeats", type=int, help="rounds; 5 on a CPU, 20 on a GPU")
    parser.add_argument("--threads", type=int, default=1, help="one thread gives the steadiest ratios")
    parser.add_argument("--quick", action="store_true", help="small batches and towers, two rounds, no peaks")
    parser.add_argument("--add", action="store_true", help="add to --out what is not there, replace what is")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks.json"))
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
