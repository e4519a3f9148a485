"""PVT-v2 and ResNet: pyramids for decoders over several scales."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from _close import assert_close
from _drive import Driver, drive
from _golden import Golden
from _towers import FAMILIES, open_gates
from torch import Tensor, nn

import avexperts as ax

SIZE = (3, 64, 64)


def timm_resnet(block: str = "BasicBlock", **options) -> nn.Module:
    from timm.models import resnet

    return resnet.ResNet(getattr(resnet, block), (1, 2, 1, 2), num_classes=0, channels=(8, 8, 16, 16), **options)


def transformers_resnet(kind: str = "basic") -> nn.Module:
    from transformers import ResNetConfig, ResNetModel

    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2]}
    return ResNetModel(ResNetConfig(layer_type=kind, **sizes))


RESNETS = {
    "timm-basic": timm_resnet,
    "timm-bottleneck": lambda: timm_resnet("Bottleneck"),
    "timm-deep-stem": lambda: timm_resnet(stem_type="deep", stem_width=8, avg_down=True, replace_stem_pool=True),
    "basic": transformers_resnet,
    "bottleneck": lambda: transformers_resnet("bottleneck"),
}
EVERY_RESNET = pytest.mark.parametrize("name", RESNETS)


def maps_of(model: nn.Module, images: Tensor) -> Tensor:
    """The last map, not pooled."""
    return model.forward_features(images) if hasattr(model, "layer4") else model(images).last_hidden_state


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    model = RESNETS[name]().train()
    for _ in range(3):  # statistics of their own
        maps_of(model, torch.randn(4, *SIZE))
    return model.eval()


@EVERY_RESNET
def test_a_resnet_alone_is_the_backbone(name: str) -> None:
    model, images = build(name), torch.randn(2, *SIZE)
    stream = ax.open_backbone(model, SIZE)
    with torch.no_grad():
        tokens, sites = drive(stream(images))
        # Tokens last means channels last, for which convolutions may sum in another order.
        assert_close(tokens, maps_of(model, images).flatten(2).mT, gradient=True)
    assert [site.name for site in sites] == [row.name for row in stream.sites]
    assert [row.name.rpartition(".")[2] for row in stream.sites] == ["block", "out"] * (len(sites) // 2)


@EVERY_RESNET
def test_a_resnet_gives_the_maps_of_its_stages(name: str) -> None:
    model, images = build(name), torch.randn(2, *SIZE)
    stages = (
        [model.layer1, model.layer2, model.layer3, model.layer4] if hasattr(model, "layer4") else model.encoder.stages
    )
    seen: list[Tensor] = []
    for stage in stages:
        stage.register_forward_hook(lambda _m, _a, out: seen.append(out.flatten(2).mT))
    maps_of(model, images)
    lock = ax.LockStep({"it": ax.open_backbone(model, SIZE)}, taps=[f"it.stages.{s}" for s in range(len(stages))])
    for tokens, expected in zip(lock(it=images).taps.values(), seen, strict=True):
        assert_close(tokens, expected, gradient=True)


def test_a_resnet_has_no_sublayers() -> None:
    with pytest.raises(
        ValueError, match="no attention and no MLP to add beside: open this model with granularity='block'"
    ):
        ax.open_backbone(timm_resnet(), SIZE, granularity="sublayer")


def test_a_resnet_compiles_in_one_graph() -> None:
    torch._dynamo.reset()
    model, images = build("timm-bottleneck"), torch.randn(2, *SIZE)
    stream = ax.open_backbone(model, SIZE)
    driver = Driver(model, stream.opener)
    assert_close(torch.compile(driver, fullgraph=True, backend="eager")(images), driver(images), gradient=True)


def test_a_resnet_meets_a_spectrogram_tower() -> None:
    torch.manual_seed(0)
    audio = FAMILIES["clap-audio"]
    options = {"pairing": "even", "granularity": {"vision": "block", "audio": "block"}, "num_latents": 2}
    sizes = {"frame_size": SIZE, "audio_size": audio.size, "groups": 1}
    model = ax.methods.avmoe(build("timm-basic"), audio.build(), **options, **sizes)
    inputs = {"vision": torch.randn(2, *SIZE), "audio": torch.randn(2, *audio.size)}
    bare = maps_of(model.towers["vision"], inputs["vision"]).flatten(2).mT
    assert_close(model(inputs).vision, bare, gradient=True)
    assert not torch.allclose(open_gates(model)(inputs).vision, bare, atol=1e-3)


@pytest.mark.parametrize("name", ["timm-basic", "basic"])
def test_recomputed_blocks_count_their_batch_once(name: str) -> None:
    models = []
    for checkpoint in (None, "towers"):
        tower = copy.deepcopy(build(name))
        model = ax.LockStep({"it": ax.open_backbone(tower, SIZE)}, towers="trainable", checkpoint=checkpoint).train()
        torch.manual_seed(1)
        model(it=torch.randn(4, *SIZE)).it.square().sum().backward()
        models.append(tower)
    plain, again = (dict(model.named_buffers()) for model in models)
    for buffer, value in plain.items():
        assert_close(again[buffer], value, what=buffer)
    for (parameter, value), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        if value.grad is not None:
            scale = value.grad.abs().max().item()
            torch.testing.assert_close(other.grad, value.grad, rtol=1e-4, atol=1e-5 * scale, msg=parameter)


def pvt_from_the_papers(state: dict[str, Tensor]) -> nn.Module:
    """timm's PVT-v2 with weights under the published names."""
    from timm.models.pvt_v2 import PyramidVisionTransformerV2

    dims = {"embed_dims": (8, 12, 16, 24), "num_heads": (1, 2, 2, 4), "depths": (1, 2, 1, 1)}
    model = PyramidVisionTransformerV2(num_classes=0, mlp_ratios=(4, 4, 2, 2), sr_ratios=(8, 4, 2, 1), **dims)

    def ours(key: str) -> str:
        key = re.sub(r"^patch_embed1\.", "patch_embed.", key)
        key = re.sub(r"^patch_embed(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.downsample.", key)
        key = re.sub(r"^block(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.blocks.", key)
        return re.sub(r"^norm(\d)\.", lambda m: f"stages.{int(m[1]) - 1}.norm.", key).replace("dwconv.dwconv", "dwconv")

    model.load_state_dict({ours(key): value for key, value in state.items()})
    for name, norm in model.named_modules():
        if isinstance(norm, nn.LayerNorm):  # the papers' epsilon: 1e-6 where the factory is handed down, else 1e-5
            inside = re.search(r"blocks\.\d+\.norm|stages\.\d\.norm$", name)
            norm.eps = 1e-6 if inside else 1e-5
    return model.eval()


def test_pvt_v2_gives_the_published_stages() -> None:
    case = Golden("avmoe_avqa_avs", "pvt_v2_small")
    model = pvt_from_the_papers(case.w)
    lock = ax.LockStep({"vision": ax.open_backbone(model, SIZE)}, taps=[f"vision.stages.{s}" for s in range(4)])
    with torch.no_grad():
        out = lock(vision=case.tensors["x"])
    for index, tokens in enumerate(out.taps.values()):
        expected = case.tensors[f"stage{index + 1}"].flatten(2).mT
        # both are float32, whose error here is 1e-5 by the reference data
        assert_close(model.stages[index].norm(tokens), expected, gradient=True)
    assert_close(out.vision, model.stages[3].norm(out.taps["vision.stages.3"]))
