"""AVMoE's whole network around toy towers, against the papers' own driver."""

from __future__ import annotations

from functools import partial

import torch
from _close import assert_close
from _golden import Golden
from avtasks.ave import AVEHead, convert_head
from torch import Tensor, nn

import avexperts as ax
from avexperts.checkpoints import convert

STAGES = {"vision": ((8, 8, 12, 16), (2, 2, 18, 2)), "audio": ((4, 8, 8, 12), (2, 2, 6, 2))}


class VisualBlock(nn.Module):
    """Residual post-norm, as Swin-V2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attn, self.mlp = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def attention_branch(self, x: Tensor) -> Tensor:
        return x + self.norm1(self.attn(x).tanh())

    def mlp_branch(self, x: Tensor) -> Tensor:
        return x + self.norm2(self.mlp(x))


class AudioBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.lin = nn.LayerNorm(dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.lin(self.norm1(x)).tanh()


class Stage(nn.Module):
    def __init__(self, block: type[nn.Module], dim: int, depth: int, next_dim: int | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block(dim) for _ in range(depth))
        self.downsample = nn.Module()
        if next_dim:
            self.downsample.reduction = nn.Linear(2 * dim, next_dim, bias=False)


class Tower(nn.Module):
    def __init__(self, block: type[nn.Module], dims: tuple[int, ...], depths: tuple[int, ...], norm: bool) -> None:
        super().__init__()
        following = [*dims[1:], None]
        self.layers = nn.ModuleList(Stage(block, *row) for row in zip(dims, depths, following, strict=True))
        if norm:
            self.norm = nn.LayerNorm(dims[-1])


def open_tower(tower: Tower, x: Tensor, visual: bool):
    for s, stage in enumerate(tower.layers):
        for b, block in enumerate(stage.blocks):
            name = f"stages.{s}.blocks.{b}"
            first = block.attention_branch if visual else block
            x = yield ax.Site(f"{name}.first", x, first)
            x = yield ax.Site(f"{name}.second", x, block.mlp_branch if visual else nn.Identity())
        if hasattr(stage.downsample, "reduction"):
            x = stage.downsample.reduction(x.unflatten(1, (-1, 2)).flatten(2))
    return tower.norm(x) if visual else x


def build() -> ax.LockStep:
    towers = {
        "vision": (Tower(VisualBlock, *STAGES["vision"], norm=True), (16, 8), True),
        "audio": (Tower(AudioBlock, *STAGES["audio"], norm=False), (24, 4), False),
    }
    streams = {
        name: ax.open_backbone(tower, size, opener=partial(open_tower, visual=visual))
        for name, (tower, size, visual) in towers.items()
    }
    return ax.methods.avmoe(
        **streams,
        num_latents=3,
        reduction=2,
        batch_norm=True,
        unimodal_activation=None,
        router_hidden=(8, 4),
        skip_every=2,
        towers="trainable",
    )


def test_paired_blocks_are_the_last_of_each_group() -> None:
    blocks = [pairing["vision"] for pairing in build().pairings[::2]]
    stage3 = [f"stages.2.blocks.{i}.first" for i in (2, 5, 8, 11, 14, 17)]
    assert blocks == ["stages.0.blocks.0.first", "stages.0.blocks.1.first", *stage3]


def towers_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"{ours}.{key.removeprefix(theirs + '.')}": value
        for theirs, ours in (("swin", "vision"), ("htsat", "audio"))
        for key, value in tensors.items()
        if key.startswith(theirs + ".")
    }


def test_the_papers_whole_network_forward_and_backward() -> None:
    case = Golden("avmoe", "lockstep_skip2")
    model = build().double().eval()
    model.adapters["default"].load_state_dict(convert.avmoe(case.w))
    model.towers.load_state_dict(towers_state(case.w))
    head = AVEHead(16, 12, num_classes=5, dim=8, vision_hidden=12, audio_hidden=8, feedforward=16).double().eval()
    head.load_state_dict(convert_head(case.w, head.state_dict())[0])

    inputs = {key: value.clone().requires_grad_() for key, value in getattr(case, "in").items()}
    out = model(vision=inputs["f_v"], audio=inputs["f_a"])
    pooled = {"pooled_visual": out.vision.mean(1)[None], "pooled_audio": out.audio.mean(1)[None]}
    said = head({"vision": pooled["pooled_visual"], "audio": pooled["pooled_audio"]})
    outputs = pooled | {
        "is_event_scores": said.event_gate.mT[..., None],
        "event_scores": said.event,
        "av_score": said.activation,
    }
    sum((outputs[key] * cot).sum() for key, cot in case.cot.items()).backward()

    for key, value in outputs.items():
        assert_close(value, case.out[key], what=key)
    for ours, theirs in (("vision", "video"), ("audio", "audio")):
        chosen = [probs.argmax(-1) for site, probs in out.routing.items() if site.startswith(ours)]
        for part in (0, 1):
            expected = case.out[f"top_expert_{theirs}_p{part + 1}"]
            assert torch.equal(torch.stack(chosen[part::2]).to(expected.dtype), expected)
    for key, value in case.gin.items():
        assert_close(inputs[key].grad, value, gradient=True, what=key)
    parameters = dict(model.adapters["default"].named_parameters()) | dict(model.towers.named_parameters())
    gradients = convert.avmoe(case.grad) | towers_state(case.grad)
    assert len(gradients) == 32 * 8 + 17 + 9
    for key, value in gradients.items():
        assert_close(parameters[key].grad, value, gradient=True, what=key)
