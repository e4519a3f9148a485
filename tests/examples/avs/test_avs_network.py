"""AVMoE's whole segmentation network around toy towers, against the papers' own driver."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from _figures import record
from _golden import Golden
from _papers_towers import AudioBlock, Stage, VisualBlock
from avtasks.avs import AVSHead, convert_head
from torch import Tensor, nn

import avexperts as ax

STAGES = {"vision": ((8, 8, 16, 16), (2, 2, 18, 2)), "audio": ((8, 8, 8, 16), (2, 2, 6, 2))}
CLIPS, FRAMES = 2, 5


class Tower(nn.Module):
    def __init__(self, block: type[nn.Module], dims: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        following = [*dims[1:], None]
        self.layers = nn.ModuleList(Stage(block, *row) for row in zip(dims, depths, following, strict=True))
        if block is VisualBlock:
            self.proj, self.norm = nn.Conv2d(3, dims[0], 3, stride=3), nn.LayerNorm(dims[-1])
        else:
            self.proj, self.bn0 = nn.Linear(3, dims[0]), nn.BatchNorm2d(3)


def open_tower(tower: Tower, x: Tensor, visual: bool):
    if visual:
        x = tower.proj(x).flatten(2).mT
    else:
        x = tower.proj(tower.bn0(x.unflatten(1, (1, -1, 3)).transpose(1, 3)).transpose(1, 3).squeeze(1))
    for s, stage in enumerate(tower.layers):
        for b, block in enumerate(stage.blocks):
            name = f"stages.{s}.blocks.{b}"
            x = yield ax.Site(f"{name}.first", x, block.attention_branch if visual else block)
            x = yield ax.Site(f"{name}.second", x, block.mlp_branch if visual else nn.Identity())
        if hasattr(stage.downsample, "reduction"):
            x = stage.downsample.reduction(x.unflatten(1, (-1, 4)).flatten(2))
    return tower.norm(x) if visual else x


def build() -> ax.LockStep:
    towers = {
        "vision": (Tower(VisualBlock, *STAGES["vision"]), (3, 24, 24), True),
        "audio": (Tower(AudioBlock, *STAGES["audio"]), (192,), False),
    }
    streams = {
        name: ax.open_backbone(tower.eval(), size, opener=partial(open_tower, visual=visual))
        for name, (tower, size, visual) in towers.items()
    }
    return ax.methods.avmoe(
        **streams,
        cross_experts=2,
        unimodal_experts=2,
        num_latents=5,
        reduction=2,
        unimodal_activation=None,
        self_attention="latents",
        gate={"vision": True, "audio": False},
        router_hidden=(16, 8),
        router_noise=0.01,
        balance="upstream",
        skip_every=2,
        taps=[f"vision.stages.{stage}" for stage in range(3)],
        towers="trainable",
    )


def towers_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"{ours}.{key.removeprefix(theirs + '.')}": value
        for theirs, ours in (("swin", "vision"), ("htsat", "audio"))
        for key, value in tensors.items()
        if key.startswith(theirs + ".")
    }


def close(actual: Tensor, expected: Tensor, what: str) -> None:
    # 24 float32 blocks and as many mixtures: upstream itself is 2e-5 (gradients 6e-6) from its float64 run
    torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-3, msg=lambda text: f"{what}: {text}")


def test_the_papers_whole_network_forward_and_backward() -> None:
    case = Golden("avmoe_avqa_avs", "avs_ms3_full_skip2")
    stored, model = case.tensors, build().eval()
    model.adapters["default"].load_state_dict(ax.convert.avmoe(case.w))
    model.towers.load_state_dict(towers_state(case.w))
    sizes = {"channels": 8, "audio_channels": 16, "hidden": (16, 8), "feedforward": 12, "gamma": 0.1}
    head = AVSHead((8, 8, 16, 16), 16, mask_size=32, **sizes).eval()
    head.load_state_dict(convert_head(case.w, head.state_dict())[0])

    frames = F.interpolate(stored["images"].flatten(0, 1), (24, 24), mode="bicubic", align_corners=False)
    out = model(vision=frames, audio=stored["audio"].flatten(0, 1))
    features = {name: value.unflatten(0, (CLIPS, FRAMES)) for name, value in head.read(out).items()}
    said = head(features)

    close(said.logits.flatten(0, 1), stored["pred"], "pred")
    for stage in range(4):
        close(said.maps[stage].flatten(0, 1), stored[f"feature_map.{stage}"], f"feature_map.{stage}")
        close(said.audio[stage], stored[f"a_fea.{stage}"], f"a_fea.{stage}")
    close(out.aux_loss, stored["load_balance"], "load_balance")
    for ours, theirs in (("vision", "video"), ("audio", "audio")):
        probs = [value for site, value in out.routing.items() if site.startswith(ours)]
        for part in (0, 1):
            close(torch.stack(probs[part::2]), stored[f"gate_probs.{theirs}.p{part + 1}"], f"{theirs} p{part + 1}")

    loss = (said.logits.flatten(0, 1) * stored["probe"]).mean() + 0.01 * out.aux_loss
    loss = loss + 0.1 * sum(features.mean() for features in said.maps) + sum(sound.mean() for sound in said.audio)
    close(loss, stored["loss"].float(), "loss")
    loss.backward()
    adapters = {key: value for key, value in case.w.items() if "adapter_blocks" in key}
    gradients = ax.convert.avmoe({key: case.grad.get(key, value * torch.nan) for key, value in adapters.items()})
    heads = {
        "audio_linear.bias": head.audio_in.bias,
        "x1_linear_.weight": head.vision_in[0].weight,
        "path2.resConfUnit1.conv1.bias": head.decoder.paths[1].refine_skip.conv1.bias,
        "temporal_attn.audio_gated.1.0.weight": head.gate.stages[1].audio_gate.weight,
        "tpavi_b1.theta.bias": head.tpavi["0"].query.bias,
        "tpavi_b4.align_channel.bias": head.tpavi["3"].audio_in.bias,
    }
    parameters = dict(model.adapters["default"].named_parameters())
    compared = [(key, heads[key].grad, case.grad[key]) for key in heads]
    compared += [(key, parameters[key].grad, value) for key, value in gradients.items() if not value.isnan().any()]
    assert len(compared) == len(case.grad)
    for key, actual, expected in compared:
        close(actual, expected, key)
    record(
        "papers' segmentation network, float32, largest deviation",
        (said.logits.detach().flatten(0, 1) - stored["pred"]).abs().max(),
    )
