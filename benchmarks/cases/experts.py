"""Memory of a decoder whose experts are all in memory, or mapped from their files when first routed to."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel

from avexperts.experts import ExpertRouted, attach_experts

from ..case import Setting, Variant, case

_SIZE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4}
_TOKENS = 32
_HOW = ("all loaded", "opened lazily")


class _Decoder(nn.Module):
    """A decoder with experts in every second layer, and one number that trains: nothing else keeps activations."""

    def __init__(self, quick: bool) -> None:
        super().__init__()
        size = {**_SIZE, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64} if quick else _SIZE
        self.decoder = LlamaModel(LlamaConfig(vocab_size=64, pad_token_id=0, **size)).requires_grad_(False)
        self.scale = nn.Parameter(torch.ones(()))


def _answer(model: _Decoder, routed: ExpertRouted, ids: Tensor) -> list[Tensor]:
    """One batch for every task, as an evaluation that is grouped by expert."""
    hidden = torch.zeros(())
    with torch.no_grad():
        for name in routed.names:
            with routed.route(name):
                hidden = model.decoder(ids, use_cache=False).last_hidden_state
    return [hidden * model.scale]


@case(
    "expert files",
    {str(count): count for count in (4, 32)},
    facts=lambda count: {**_SIZE, "value": count},
    precisions=("float32",),
    memory=("peak",),
)
def expert_files(setting: Setting, count: int) -> dict[str, Variant]:
    """An evaluation that routes to each of so many experts once."""
    return {name: _variant(setting, count, name) for name in _HOW if setting.only in (None, name)}


def _variant(setting: Setting, count: int, how: str) -> Variant:
    model = _Decoder(setting.quick)
    routed = attach_experts(model.decoder, r"\.mlp$")
    folder = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    weakref.finalize(model, shutil.rmtree, folder, ignore_errors=True)
    names = [f"task_{position}" for position in range(count)]
    routed.add_task(names[0])
    first = routed.save_task(names[0], folder)
    routed.remove_task(names[0])
    for name in names[1:]:
        os.link(first, folder / f"expert_{name}.safetensors")
    if how == "all loaded":
        for name in names:
            routed.load_task(name, load_file(folder / f"expert_{name}.safetensors"))
    else:
        routed.open_tasks(folder, names, resident=1)
    model.scale.requires_grad_()
    model.to(setting.device)
    ids = torch.ones(1, _TOKENS, dtype=torch.long, device=setting.device)
    return Variant(model, partial(_answer, model, routed, ids), whole=True)
