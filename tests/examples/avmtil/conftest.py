from __future__ import annotations

import pytest
import torch
from avtasks.towers import build_small_towers


@pytest.fixture(scope="session")
def fresh_towers():
    torch.manual_seed(0)
    return build_small_towers()


@pytest.fixture(autouse=True, scope="module")
def fresh_small_towers(fresh_towers):
    """Fresh weights: these tests are about the program, not about what it reaches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avtasks.towers.loading.load_small_towers", lambda: fresh_towers)
        yield
