from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path


def class_blocks(classes: Sequence[str], groups: int) -> dict[str, tuple[int, ...]]:
    """Cut the classes, in their order, into groups as equal as can be.

    Args:
        classes: Names; the position is the class index.
        groups: How many.

    Returns:
        Class indices by the group's name, ``classes-FIRST-LAST``.

    Raises:
        ValueError: There are fewer classes than groups.

    Example:
        >>> class_blocks(["a", "b", "c", "d", "e"], 2)
        {'classes-0-1': (0, 1), 'classes-2-4': (2, 3, 4)}
    """
    count = len(classes)
    if count < groups:
        raise ValueError(f"--groups: {count} classes make no {groups} groups")
    bounds = [group * count // groups for group in range(groups + 1)]
    return {f"classes-{a}-{b - 1}": tuple(range(a, b)) for a, b in pairwise(bounds)}


def read_domains(path: str | Path, classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read which classes belong to which domain, the published layout: ``{"DOMAIN": ["CLASS", ...], ...}``.

    Args:
        path: The JSON file.
        classes: Names of the data set's classes; the position is the class index. Those that are not in the file have
            no domain and no lesson.

    Returns:
        Class indices by domain, in the order of the file; blanks in names of domains become hyphens.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such map, or names a class twice or one that is unknown.

    Example:
        >>> read_domains("no/such/domains.json", ["Bark"])
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/domains.json: no such map of domains to classes
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such map of domains to classes")
    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"))
        rows = [(domain, name) for domain, names in table.items() for name in names]
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise ValueError(f'{path}: not a map {{"DOMAIN": ["CLASS", ...]}} ({error})') from None
    index = {name: number for number, name in enumerate(classes)}
    groups: dict[str, list[int]] = {domain.replace(" ", "-"): [] for domain in table}
    seen: dict[str, str] = {}
    for domain, name in rows:
        if name not in index:
            raise ValueError(f"{path}, domain {domain!r}: there is no class {name!r}")
        if name in seen:
            raise ValueError(f"{path}, domain {domain!r}: the class {name!r} is in {seen[name]!r} already")
        seen[name] = domain
        groups[domain.replace(" ", "-")].append(index[name])
    empty = [domain for domain, found in groups.items() if not found]
    if empty:
        raise ValueError(f"{path}: the domain {empty[0]!r} has no class")
    return {domain: tuple(found) for domain, found in groups.items()}
