from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from _drive import Driver, drive
from _towers import FAMILIES, Family
from torch import Tensor, nn

from avexperts.streams import timm, transformers
from avexperts.streams._known import check_forward
from avexperts.streams._stream import Opener

BOTH = pytest.mark.parametrize("granularity", ["sublayer", "block"])


def _timm_vit(**config) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0, **config)


def _timm_swinv2(**config) -> nn.Module:
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    size = {"img_size": 32, "embed_dim": 8, "depths": (2, 2), "num_heads": (1, 2), "num_classes": 0}
    return SwinTransformerV2(**size, **config)


def _timm_pvt(**config) -> nn.Module:
    from timm.models.pvt_v2 import PyramidVisionTransformerV2

    size = {"depths": (2, 2), "embed_dims": (8, 16), "num_heads": (1, 2), "sr_ratios": (4, 1), "mlp_ratios": (2, 2)}
    return PyramidVisionTransformerV2(num_classes=0, **size, **config)


def _transformers_pvt() -> nn.Module:
    from transformers import PvtV2Config, PvtV2Model

    size = {"depths": [2, 2], "hidden_sizes": [8, 16], "num_attention_heads": [1, 2], "sr_ratios": [4, 1]}
    rest = {"mlp_ratios": [2, 2], "patch_sizes": [7, 3], "strides": [4, 2], "num_encoder_blocks": 2}
    return PvtV2Model(PvtV2Config(**size, **rest))


def _transformers_swin(kind: str) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        image_size=36, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=3
    )
    return getattr(transformers, f"{kind}Model")(config)


VARIANTS = {
    "timm-vit-registers": Family(
        partial(_timm_vit, reg_tokens=2, no_embed_class=True, init_values=0.1, pre_norm=True), (3, 16, 16)
    ),
    "timm-vit-patches-only": Family(
        partial(_timm_vit, class_token=False, global_pool="avg", fc_norm=False), (3, 16, 16)
    ),
    "timm-vit-any-size": Family(partial(_timm_vit, dynamic_img_size=True), (3, 24, 16)),
    "timm-swinv2-any-size": Family(partial(_timm_swinv2, window_size=4, strict_img_size=False), (3, 48, 40)),
    "timm-pvt": Family(partial(_timm_pvt), (3, 64, 64)),
    "timm-pvt-linear-oblong": Family(partial(_timm_pvt, linear=True), (3, 96, 64)),
    "pvt": Family(_transformers_pvt, (3, 64, 48)),
    "swin-odd-map": Family(partial(_transformers_swin, "Swin"), (3, 36, 36)),
    "swinv2-odd-map": Family(partial(_transformers_swin, "Swinv2"), (3, 36, 36)),
}
EVERY = FAMILIES | VARIANTS
HIERARCHICAL = {name for name in EVERY if "swin" in name or "clap" in name or "pvt" in name}


def find(model: nn.Module) -> Opener:
    known = timm.OPENERS | transformers.OPENERS
    return next(known[name] for cls in type(model).__mro__ if (name := f"{cls.__module__}.{cls.__qualname__}") in known)


def random_weights(model: nn.Module) -> nn.Module:
    # some towers start with zero norms, behind which a wrong branch would hide
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def build(family: Family) -> nn.Module:
    torch.manual_seed(0)
    return random_weights(family.build()).eval()


def reference(model: nn.Module, inputs: Tensor) -> Tensor:
    if hasattr(model, "stages"):  # timm's PVT-v2 ends with a map
        return model.forward_features(inputs).flatten(2).mT
    if hasattr(model, "forward_features"):
        tokens = model.forward_features(inputs)
        return tokens.flatten(1, 2) if tokens.dim() == 4 else tokens
    tokens = model(inputs).last_hidden_state
    return tokens.flatten(2).mT if model.config.model_type == "pvt_v2" else tokens


def like_reference(model: nn.Module, tokens: Tensor) -> Tensor:
    """What the model makes of its tokens: CLAP folds the groups of mels that its square image stacks."""
    if not hasattr(model, "audio_encoder"):
        return tokens
    encoder = model.audio_encoder
    time = encoder.input_resolutions[-1][1]
    folded = tokens.mT.unflatten(2, (encoder.freq_ratio, -1, time))
    return folded.transpose(2, 3).flatten(3)


def last_norm(model: nn.Module) -> nn.Module:
    if hasattr(model, "stages"):
        return model.stages[-1].norm
    if (
        hasattr(model, "encoder")
        and hasattr(model.encoder, "layers")
        and hasattr(model.encoder.layers[-1], "layer_norm")
    ):
        return model.encoder.layers[-1].layer_norm
    model = getattr(model, "audio_encoder", model)
    return model.layernorm if hasattr(model, "layernorm") else model.norm


class TestOpeners:
    @pytest.mark.parametrize("batch", [1, 3])
    @BOTH
    @pytest.mark.parametrize("name", EVERY)
    def test_alone_is_the_backbone(self, name, granularity, batch):
        model = build(EVERY[name])
        inputs = torch.randn(batch, *EVERY[name].size)
        with torch.no_grad():
            tokens, _ = drive(find(model)(model, inputs, granularity=granularity))
            expected = reference(model, inputs)
        assert torch.equal(like_reference(model, tokens), expected)

    @pytest.mark.parametrize("name", EVERY)
    def test_input_gradient_is_the_backbones(self, name):
        model = build(EVERY[name])
        inputs = torch.randn(2, *EVERY[name].size, requires_grad=True)
        tokens, _ = drive(find(model)(model, inputs))
        weight = torch.randn_like(like_reference(model, tokens))
        ours, theirs = (
            torch.autograd.grad((out * weight).sum(), inputs)[0]
            for out in (like_reference(model, tokens), reference(model, inputs))
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())

    @BOTH
    @pytest.mark.parametrize("name", EVERY)
    def test_names_and_shapes(self, name, granularity):
        model = build(EVERY[name])
        _, sites = drive(find(model)(model, torch.randn(2, *EVERY[name].size), granularity=granularity))
        parts = ("attn", "mlp") if granularity == "sublayer" else ("block", "out")
        stages = ["stages.0.", "stages.1."] if name in HIERARCHICAL else [""]
        expected = [f"{stage}blocks.{index}.{part}" for stage in stages for index in range(2) for part in parts]
        assert [site.name for site in sites] == expected
        assert all(site.tokens.dim() == 3 and site.tokens.shape[0] == 2 for site in sites)

    @BOTH
    @pytest.mark.parametrize("name", EVERY)
    def test_run_binds_its_block(self, name, granularity):
        model = build(EVERY[name])
        with torch.no_grad():
            _, sites = drive(find(model)(model, torch.randn(1, *EVERY[name].size), granularity=granularity))
            for site, following in pairwise(sites):
                if site.tokens.shape == following.tokens.shape:
                    assert torch.equal(site.run(site.tokens), following.tokens), site.name

    @pytest.mark.parametrize("name", sorted(EVERY.keys() - {"clip-vision"}))
    def test_without_final_norm(self, name):
        model = build(EVERY[name])
        inputs = torch.randn(2, *EVERY[name].size)
        with torch.no_grad():
            bare, _ = drive(find(model)(model, inputs, final_norm=False))
            normed, _ = drive(find(model)(model, inputs))
            norm = last_norm(model)
            assert not torch.equal(bare, normed)
            torch.testing.assert_close(norm(bare), normed)

    def test_clip_never_norms_its_tokens(self):
        model = build(EVERY["clip-vision"])
        inputs = torch.randn(2, *EVERY["clip-vision"].size)
        with torch.no_grad():
            bare, _ = drive(find(model)(model, inputs, final_norm=False))
            assert torch.equal(bare, reference(model, inputs))

    @pytest.mark.parametrize("name", ["vit", "ast", "dinov2", "swin", "swinv2", "clap-audio", "pvt"])
    @BOTH
    def test_training_mode_draws_the_same_dropout(self, name, granularity):
        model = EVERY[name].build()
        rates = ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate")
        config = model.config
        for rate in rates:
            if hasattr(config, rate):
                setattr(config, rate, 0.3)
        model = random_weights(type(model)(config)).train()
        inputs = torch.randn(3, *EVERY[name].size)
        torch.manual_seed(1)
        tokens, _ = drive(find(model)(model, inputs, granularity=granularity))
        torch.manual_seed(1)
        assert torch.equal(like_reference(model, tokens), reference(model, inputs))

    @pytest.mark.parametrize("name", EVERY)
    def test_unknown_granularity(self, name):
        model = build(EVERY[name])
        stream = find(model)(model, torch.randn(1, *EVERY[name].size), granularity="layer")
        with pytest.raises(ValueError, match="'sublayer' or 'block', got 'layer'"):
            stream.send(None)


class TestCompile:
    @pytest.mark.parametrize(
        ("name", "granularity"),
        [
            ("timm-vit", "sublayer"),
            ("timm-swinv2", "sublayer"),
            ("swin", "sublayer"),
            ("clap-audio", "block"),
            ("clip-vision", "block"),
            ("dinov2", "sublayer"),
            ("timm-pvt", "sublayer"),
            ("pvt", "block"),
        ],
    )
    def test_one_graph(self, name, granularity):
        torch._dynamo.reset()
        model = build(EVERY[name])
        inputs = torch.randn(3, *EVERY[name].size)
        driver = Driver(model, find(model), granularity=granularity)
        compiled = torch.compile(driver, fullgraph=True, backend="aot_eager")
        # aot_eager decomposes the bicubic resize of CLAP, hence not torch.equal
        torch.testing.assert_close(compiled(inputs), driver(inputs), rtol=1e-5, atol=1e-5)
        compiled(inputs).sum().backward()

    @pytest.mark.parametrize(("name", "granularity"), [("timm-swinv2", "sublayer"), ("clap-audio", "block")])
    def test_export_with_any_batch(self, name, granularity):
        model = build(EVERY[name])
        driver = Driver(model, find(model), granularity=granularity)
        example = torch.randn(3, *EVERY[name].size)
        program = torch.export.export(
            driver, (example,), strict=False, dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        inputs = torch.randn(5, *EVERY[name].size)
        assert torch.equal(program.module()(inputs), driver(inputs))


class TestErrors:
    def test_fusion_is_refused(self):
        from transformers import ClapAudioConfig, ClapAudioModel

        small = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [1, 2]}
        model = ClapAudioModel(ClapAudioConfig(enable_fusion=True, aff_block_r=1, **small))
        with pytest.raises(ValueError, match="enable_fusion"):
            find(model)(model, torch.randn(1, 4, 1001, 64)).send(None)

    def test_other_timm_blocks_open_whole_only(self):
        from timm.models.vision_transformer import ParallelScalingBlock

        model = random_weights(_timm_vit(block_fn=ParallelScalingBlock)).eval()
        images = torch.randn(2, 3, 16, 16)
        with pytest.raises(ValueError, match=r"not for ParallelScalingBlock.*granularity='block'"):
            find(model)(model, images).send(None)
        tokens, _ = drive(find(model)(model, images, granularity="block"))
        assert torch.equal(tokens, model.forward_features(images))

    def test_a_class_that_changes_the_forward_is_refused(self):
        from timm.models.deit import VisionTransformerDistilled
        from timm.models.vision_transformer import VisionTransformer
        from transformers import ViTConfig, ViTModel

        class Doubled(VisionTransformer):
            def forward_features(self, x):
                return 2 * super().forward_features(x)

        class Tripled(ViTModel):
            def forward(self, *args, **kwargs):
                return super().forward(*args, **kwargs)

        timm_config = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "depth": 1, "num_heads": 2}
        vit_config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=16)
        check_forward(VisionTransformerDistilled(**timm_config), VisionTransformer)
        check_forward(ViTModel(vit_config), ViTModel)
        with pytest.raises(TypeError, match=r"Doubled overrides VisionTransformer.forward_features"):
            check_forward(Doubled(**timm_config), VisionTransformer)
        with pytest.raises(TypeError, match=r"Tripled overrides ViTModel.forward"):
            check_forward(Tripled(vit_config), ViTModel)

    def test_every_listed_class_exists(self):
        import importlib

        for name in timm.OPENERS | transformers.OPENERS:
            module, _, cls = name.rpartition(".")
            assert isinstance(getattr(importlib.import_module(module), cls), type)
