from __future__ import annotations

import pytest
from _golden import Golden

from avexperts import (
    AdapterMoE,
    BottleneckAdapter,
    DualGuidedAdapter,
    LatentCrossAdapter,
    SoftRouter,
    TokenResampler,
    load_balance,
)
from avexperts.checkpoints import convert

STRATEGIES = ["mix_first", "project_first", "reassociate"]


def test_cross_expert_in_eval_mode() -> None:
    module = LatentCrossAdapter(24, num_latents=5, reduction=4, batch_norm=True).double().eval()
    case = Golden("avmoe", "expert_cross_bn_ln")
    case.check(module, lambda x: {"y": module(x["x"], x["other"])}, convert.avmoe)


def test_cross_expert_in_train_mode_has_the_correct_batch_norm_gradients() -> None:
    module = LatentCrossAdapter(24, num_latents=5, reduction=4, batch_norm=True).double().train()
    case = Golden("avmoe", "expert_cross_bn_ln_train")
    case.check(module, lambda x: {"y": module(x["x"], x["other"])}, convert.avmoe)


def test_cross_expert_with_every_option_off() -> None:
    module = LatentCrossAdapter(
        16, num_latents=3, reduction=4, groups=1, pre_norm=False, post_norm=False, gate=False
    ).double()
    case = Golden("avmoe", "expert_cross_nobn_noln_nogate")
    case.check(module, lambda x: {"y": module(x["x"], x["other"])}, convert.avmoe)


def test_unimodal_expert_of_event_localisation() -> None:
    module = BottleneckAdapter(24, reduction=4, batch_norm=True, activation=None).double().eval()
    case = Golden("avmoe", "expert_uni_bn_ln")
    case.check(module, lambda x: {"y": module(x["x"])}, convert.avmoe)


def test_unimodal_expert_of_parsing() -> None:
    module = BottleneckAdapter(16, reduction=4, batch_norm=True, activation=None, token_mixing="scatter")
    case = Golden("avmoe", "avvp_expert_uni")
    module = module.double().eval()
    case.check(module, lambda x: {"y": module(x["x"])}, convert.avmoe)


def test_lavish_adapter() -> None:
    module = LatentCrossAdapter(16, num_latents=2, reduction=4, batch_norm=True).double().eval()
    case = Golden("avmoe", "lavish_adapter")
    case.check(module, lambda x: {"y": module(x["x"], x["other"])}, convert.lavish)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_dual_guided_adapter(strategy: str) -> None:
    resampler = TokenResampler(14, 18, 24, 16, strategy=strategy)
    module = DualGuidedAdapter(16, resampler=resampler, num_latents=5, reduction=4, batch_norm=True).double().eval()
    case = Golden("avmoe", "dgsct_adapter")
    case.check(module, lambda x: module(x["x"], x["other"])._asdict(), convert.dg_sct)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    ("name", "tokens", "dims", "latents", "experts", "bottleneck", "unimodal"),
    [
        ("moe_1x1_bn_train", (14, 20), (16, 24), 5, (1, 1), {"batch_norm": True}, {}),
        ("moe_2x2_nobn", (21, 12), (24, 16), 4, (2, 2), {}, {}),
        ("avvp_moe_1x1_lb", (14, 18), (24, 16), 5, (1, 1), {}, {"token_mixing": "scatter"}),
    ],
)
def test_mixture(name, tokens, dims, latents, experts, bottleneck, unimodal, strategy) -> None:
    width = dims[1]
    module = AdapterMoE(
        TokenResampler(*tokens, *dims, strategy=strategy),
        [LatentCrossAdapter(width, num_latents=latents, reduction=4, **bottleneck) for _ in range(experts[0])],
        [BottleneckAdapter(width, reduction=4, activation=None, **bottleneck, **unimodal) for _ in range(experts[1])],
        SoftRouter((width, width), sum(experts)),
    ).double()
    module.train("train" in name)

    def run(x):
        out = module(x["x"], x["other"])
        return {
            "y": out.y,
            "router_probs": out.probs,
            "top_expert": out.probs.argmax(-1),
            "load_balance_loss": load_balance(out.probs, mode="upstream"),
            "resampled_other": module.resamplers[0](x["other"]),
        }

    Golden("avmoe", name).check(module, run, convert.avmoe)
