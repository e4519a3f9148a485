"""The papers' tiny whole model, built of our parts and filled with stored weights."""

from __future__ import annotations

import json
from typing import Any

import torch
from _figures import record
from _golden import GOLDEN, Golden
from avtasks.avlm import (
    AudioVisualLM,
    BeatsConfig,
    BeatsEncoder,
    BeatsTower,
    ClipTower,
    FrameMeanProjector,
    QueryAligner,
    convert_avlm,
)
from safetensors import safe_open
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM


def metadata(case: str) -> dict[str, Any]:
    with safe_open(GOLDEN / "avqacl" / f"{case}.safetensors", "pt") as file:
        return {name: _parsed(value) for name, value in file.metadata().items()}


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return value


def group(case: str, prefix: str) -> dict[str, Tensor]:
    return getattr(Golden("avqacl", case), prefix)


def close(actual: Tensor, expected: Tensor, observed: float, what: str = "") -> None:
    """Compare within ten times what the papers' code differs from itself in float64, as rounding adds up in depth."""
    torch.testing.assert_close(
        actual.float(), expected, rtol=0, atol=max(1e-5, 10 * observed), msg=lambda text: f"{what}: {text}"
    )
    record("papers' vectors of AVQACL, largest deviation", (actual - expected).abs().max().item())


def papers_stack(case: str) -> AudioVisualLM:
    """The sizes are the same in all of the stored cases with whole models."""
    sizes = metadata("multimodal_splice")
    clip, llama, qformer = sizes["clip"], sizes["llama"], sizes["qformer"]
    seeing = CLIPVisionConfig(
        hidden_size=clip["hidden"],
        intermediate_size=clip["intermediate"],
        num_hidden_layers=clip["layers"],
        num_attention_heads=clip["heads"],
        image_size=clip["image"],
        patch_size=clip["patch"],
        hidden_act=clip["act"],
    )
    speaking = LlamaConfig(
        vocab_size=llama["vocab"],
        hidden_size=llama["hidden"],
        intermediate_size=llama["intermediate"],
        num_hidden_layers=llama["layers"],
        num_attention_heads=llama["heads"],
        rms_norm_eps=llama["rms_norm_eps"],
        pad_token_id=0,
    )
    width = llama["hidden"]
    hearing = BeatsTower(BeatsEncoder(BeatsConfig.of(sizes["beats"])), chunk_seconds=1)
    hearing.chunk_samples, hearing.tokens = 430, 10  # the stored filter banks are tiny
    model = AudioVisualLM(
        LlamaForCausalLM(speaking),
        vision=ClipTower(CLIPVisionModel(seeing)),
        audio=hearing,
        projector=FrameMeanProjector(clip["hidden"], width),
        aligner=QueryAligner(
            hearing.width,
            width,
            queries=qformer["queries"],
            layers=qformer["layers"],
            heads=qformer["heads"],
            hidden=qformer["hidden"],
            mlp=qformer["intermediate"],
        ),
    )
    base = group(case, "base")
    model.load_state_dict(convert_avlm(base, model))
    return model


def media(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The papers' inputs under our names; their padding masks are of samples, and padding is at the end."""
    sound = tensors["input_features"].squeeze(2)
    lengths = (1 - tensors["padding_masks"].squeeze(2)).sum(-1).long()
    return {"video": tensors["videos"], "audio": sound, "audio lengths": lengths}
