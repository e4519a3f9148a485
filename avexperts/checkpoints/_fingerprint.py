"""What an adapter remembers of its towers: their site tables, and a glance at their weights."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from torch import nn

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._fit import is_sharded
from avexperts.streams import SiteInfo
from avexperts.streams._fingerprint import fingerprint as fingerprint
from avexperts.streams._fingerprint import site_rows as site_rows

# These means move by less than this when a tower is cast to bfloat16, and by more under other weights.
_PROBE_TOLERANCE = 5e-3


def probe(backbone: nn.Module) -> dict[str, float]:
    """Mean absolute values of up to eight of the backbone's matrices, evenly spaced; none without weights."""
    # Vectors are left out: norms and biases often are what they were initialised to.
    named = [
        (name, p)
        for name, p in backbone.named_parameters()
        if p.dim() > 1 and p.is_floating_point() and p.numel() and not p.is_meta and not is_sharded(p)
    ]
    count = min(8, len(named))
    chosen = [named[index * (len(named) - 1) // max(1, count - 1)] for index in range(count)]
    means = {name: parameter.detach().float().abs().mean().item() for name, parameter in chosen}
    return {name: float(f"{mean:.6g}") for name, mean in means.items() if math.isfinite(mean)}


def check_sites(stored: Mapping[str, Any], found: Mapping[str, Sequence[SiteInfo]]) -> None:
    """Raise one :class:`CheckpointError` that says where site tables differ from the stored ones."""
    tables = {name: site_rows(sites) for name, sites in found.items()}
    problems = [
        f"stream {name!r} ({entry['backbone']}): {_difference(entry['sites'], tables[name])}"
        for name, entry in stored.items()
        if fingerprint(tables[name]) != entry["fingerprint"]
    ]
    if problems:
        raise CheckpointError(f"these are not the towers the adapter was trained on. {'; '.join(problems)}")


def warn_other_weights(stored: Mapping[str, Any], towers: Mapping[str, nn.Module]) -> None:
    """Warn where a tower has the stored shape, and other weights than the adapter was trained on."""
    for name, entry in stored.items():
        now = probe(towers[name])
        far = [
            key
            for key, mean in entry["probe"].items()
            if key in now and not math.isclose(mean, now[key], rel_tol=_PROBE_TOLERANCE, abs_tol=1e-12)
        ]
        if far:
            warnings.warn(
                f"the tower {name!r} has other weights than the {entry['backbone']} the adapter was trained on "
                f"({far[0]}: mean absolute value {now[far[0]]:.4g}, then {entry['probe'][far[0]]:.4g})",
                UserWarning,
                stacklevel=4,
            )


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    pairs = enumerate(zip_longest(expected, found))
    differing = [f"site {i}: expected {a or 'none'}, found {b or 'none'}" for i, (a, b) in pairs if a != b]
    counts = f"{len(expected)} sites expected, {len(found)} found, {len(differing)} differ"
    return f"{counts}; {', '.join(differing[:3])}"
