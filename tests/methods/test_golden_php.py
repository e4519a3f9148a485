"""PHP's whole network, three depths wired into CLIP and HTS-AT, against the paper's own driver."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from _close import assert_close
from _golden import Golden
from torch import Tensor, nn

import avexperts as ax
from avexperts.checkpoints import convert

transformers = pytest.importorskip("transformers")

CLIP = {
    "hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 128,
    "patch_size": 8, "image_size": 16, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
CLAP = {
    "spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4], "patch_embeds_hidden_size": 4,
    "depths": [2, 2, 2], "num_attention_heads": [1, 2, 4], "window_size": 4, "hidden_size": 16, "drop_path_rate": 0.0,
    "hidden_dropout_prob": 0.0, "enable_fusion": False,
}  # fmt: skip
BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}


def inside(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}


def clip_state(theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    ours = {
        "embeddings.class_embedding": theirs["class_embedding"],
        "embeddings.position_embedding.weight": theirs["positional_embedding"],
        "embeddings.patch_embedding.weight": theirs["conv1.weight"],
    }
    for name, new in (("ln_pre", "pre_layrnorm"), ("ln_post", "post_layernorm")):
        ours |= {f"{new}.{key}": value for key, value in inside(theirs, f"{name}.").items()}
    for key, value in inside(theirs, "transformer.resblocks.").items():
        index, _, rest = key.partition(".")
        layer = f"encoder.layers.{index}"
        if "in_proj" in rest:
            kind = rest.rpartition("_")[2]
            for name, part in zip("qkv", value.chunk(3), strict=True):
                ours[f"{layer}.self_attn.{name}_proj.{kind}"] = part
        else:
            part, kind = rest.rsplit(".", 1)
            ours[f"{layer}.{BLOCK.get(part, part.replace('attn.', 'self_attn.'))}.{kind}"] = value
    return ours


def build(weights: Mapping[str, Tensor]) -> ax.LockStep:
    clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**CLIP))
    tower = getattr(clip, "vision_model", clip)
    tower.load_state_dict(clip_state(inside(weights, "ViT.")), strict=False)
    clap = transformers.ClapAudioModel(transformers.ClapAudioConfig(**CLAP))
    body = {key: value for key, value in inside(weights, "htsat.").items() if not key.startswith(("tscam", "head"))}
    clap.load_state_dict(convert.htsat(body))
    model = ax.methods.php(
        ax.open_backbone(clip, (3, 16, 16), embed=True),
        ax.open_backbone(clap, (1, 256, 16), granularity="block", final_norm=False),
        tasks=["ave"],
        deep=(5,),
        num_latents=4,
        reduction={"audio": 2, "vision": 8},
        memory_size=12,
        mid_length=4,
        mid_heads=2,
        mid_depth=2,
        mid_dim_head=8,
        deep_length=3,
        legacy_layout=True,
        frames_per_clip=10,
    )
    return model.double().eval()


@pytest.mark.parametrize("checkpoint", [None, "all"])
def test_the_papers_whole_network_forward_and_backward(checkpoint: str | None) -> None:
    case = Golden("php", "tri_stage_forward")
    model = build(case.w)
    model.checkpoint = checkpoint
    stack = model.prompts
    stack.load_shared_state(convert.php(case.w, part="shared", like=model))
    stack.load_task_state("ave", convert.php(case.w, part="task", like=model))
    inputs = getattr(case, "in")
    out = model(vision=inputs["images"].double(), audio=inputs["logmel"].double())
    for ours, theirs in (("vision", "visual_tokens"), ("audio", "audio_tokens")):
        assert_close(out.tokens[ours].float(), case.out[theirs], what=theirs)
    projected = nn.functional.layer_norm(
        out.vision[:, 0], (32,), case.w["ViT.ln_post.weight"].double(), case.w["ViT.ln_post.bias"].double()
    )
    assert_close((projected @ case.w["ViT.proj"].double()).float(), case.out["x"], what="x")
    ((out.vision * inputs["cot_visual"]).sum() + (out.audio * inputs["cot_audio"]).sum()).backward()
    theirs = {key.removeprefix("w."): value for key, value in case.grad.items()}
    gradients = convert.php(theirs, part="shared") | {
        f"plastic.{key.replace('.', '.tasks.ave.', 1)}": value
        for key, value in convert.php(theirs, part="task").items()
    }
    assert len(gradients) == 33
    parameters = dict(stack.named_parameters())
    for key, expected in gradients.items():
        assert_close(parameters[key].grad.float(), expected.float().view_as(parameters[key]), gradient=True, what=key)
    without = {key for key, parameter in parameters.items() if parameter.grad is None}
    assert without == {"plastic.deep.tasks.ave.keys"}
