"""AVMoE's question answering network around toy towers, against the papers' own driver."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from _avqa_names import names_of_head, part
from _close import assert_close
from _papers_towers import AudioBlock, Stage, VisualBlock
from avtasks.avqa import AVQAHead, convert_head
from avtasks.model import TowerModel
from safetensors.torch import load_file
from torch import Tensor, nn

import avexperts as ax

GOLDEN = Path(__file__).parents[2] / "golden" / "avmoe_avqa_avs" / "avqa_full_moe_skip1.safetensors"


class Sees(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 1)
        self.layers = nn.ModuleList([Stage(VisualBlock, 8, 2, 16), Stage(VisualBlock, 16, 18, None)])
        self.norm = nn.LayerNorm(16)

    def embed(self, frames: Tensor) -> Tensor:
        return self.proj(frames).flatten(2).mT


class Hears(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn0, self.proj = nn.BatchNorm2d(3), nn.Linear(3, 4)
        self.layers = nn.ModuleList([Stage(AudioBlock, 4, 2, 12), Stage(AudioBlock, 12, 6, None)])
        self.norm = nn.Identity()

    def embed(self, wave: Tensor) -> Tensor:
        samples = wave.unflatten(1, (1, 16, 3)).transpose(1, 3)
        return self.proj(self.bn0(samples).transpose(1, 3)[:, 0])


def open_tower(tower: nn.Module, x: Tensor, visual: bool):
    x = tower.embed(x)
    for s, stage in enumerate(tower.layers):
        for b, block in enumerate(stage.blocks):
            name = f"stages.{s}.blocks.{b}"
            x = yield ax.Site(f"{name}.first", x, block.attention_branch if visual else block)
            x = yield ax.Site(f"{name}.second", x, block.mlp_branch if visual else nn.Identity())
        if hasattr(stage.downsample, "reduction"):
            x = stage.downsample.reduction(x.unflatten(1, (-1, 4)).flatten(2))
    return tower.norm(x)


def build() -> TowerModel:
    vision = ax.open_backbone(Sees(), (3, 12, 12), opener=partial(open_tower, visual=True))
    audio = ax.open_backbone(Hears(), (48,), opener=partial(open_tower, visual=False))
    towers = ax.methods.avmoe(
        vision,
        audio,
        cross_experts=1,
        unimodal_experts=2,
        num_latents=2,
        reduction=2,
        groups=2,
        gate={"vision": True, "audio": False},
        unimodal_activation=None,
        router_hidden=(6, 5),
    )
    head = AVQAHead(93, 7, dim=16, audio_dim=12, hidden=(10, 8, 6))
    return TowerModel(towers, nn.Identity(), head).eval()


def adapters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if "_adapter_blocks_" in key}


def test_the_papers_whole_network_forward_and_backward() -> None:
    golden = load_file(GOLDEN)
    weights, model = part(golden, "w."), build()
    model.towers.adapters["default"].load_state_dict(ax.convert.avmoe(adapters(weights)))
    towers = {"swin.": "vision.", "htsat.": "audio."}
    state = {ours + key: value for theirs, ours in towers.items() for key, value in part(weights, theirs).items()}
    model.towers.towers.load_state_dict(state)
    model.head.load_state_dict(convert_head(weights, model.head.state_dict())[0])

    with torch.no_grad(), model.towers.disable_adapters():
        negative = model.towers(vision=golden["visual_nega"].flatten(0, 1)).vision.unflatten(0, (2, 2))
    batch = {"frames": golden["visual_posi"], "waveform": golden["audio"], "question": golden["question"][:, None]}
    said, out = model(batch | {"negative": negative})
    pairs = torch.stack([said.match, said.mismatch], 2).reshape(-1, 2)
    loss = sum(said.losses(golden["target"][:, None]).values())
    found = {"out_qa": said.answer[:, 0], "match_logits": pairs, "loss": loss}
    found |= {"match_posi": said.match.flatten(0, 1), "match_nega": said.mismatch.flatten(0, 1)}
    for name, value in found.items():
        assert_close(value, golden[name], what=name)
    for ours, theirs in (("vision", "video"), ("audio", "audio")):
        chosen = [probs.argmax(-1) for site, probs in out.routing.items() if site.startswith(ours)]
        for place in (0, 1):
            assert torch.equal(torch.stack(chosen[place::2]), golden[f"expert_index.{theirs}.p{place + 1}"])

    loss.backward()
    gradients = part(golden, "grad.")
    assert len(gradients) == 12
    heads = {name: value for name, value in gradients.items() if name not in adapters(gradients)}
    names = names_of_head(weights, model.head.state_dict())
    for name, value in heads.items():
        assert_close(model.head.get_parameter(names[name]).grad, value, gradient=True, what=name)
    whole = {name: gradients.get(name, torch.zeros_like(value)) for name, value in adapters(weights).items()}
    stored = {name: torch.full_like(value, name in gradients) for name, value in adapters(weights).items()}
    stored, compared = ax.convert.avmoe(stored), 0
    for name, value in ax.convert.avmoe(whole).items():
        if stored[name].all():
            parameter = model.towers.adapters["default"].get_parameter(name)
            assert_close(parameter.grad, value, gradient=True, what=name)
            compared += 1
    assert compared + len(heads) == 12
