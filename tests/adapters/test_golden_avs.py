"""Adapters of the segmentation programs, against the papers' code."""

from __future__ import annotations

from functools import partial

from _close import assert_close
from _golden import Golden
from torch import Tensor

from avexperts import (
    AdapterMoE,
    BottleneckAdapter,
    DualGuidedAdapter,
    LatentCrossAdapter,
    LatentExchange,
    SoftRouter,
    TokenResampler,
)
from avexperts.checkpoints import convert

NAMES = {
    "spatial_map": "out.spatial_map",
    "x": "in.x",
    "other": "in.other",
    "y": "out.y",
    "probe": "cot.y",
    "grad.x": "gin.x",
    "grad.other": "gin.other",
}


def case(name: str) -> Golden:
    found = Golden("avmoe_avqa_avs", name)
    found.tensors = {NAMES.get(key, key): value for key, value in found.tensors.items()}
    return found


def unimodal(dim: int, **options) -> BottleneckAdapter:
    return BottleneckAdapter(dim, reduction=2, activation=None, exchange=LatentExchange(dim, num_latents=5), **options)


def test_unimodal_expert_with_latents_of_its_own() -> None:
    module = unimodal(8, gate=False)
    case("avs_unimodal_expert_latent_v2").check(module, lambda x: {"y": module(x["x"])}, convert.avmoe)


def test_mixture_with_load_balance() -> None:
    module = AdapterMoE(
        TokenResampler(9, 6, 10, 8),
        [LatentCrossAdapter(8, num_latents=5, reduction=2, gate=False) for _ in range(2)],
        [unimodal(8, gate=False) for _ in range(2)],
        SoftRouter((8, 8), 4, noise_std=0.01),
        balance="upstream",
    ).eval()
    golden = case("avs_moe_load_balance")
    golden.tensors |= {
        "out.probs": golden.tensors["gate_probs"].squeeze(1),
        "out.aux_loss": golden.tensors["load_balance"],
    }
    golden.tensors |= {"cot.aux_loss": golden.tensors["load_balance"] * 0 + 0.3}

    def run(x: dict[str, Tensor]) -> dict[str, Tensor]:
        return module(x["x"], x["other"])._asdict()

    golden.check(module, run, convert.avmoe)
    assert_close(
        module(golden.tensors["in.x"], golden.tensors["in.other"]).probs.argmax(-1),
        golden.tensors["expert_index"][:, 0],
    )


def test_dual_guided_adapter_of_single_source_segmentation() -> None:
    module = DualGuidedAdapter(
        8,
        resampler=TokenResampler(36, 16, 6, 8, kind="bicubic"),
        num_latents=4,
        latent_init="zeros",
        reduction=2,
        pre_norm=False,
        gate_first=True,
    )
    convert_dg_sct = partial(convert.dg_sct, unapplied=["conv_adapter", "ln_before"])
    golden = case("dgsct_s4_adapter_bicubic")
    golden.check(module, lambda x: module(x["x"], x["other"])._asdict(), convert_dg_sct)
