from __future__ import annotations

from functools import partial

import pytest
import torch
from _drive import drive
from _golden import Golden
from safetensors.torch import save
from timm import create_model
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import nn
from transformers import Swinv2Config, Swinv2Model

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._swinv2 import _TARGETS, swinv2
from avexperts.streams import timm, transformers

# values reach 6, and the stored float32 ones are themselves 2e-5 from the same pass in float64
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=6e-5)
SHAPE = {"embed_dim": 8, "depths": (2, 2, 2, 1), "num_heads": (1, 2, 2, 4), "window_size": 4}


@pytest.fixture(scope="module")
def golden() -> Golden:
    return Golden("avmoe", "swinv2_body")


def build(target: str) -> nn.Module:
    if target == "timm":
        return SwinTransformerV2(img_size=64, num_classes=0, **SHAPE).eval()
    return Swinv2Model(Swinv2Config(image_size=64, **SHAPE)).eval()


OPENERS = {"timm": timm.open_swin, "transformers": transformers.open_swin}
TARGETS = pytest.mark.parametrize("target", OPENERS)


class TestBody:
    @TARGETS
    def test_branches_and_stages_are_the_papers(self, golden, target):
        model = build(target)
        model.load_state_dict(swinv2(golden.w, to=target))
        with torch.no_grad():
            tokens, sites = drive(OPENERS[target](model, golden.tensors["in.image"], post_norm=True))
            first = {site.name: site for site in sites}
            assert_close(sites[0].tokens, golden.out["patch_embed"])
            for name, branch in golden.out.items():
                if name.endswith("_branch"):
                    stage, block, part = int(name[5]), int(name[12]), name.split("_")[2]
                    site = first[f"stages.{stage}.blocks.{block}.{part}"]
                    assert_close(
                        site.run(site.tokens),
                        site.tokens + branch,
                        msg=lambda text, name=name: f"{name}: {text}",
                    )
        for stage in range(3):
            assert_close(first[f"stages.{stage + 1}.blocks.0.attn"].tokens, golden.out[f"stage{stage}"])
        assert_close(tokens, golden.out["final_norm"])

    @TARGETS
    def test_without_final_norm(self, golden, target):
        model = build(target)
        model.load_state_dict(swinv2(golden.w, to=target))
        with torch.no_grad():
            tokens, _ = drive(OPENERS[target](model, golden.tensors["in.image"], post_norm=True, final_norm=False))
        assert_close(tokens, golden.out["stage3"])


class TestConverter:
    @TARGETS
    def test_computed_and_classifier_keys_are_dropped(self, golden, target):
        extra = {
            "layers.0.blocks.1.attn_mask": torch.ones(1),
            "layers.0.blocks.0.attn.relative_coords_table": torch.ones(1),
            "layers.0.blocks.0.attn.relative_position_index": torch.ones(1),
            "head.weight": torch.ones(1),
        }
        assert swinv2(golden.w | extra, to=target).keys() == swinv2(golden.w, to=target).keys()

    @TARGETS
    def test_names_fit_the_real_size(self, target):
        with torch.device("meta"):
            if target == "timm":
                model = create_model("swinv2_large_window12_192.ms_in22k", num_classes=0)
            else:
                depths, heads = [2, 2, 18, 2], [6, 12, 24, 48]
                model = Swinv2Model(Swinv2Config(embed_dim=192, depths=depths, num_heads=heads))
        new = [name for names in _TARGETS[target]._expand([2, 2, 18, 2]).values() for name in names]
        assert sorted(new) == sorted(model.state_dict())

    @TARGETS
    def test_can_be_saved(self, golden, target):
        assert save(swinv2(golden.w, to=target))

    @TARGETS
    def test_one_error_names_every_key(self, golden, target):
        state = dict(golden.w)
        del state["layers.3.blocks.0.attn.q_bias"]
        state["layers.3.downsample.norm.weight"] = torch.ones(1)
        with pytest.raises(CheckpointError) as error:
            swinv2(state, to=target)
        assert error.value.args[0].endswith(
            "missing keys: layers.3.blocks.0.attn.q_bias; unknown keys: layers.3.downsample.norm.weight"
        )

    def test_todays_timm_names_are_refused(self, golden):
        with pytest.raises(CheckpointError, match=r"missing keys: layers.0.downsample.norm.bias"):
            swinv2(swinv2(golden.w, to="timm"), to="timm")

    def test_unknown_target(self, golden):
        with pytest.raises(ValueError, match="transformers, timm, papers, got 'torchvision'"):
            swinv2(golden.w, to="torchvision")
