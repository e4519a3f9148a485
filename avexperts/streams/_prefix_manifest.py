"""The manifest of a prefix cache: what made the stored tokens and from what, and whether that is what is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from avexperts.streams._fingerprint import fingerprint, site_rows, weights_fingerprint
from avexperts.streams._lockstep import LockStep

MANIFEST = "manifest.json"


def describe_prefix(model: LockStep, ids: Sequence[str], dtype: str, source: str) -> dict[str, Any]:
    """What ``manifest.json`` says: all of it must agree before a stored row is used."""
    plan = model._choose(None)[0]
    shapes = {(stream, row.name): [row.tokens, row.dim] for stream, rows in model.sites.items() for row in rows}
    stored = {f"{stream}.{site}": (stream, site) for stream, site in plan.entries.items()}
    stored |= {f"{stream}.{site}": (stream, site) for stream, site in sorted(plan.reads & plan.before)}
    stored |= {name: (tap.stream, tap.site) for name, tap in model._taps.within(plan.before).items()}
    return {
        "format": 1,
        "source": source,
        "dtype": dtype,
        "tokens": {name: shapes[place] for name, place in stored.items()},
        "towers": {
            stream: {
                "backbone": type(model.towers[stream]).__name__,
                "sites": fingerprint(site_rows(model.sites[stream])),
                "weights": weights_fingerprint(model.towers[stream]),
            }
            for stream in plan.entries
        },
        "ids": list(ids),
    }


def check_manifest(folder: Path, expected: Mapping[str, Any]) -> None:
    """Raise one ``ValueError`` that names all that differs from what is asked for."""
    path = folder / MANIFEST
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(stored, dict) or not isinstance(stored.get("ids"), list):
            raise ValueError("it is not the manifest of a prefix cache")
    except FileNotFoundError:
        raise ValueError(f"{folder}: holds other files and no {MANIFEST}; give a new or an empty folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); restore it, or delete the folder and fill it again") from None
    problems = list(_differences(stored, expected))
    if problems:
        raise ValueError(
            f"{folder}: was filled for something else: {'; '.join(problems)}. Give another folder, or delete this one"
        )


def _differences(stored: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    there, here = _flat(stored), _flat(expected)
    for key in {**there, **here}:
        if key == "ids" and there[key] != here[key]:
            first = next((a, b) for a, b in zip_longest(there[key], here[key]) if a != b)
            counts = f"{len(there[key])} samples there, {len(here[key])} here"
            yield f"{counts}, the first that differs is {first[0]!r} there, {first[1]!r} here"
        elif there.get(key) != here.get(key):
            yield f"{key} is {_short(there.get(key))} there, {_short(here.get(key))} here"


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _short(value: Any) -> str:
    is_digest = isinstance(value, str) and len(value) == 64
    return value[:8] if is_digest else repr(value)
