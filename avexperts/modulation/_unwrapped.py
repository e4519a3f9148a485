from __future__ import annotations

from typing import Any

from torch.nn.parallel import DataParallel, DistributedDataParallel


def unwrapped(module: Any) -> Any:
    """Return what data parallelism and compilation have been put around."""
    while True:
        if isinstance(module, DataParallel | DistributedDataParallel):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module
