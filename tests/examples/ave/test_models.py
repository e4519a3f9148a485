from __future__ import annotations

import pytest
import torch
from avtasks import ave
from avtasks.model import AdapterSettings, FeatureModel, TowerModel, couple, parameter_groups
from avtasks.towers import Towers, build_small_towers
from avtasks.towers.small_towers import AUDIO
from avtasks.training import Recipe

import avexperts as ax


@pytest.fixture(scope="module")
def towers() -> Towers:
    torch.manual_seed(0)
    return Towers(*build_small_towers(), ax.HTSATFrontEnd(clip_samples=None), (3, 64, 64), (1, 101, 64))


def batch(clips: int = 2, seconds: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "frames": torch.randn(clips, seconds, 3, 64, 64, generator=generator),
        "waveform": torch.randn(clips, seconds, 32000, generator=generator),
    }


def read(model: TowerModel, clips: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    features, _ = model.features(clips)
    return [features["vision"], features["audio"]]


def test_sound_may_come_as_waveform_or_through_the_front_end(towers):
    model = TowerModel(couple(towers, AdapterSettings(), (1, 1)), towers.front_end, ave.SegmentHead(128, 128)).eval()
    raw = batch()
    prepared = {"frames": raw["frames"], "mel": towers.front_end(raw["waveform"].flatten(0, 1)).unflatten(0, (2, 3))}
    for one, other in zip(read(model, raw), read(model, prepared), strict=True):
        assert one.shape == (2, 3, 128)
        assert torch.equal(one, other)


def test_a_clip_keeps_its_place_in_the_folded_batch(towers):
    model = TowerModel(couple(towers, AdapterSettings(), None), towers.front_end, ave.SegmentHead(128, 128)).eval()
    both = batch()
    second = {name: value[1:] for name, value in both.items()}
    torch.testing.assert_close(read(model, both)[0][1:], read(model, second)[0], rtol=1e-4, atol=1e-5)


def test_fresh_adapters_change_nothing(towers):
    bare = TowerModel(couple(towers, AdapterSettings(), None), towers.front_end, ave.SegmentHead(128, 128)).eval()
    fresh = TowerModel(couple(towers, AdapterSettings(), (1, 1)), towers.front_end, ave.SegmentHead(128, 128)).eval()
    for one, other in zip(read(bare, batch()), read(fresh, batch()), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("experts", "routed"), [((0, 2), 2), ((2, 0), 2), ((1, 1), 2)])
def test_every_row_has_as_many_experts(towers, experts, routed):
    model = couple(towers, AdapterSettings(), experts)
    frames, mel = torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 101, 64)
    routing = model(vision=frames, audio=mel).routing
    assert {probabilities.shape for probabilities in routing.values()} == {(1, routed)}


def test_a_head_sees_only_its_stream():
    head = FeatureModel(ave.SegmentHead(4, 3, num_classes=2, hidden=5), streams=("audio",))
    clips = {"features vision": torch.randn(2, 10, 4), "features audio": torch.randn(2, 10, 3)}
    before = head(clips)[0].logits
    assert torch.equal(before, head(clips | {"features vision": torch.randn(2, 10, 4)})[0].logits)
    assert not torch.equal(before, head(clips | {"features audio": torch.randn(2, 10, 3)})[0].logits)
    with pytest.raises(ValueError, match="'smell'"):
        FeatureModel(head.head, streams=("smell",))


def test_learning_rates_of_head_gates_and_adapters(towers):
    settings = AdapterSettings(head_lr=0.0, gate_lr=0.5)
    head = ave.AVEHead(128, 128, dim=8, vision_hidden=8, audio_hidden=8, feedforward=8)
    model = TowerModel(couple(towers, AdapterSettings(), (1, 1)), towers.front_end, head)
    groups = parameter_groups(model, settings, Recipe(lr=0.1))
    assert [group["lr"] for group in groups] == [0.1, 0.5, 0.1]
    assert sum(p.numel() for p in groups[0]["params"]) == sum(p.numel() for p in head.parameters())
    assert all(p.numel() == 1 for p in groups[1]["params"])
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert sum(p.numel() for group in groups for p in group["params"]) == trained


def test_the_head_without_cmbs():
    class Dataset:
        categories = ave.CATEGORIES

    settings = ave.Settings(head=ave.HeadSettings(cmbs=False))
    assert isinstance(ave.build_head(settings, (8, 6), Dataset()), ave.SegmentHead)


def test_experts_stand_beside_whole_blocks_where_a_tower_has_nothing_else(towers):
    from timm.models import resnet

    blocks = resnet.ResNet(resnet.BasicBlock, (1, 1, 1, 1), num_classes=0, channels=(8, 8, 16, 16))
    deeper = {
        **AUDIO,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [2, 2, 4, 4],
        "hidden_size": 256,
        "window_size": 2,
    }
    pyramid = towers._replace(vision=blocks, audio=build_small_towers(audio=deeper)[1])
    with pytest.raises(ValueError, match="granularity='block'"):
        couple(pyramid, AdapterSettings(), (1, 1))
    model = couple(pyramid, AdapterSettings(granularity="block"), (1, 1))
    out = model(vision=torch.zeros(1, 3, 64, 64), audio=torch.zeros(1, 1, 101, 64))
    assert {name for name in out.routing if name.startswith("vision")} == {
        "vision.stages.2.blocks.0.block",
        "vision.stages.2.blocks.0.out",
    }
