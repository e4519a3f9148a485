"""The papers' vectors of prompts: names in their state dicts and ours, and the comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping

import _figures
import torch
from _close import assert_close
from _golden import Golden
from torch import Tensor

from avexperts.checkpoints import convert

POOL = {"prompt": "prompts", "prompt_key": "keys"}
GENERATOR = [
    (r"^maben$", "memory"),
    (r"^wgn_module\.key_w\.", "gate.key."),
    (r"^wgn_module\.query_w\.", "gate.query."),
    (r"^pgn_module_1\.", "generators.1."),
    (r"^pgn_module\.", "generators.0."),
    (r"transformer\.layers\.(\d)\.0\.norm\.", r"layers.\1.norm1."),
    (r"transformer\.layers\.(\d)\.0\.fn\.to_qkv\.", r"layers.\1.qkv."),
    (r"transformer\.layers\.(\d)\.0\.fn\.to_out\.0\.", r"layers.\1.out."),
    (r"transformer\.layers\.(\d)\.1\.norm\.", r"layers.\1.norm2."),
    (r"transformer\.layers\.(\d)\.1\.fn\.net\.0\.", r"layers.\1.mlp.0."),
    (r"transformer\.layers\.(\d)\.1\.fn\.net\.3\.", r"layers.\1.mlp.2."),
    (r"pre_out\.", "mixture."),
]


def case(name: str) -> Golden:
    return Golden("php", name)


def inputs(golden: Golden) -> dict[str, Tensor]:
    """The inputs in float64, ready for gradients."""
    return {
        key: value.double().requires_grad_() if value.is_floating_point() else value
        for key, value in getattr(golden, "in").items()
    }


def pool(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {POOL[key]: value.double() for key, value in tensors.items()}


def generator(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, value in tensors.items():
        if key == "prompt_key":
            continue
        for pattern, ours in GENERATOR:
            key = re.sub(pattern, ours, key)
        found[key] = value.double()
    return found


def adapter(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    gate = {key: value for key, value in tensors.items() if key.startswith("temporal_gated.0.")}
    rest = {key: value for key, value in tensors.items() if key not in gate}
    ours = (convert.dg_sct(rest) if rest else {}) | {
        key.replace("temporal_gated.0", "temporal_gate"): value for key, value in gate.items()
    }
    return {key: value.double() for key, value in ours.items()}


def check(found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor], *, gradient: bool = False) -> None:
    """Compare float64 results with stored float32 numbers, all of ``found``."""
    assert found
    for key, value in found.items():
        assert value is not None, key
        assert_close(value.to(expected[key].dtype), expected[key], gradient=gradient, what=key)
        if value.is_floating_point() and not gradient:
            _figures.record("PHP's vectors, outputs, largest deviation", (value - expected[key]).abs().max().item())


def gradients(module: torch.nn.Module) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in module.named_parameters()}
