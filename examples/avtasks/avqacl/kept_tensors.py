from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avtasks.training import processes, write_atomically
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor


def kept_tensors(file: Path, about: Any, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Read tensors that were kept, or make and keep them: what frozen parts give need not be computed again.

    Args:
        file: Where they are kept, as safetensors.
        about: All that they depend on, as JSON would have it; what was kept for anything else is made anew.
        make: Makes them.

    Example:
        >>> import tempfile, torch
        >>> file = Path(tempfile.mkdtemp()) / "tokens.safetensors"
        >>> first = kept_tensors(file, ["a.wav"], lambda: {"x": torch.ones(2)})
        >>> kept_tensors(file, ["a.wav"], lambda: {})["x"]
        tensor([1., 1.])
        >>> kept_tensors(file, ["b.wav"], lambda: {})
        {}
    """
    digest = hashlib.sha256(json.dumps(about, default=str, sort_keys=True).encode()).hexdigest()
    with processes().main_process_first():
        if not file.is_file() or _digest_of(file) != digest:
            tensors = {name: value.contiguous() for name, value in make().items()}
            write_atomically(file, lambda path: save_file(tensors, path, {"about": digest}))
    return load_file(file)


def _digest_of(file: Path) -> str | None:
    with safe_open(file, "pt") as content:
        return (content.metadata() or {}).get("about")
