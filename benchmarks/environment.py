from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("avexperts", "torch", "triton", "timm", "transformers", "peft", "numpy")


def environment(device: torch.device) -> dict[str, Any]:
    """Describe where figures come from: versions, machine, precision flags.

    Args:
        device: That the figures are of.

    Example:
        >>> environment(torch.device("cpu"))["device"]
        'cpu'
    """
    cuda = device.type == "cuda"
    return {
        "device": device.type,
        "name": torch.cuda.get_device_name() if cuda else _cpu_name(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "system": platform.system(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
        "cuda": torch.version.cuda if cuda else None,
    }


def revision() -> str | None:
    """Name the commit that is measured, and how many files differ from it; None without a repository.

    Example:
        >>> isinstance(revision(), str | None)
        True
    """
    commit = _git("rev-parse", "--short", "HEAD")
    changed = (_git("status", "--porcelain", "--", "../avexperts", ".") or "").splitlines()
    return f"{commit} with {len(changed)} changed files" if commit and changed else commit


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor() or platform.machine()
