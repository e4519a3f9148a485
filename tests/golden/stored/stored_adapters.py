"""Adapters as this format stores them, to be replayed for ever: ``python tests/golden/stored/stored_adapters.py``.

Nothing here draws random numbers and nothing is imported from the other tests, so that the towers of a folder that was
stored years ago are the same today. Stored folders are never written again: a new format gets folders of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import avexperts as ax

HERE = Path(__file__).parent
FORMAT = "format-1"
METHODS: dict[str, dict] = {
    "avmoe": {"num_latents": 3, "router_hidden": (8,), "batch_norm": True, "reduction": 4, "stages": (0,)},
    "lavish": {"parts": (0,)},
    "dg_sct": {"num_latents": 3, "stages": (0,), "parts": (0,)},
}
TOKENS, IN_DIM, DIM = {"vision": 9, "audio": 6}, {"vision": 3, "audio": 5}, {"vision": 16, "audio": 32}


class StoredTower(nn.Module):
    """A linear embedding, and blocks of two residual branches."""

    def __init__(self, in_dim: int, dim: int, depth: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(in_dim, dim)
        self.attn = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))
        self.mlp = nn.ModuleList(nn.Linear(dim, dim) for _ in range(depth))


def branch(layer: nn.Module, x: Tensor) -> Tensor:
    return x + torch.tanh(layer(x))


def open_stored(tower: StoredTower, x: Tensor) -> Iterator[ax.Site]:
    x = tower.embed(x)
    for index, (attn, mlp) in enumerate(zip(tower.attn, tower.mlp, strict=True)):
        x = yield ax.Site(f"blocks.{index}.attn", x, lambda tokens, layer=attn: branch(layer, tokens))
        x = yield ax.Site(f"blocks.{index}.mlp", x, lambda tokens, layer=mlp: branch(layer, tokens))
    return x


def waves(tensor: Tensor, phase: float, scale: float = 1.0) -> Tensor:
    """Fill with numbers that every machine and version agrees on."""
    values = [round(scale * math.sin(1.7 * index + phase), 6) for index in range(tensor.numel())]
    with torch.no_grad():
        return tensor.copy_(torch.tensor(values).view(tensor.shape))


def streams() -> dict[str, ax.Stream]:
    found = {}
    for name in TOKENS:
        tower = StoredTower(IN_DIM[name], DIM[name])
        for phase, parameter in enumerate(tower.parameters()):
            waves(parameter, phase, 0.5 if parameter.dim() == 1 else parameter.shape[1] ** -0.5)
        found[name] = ax.open_backbone(tower, (TOKENS[name], IN_DIM[name]), opener=open_stored)
    return found


def inputs() -> dict[str, Tensor]:
    return {name: waves(torch.empty(2, TOKENS[name], IN_DIM[name]), 0.3 * len(name)) for name in TOKENS}


def head() -> nn.Linear:
    return nn.Linear(sum(DIM.values()), 4)


@torch.no_grad()
def outputs(model: ax.LockStep, classify: nn.Linear) -> dict[str, Tensor]:
    out = model.eval()(inputs())
    pooled = torch.cat([out.vision.mean(1), out.audio.mean(1)], -1)
    return {"vision": out.vision, "audio": out.audio, "classes": classify(pooled)}


def make(method: str) -> tuple[ax.LockStep, nn.Linear]:
    """An adapter with numbers everywhere, so that no path hides behind a gate, norm or statistic left as it starts."""
    model, classify = getattr(ax.methods, method)(**streams(), **METHODS[method]), head()
    state = {**model.adapters.state_dict(), **classify.state_dict()}
    for phase, (name, tensor) in enumerate(sorted(state.items())):
        if tensor.is_floating_point():
            waves(tensor, phase, 0.3)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return model, classify


def main() -> None:
    for method in METHODS:
        folder = HERE / FORMAT / method
        if folder.exists():
            print(f"{folder.relative_to(HERE)} is there and stays")
            continue
        model, classify = make(method)
        model.save_pretrained(folder, heads={"event": classify}, metrics={"accuracy": 0.5})
        save_file(
            {name: tensor.contiguous() for name, tensor in outputs(model, classify).items()},
            folder / "outputs.safetensors",
        )
        print(json.dumps({"folder": str(folder.relative_to(HERE)), "avexperts": ax.__version__}))


if __name__ == "__main__":
    main()
