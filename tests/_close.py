"""The one table of tolerances. A looser bound anywhere else needs its reason beside it."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCES = {
    torch.float64: {"rtol": 1e-9, "atol": 1e-10},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float16: {"rtol": 1e-3, "atol": 1e-3},
    torch.bfloat16: {"rtol": 8e-3, "atol": 8e-3},
}
GRADIENT_TOLERANCES = {
    torch.float64: {"rtol": 1e-7, "atol": 1e-9},
    torch.float32: {"rtol": 1e-4, "atol": 1e-5},
}


def assert_close(actual: Tensor, expected: Tensor, *, gradient: bool = False, what: str = "") -> None:
    """Compare by the table, at the expected tensor's dtype."""
    table = GRADIENT_TOLERANCES if gradient else TOLERANCES
    torch.testing.assert_close(
        actual, expected, msg=lambda text: f"{what}: {text}", **table.get(expected.dtype, {"rtol": 0, "atol": 0})
    )
