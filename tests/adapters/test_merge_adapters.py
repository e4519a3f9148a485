"""Merged adapters compute what they did, with less."""

from __future__ import annotations

import copy

import _figures
import pytest
import torch
from _close import assert_close
from _golden import Golden
from _towers import open_gates, toy_avmoe, toy_inputs, toy_pair
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor, nn

import avexperts as ax
from avexperts.adapters._grouped_linear import GroupedLinear

# What the merged weights promise: rounding of one float32 sum, and nothing but rounding in float64.
PROMISED = {torch.float32: 1e-6, torch.float64: 1e-12}
CROSS = {"num_latents": 3, "latent_gate_init": 0.5}


def trained(module: nn.Module, seed: int = 0) -> nn.Module:
    """As after training: open gates, and norms and statistics that do something."""
    torch.manual_seed(seed)
    for part in open_gates(module).modules():
        if isinstance(part, nn.LayerNorm | nn.BatchNorm1d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.3, 2)
    return module.eval()


def deviation(merged: Tensor, original: Tensor) -> float:
    return ((merged - original).abs().max() / original.abs().max()).item()


def numbers(module: nn.Module) -> tuple[int, int]:
    return sum(p.numel() for p in module.parameters()), sum(b.numel() for b in module.buffers())


def mixture(**options) -> ax.AdapterMoE:
    return ax.AdapterMoE(
        ax.TokenResampler(5, 6, 24, 16, num_queries=3),
        [ax.LatentCrossAdapter(16, **CROSS, **options)],
        [ax.BottleneckAdapter(16, activation=None, exchange=ax.LatentExchange(16, num_latents=4), **options)],
        ax.SoftRouter((16, 16), 2, hidden=(8,)),
    )


OPTIONS = st.fixed_dictionaries(
    {
        "reduction": st.sampled_from([1, 2, 4, 8]),
        "groups": st.sampled_from([1, 2]),
        "activation": st.sampled_from([None, None, "relu", "gelu", "silu"]),
        "batch_norm": st.booleans(),
        "pre_norm": st.booleans(),
        "post_norm": st.booleans(),
        "gate": st.booleans(),
        "gate_first": st.booleans(),
        "token_mixing": st.sampled_from([None, "gather", "scatter"]),
        "self_attention": st.sampled_from([None, "tokens", "batch"]),
    }
)


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(options=OPTIONS, seed=st.integers(0, 999))
def test_a_merged_bottleneck_computes_the_same(dtype: torch.dtype, options: dict, seed: int) -> None:
    adapter = trained(ax.BottleneckAdapter(32, **options), seed).to(dtype)
    x = torch.randn(3, 7, 32, dtype=dtype)
    merged = ax.merge_adapters(adapter)
    with torch.no_grad():  # else torch's attention takes another path through the original than through the merged
        worst = deviation(merged(x), adapter(x))
    assert worst <= PROMISED[dtype]
    _figures.record(f"merged adapters, {dtype}, largest deviation", worst)
    assert numbers(merged) <= numbers(adapter)
    assert not [part for part in merged.modules() if isinstance(part, nn.BatchNorm1d)]
    assert torch.equal(ax.merge_adapters(merged)(x), merged(x))


@pytest.mark.parametrize("dtype", PROMISED, ids=str)
@pytest.mark.parametrize(
    "build",
    [
        lambda: ax.LatentCrossAdapter(16, **CROSS, batch_norm=True, resampler=ax.TokenResampler(5, 6, 24, 16)),
        lambda: ax.DualGuidedAdapter(16, **CROSS, batch_norm=True, resampler=ax.TokenResampler(5, 6, 24, 16)),
        lambda: mixture(batch_norm=True),
        lambda: mixture(batch_norm=True, post_norm=False, pre_norm=False),
        mixture,
    ],
)
def test_every_adapter_that_holds_a_bottleneck(build, dtype: torch.dtype) -> None:
    module = trained(build()).to(dtype)
    x, other = torch.randn(3, 6, 16, dtype=dtype), torch.randn(3, 5, 24, dtype=dtype)
    out, merged = module(x, other), ax.merge_adapters(module)(x, other)
    if isinstance(out, Tensor):
        out, merged = (out,), (merged,)
    for now, before in zip(merged, out, strict=True):
        assert deviation(now, before) <= PROMISED[dtype]


def test_a_merged_expert_of_the_papers_gives_their_numbers() -> None:
    case = Golden("avmoe", "expert_uni_bn_ln")
    expert = ax.BottleneckAdapter(24, reduction=4, batch_norm=True, activation=None).double().eval()
    expert.load_state_dict(ax.convert.avmoe(case.w, like=expert))
    assert_close(ax.merge_adapters(expert)(case.tensors["in.x"]), case.out["y"])


@pytest.mark.parametrize("method", ["avmoe", "couplings"])
def test_a_whole_model_shares_its_frozen_towers_and_nothing_else(method: str) -> None:
    model = trained(toy_avmoe(batch_norm=True, unimodal_activation=None)).double()
    before = copy.deepcopy(model.state_dict())
    module = model if method == "avmoe" else model.adapters["default"]
    merged = ax.merge_adapters(module)
    if method == "avmoe":
        inputs = {name: value.double() for name, value in toy_inputs().items()}
        original, now = model(inputs), merged(inputs)
        for stream in inputs:
            assert deviation(now.tokens[stream], original.tokens[stream]) <= PROMISED[torch.float64]
        for site, probs in original.routing.items():
            assert_close(now.routing[site], probs)
        with merged.disable_adapters(), model.disable_adapters():
            assert torch.equal(merged(inputs).vision, model(inputs).vision)
    theirs = {id(parameter) for parameter in model.towers.parameters()}
    shared = {id(p) for p in merged.parameters()} & {id(p) for p in model.parameters()}
    assert shared == (theirs if method == "avmoe" else set())
    assert not any(parameter.requires_grad for parameter in merged.parameters())
    assert all(parameter.requires_grad for parameter in model.adapter_parameters())
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_every_named_adapter_is_merged_and_switching_touches_only_the_copy() -> None:
    streams = toy_pair()
    model = toy_avmoe(streams=streams, batch_norm=True)
    model.add_adapter("affine", toy_avmoe(streams=streams, batch_norm=True, unimodal_activation=None, num_latents=2))
    merged = ax.merge_adapters(trained(model))
    merged.set_adapter("affine")
    assert model.active_adapter == "default"
    assert not any(parameter.requires_grad for parameter in model.adapters["affine"].parameters())
    assert all(parameter.requires_grad for parameter in model.adapters["default"].parameters())
    inputs = toy_inputs()
    for name in model.adapters:
        out, expected = merged(inputs, adapters=name), model(inputs, adapters=name)
        assert_close(out.vision, expected.vision)
        assert_close(out.audio, expected.audio)


def test_trainable_towers_are_copied() -> None:
    model = trained(toy_avmoe(towers="trainable", batch_norm=True))
    merged = ax.merge_adapters(model)
    assert not {id(p) for p in merged.parameters()} & {id(p) for p in model.parameters()}
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("reduction", "one_map"), [(1, True), (2, True), (4, False)])
def test_the_product_is_formed_where_it_has_no_more_weights_than_its_factors(reduction: int, one_map: bool) -> None:
    adapter = trained(ax.BottleneckAdapter(32, reduction=reduction, activation=None, batch_norm=True))
    merged = ax.merge_adapters(adapter)
    maps = [part for part in merged.modules() if isinstance(part, GroupedLinear)]
    assert len(maps) == (1 if one_map else 2)
    weights = sum(part.weight.numel() for part in maps)
    assert weights <= adapter.down.weight.numel() + adapter.up.weight.numel()
    assert sum(part.bias is not None for part in maps) == 1, "an affine map needs one bias"


def test_what_the_papers_expert_sheds() -> None:
    adapter = ax.BottleneckAdapter(64, activation=None, batch_norm=True)
    merged = ax.merge_adapters(adapter.eval())
    # Two batch norms (2 * 8 and 2 * 64) and the gate go, one bias (64) comes; no running statistics stay.
    assert numbers(adapter)[0] - numbers(merged)[0] == 2 * 8 + 2 * 64 + 1 - 64
    assert numbers(adapter)[1] == 2 * 8 + 2 * 64 + 2
    assert numbers(merged)[1] == 0
    assert not [key for key in merged.state_dict() if "_norm.running" in key or key == "gate"]


def test_a_fresh_adapter_still_adds_nothing() -> None:
    x = torch.randn(2, 5, 16)
    for options in ({}, {"post_norm": False}, {"gate": False}):
        fresh = ax.merge_adapters(ax.BottleneckAdapter(16, **options).eval())
        assert torch.equal(x + fresh(x), x)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_merged_mixture_saves_compiles_and_exports(batch_norm: bool) -> None:
    torch._dynamo.reset()
    module = trained(mixture(batch_norm=batch_norm))
    merged, other_seed = ax.merge_adapters(module), ax.merge_adapters(trained(mixture(batch_norm=batch_norm), 1))
    args = torch.randn(4, 6, 16), torch.randn(4, 5, 24)
    expected = merged(*args).y
    other_seed.load_state_dict(load(save(merged.state_dict())))
    assert torch.equal(other_seed(*args).y, expected)
    assert_close(torch.compile(merged, fullgraph=True, backend="eager")(*args).y, expected)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(merged, args, dynamic_shapes={"x": {0: batch}, "others": ({0: batch},)})
    more = exported.module()(*(torch.cat([part, part]) for part in args))
    assert_close(more[0][:4], expected, gradient=True)


def test_gradients_still_reach_the_tokens() -> None:
    adapter = trained(ax.BottleneckAdapter(16, batch_norm=True)).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    gradients = [torch.autograd.grad(each(x).square().sum(), x)[0] for each in (adapter, ax.merge_adapters(adapter))]
    assert_close(gradients[1], gradients[0], gradient=True)


def test_merging_draws_no_random_number() -> None:
    adapter = trained(mixture(batch_norm=True))
    before = torch.get_rng_state()
    ax.merge_adapters(adapter)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_subclass_with_a_forward_of_its_own_is_left_alone() -> None:
    class Doubled(ax.BottleneckAdapter):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    pair = nn.ModuleList([Doubled(16, batch_norm=True), ax.BottleneckAdapter(16, batch_norm=True)])
    merged = ax.merge_adapters(trained(pair))
    x = torch.randn(2, 5, 16)
    assert merged[0].state_dict().keys() == pair[0].state_dict().keys()
    for now, before in zip(merged, pair, strict=True):
        assert deviation(now(x), before(x)) <= PROMISED[torch.float32]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ax.BottleneckAdapter(16), r"in training mode: call .eval\(\) first"),
        (lambda: nn.Sequential(ax.BottleneckAdapter(16)).train(), "in training mode"),
        (lambda: _one_part_trains(), "in training mode"),
        (lambda: nn.Linear(2, 2).eval(), "Linear holds no BottleneckAdapter: there is nothing to merge"),
    ],
)
def test_what_cannot_be_merged(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ax.merge_adapters(build())


def _one_part_trains() -> nn.Module:
    adapter = ax.BottleneckAdapter(16, batch_norm=True).eval()
    adapter.up_norm.train()
    return adapter
