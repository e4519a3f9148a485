"""What every adapter must do, written once and run over all of them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from _close import assert_close
from _towers import open_gates
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import avexperts as ax
from avexperts.adapters import AggregationAdapter

DIM, TOKENS, OTHER_DIM, OTHER_TOKENS = 16, 6, 24, 5


def resampler(**options) -> ax.TokenResampler:
    return ax.TokenResampler(OTHER_TOKENS, TOKENS, OTHER_DIM, DIM, num_queries=3, **options)


def mixture(cross: int = 1, unimodal: int = 1, own_latents: bool = False, **options) -> ax.AdapterMoE:
    def exchange() -> ax.LatentExchange | None:
        return ax.LatentExchange(DIM, num_latents=4, scale=0.5) if own_latents else None

    return ax.AdapterMoE(
        resampler(),
        [ax.LatentCrossAdapter(DIM, num_latents=3, **options) for _ in range(cross)],
        [ax.BottleneckAdapter(DIM, exchange=exchange(), **options) for _ in range(unimodal)],
        ax.SoftRouter((DIM, DIM), cross + unimodal, hidden=(8,)),
    )


ADAPTERS: dict[str, Callable[[], nn.Module]] = {
    "bottleneck": lambda: ax.BottleneckAdapter(DIM),
    "bottleneck-affine": lambda: ax.BottleneckAdapter(DIM, activation=None, groups=1),
    "bottleneck-no-gate": lambda: ax.BottleneckAdapter(DIM, gate=False, post_norm=False),
    "bottleneck-batch-norm": lambda: ax.BottleneckAdapter(DIM, batch_norm=True),
    "bottleneck-gather": lambda: ax.BottleneckAdapter(DIM, token_mixing="gather"),
    "bottleneck-scatter": lambda: ax.BottleneckAdapter(DIM, token_mixing="scatter"),
    "bottleneck-latents": lambda: ax.BottleneckAdapter(DIM, exchange=ax.LatentExchange(DIM, num_latents=3)),
    "bottleneck-gate-first": lambda: ax.BottleneckAdapter(DIM, gate_first=True),
    "bottleneck-attention": lambda: ax.BottleneckAdapter(DIM, self_attention="tokens"),
    "latent-cross": lambda: ax.LatentCrossAdapter(DIM, num_latents=3, resampler=resampler()),
    "latent-cross-scaled": lambda: ax.LatentCrossAdapter(DIM, scale=0.25, resampler=resampler(), latent_init="normal"),
    "dual-guided": lambda: ax.DualGuidedAdapter(DIM, num_latents=3, resampler=resampler()),
    "dual-guided-gate-first": lambda: ax.DualGuidedAdapter(
        DIM, num_latents=3, pre_norm=False, gate_first=True, channel_weight=0.2, resampler=resampler(kind="bicubic")
    ),
    "aggregation": lambda: AggregationAdapter(DIM, num_latents=3, resampler=resampler()),
    "aggregation-no-gate": lambda: AggregationAdapter(DIM, num_latents=3, gate=False, resampler=resampler()),
    "moe-1+1": mixture,
    "moe-2+2": lambda: mixture(2, 2),
    "moe-1+2-own-latents": lambda: mixture(1, 2, own_latents=True),
    "moe-0+2": lambda: mixture(0, 2),
    "moe-2+0": lambda: mixture(2, 0, batch_norm=True),
}
EVERY_ADAPTER = pytest.mark.parametrize("name", ADAPTERS)


def residual(module: nn.Module, x: Tensor, other: Tensor) -> Tensor:
    out = module(x) if isinstance(module, ax.BottleneckAdapter) else module(x, other)
    return out if isinstance(out, Tensor) else out[0]


def inputs(batch: int = 2, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, TOKENS, DIM, dtype=dtype), torch.randn(batch, OTHER_TOKENS, OTHER_DIM, dtype=dtype)


@EVERY_ADAPTER
def test_a_fresh_adapter_adds_nothing_bit_for_bit(name: str) -> None:
    x, other = inputs()
    fresh = residual(ADAPTERS[name](), x, other)
    assert fresh.shape == x.shape
    assert torch.equal(x + fresh, x)
    opened = residual(open_gates(ADAPTERS[name]()), x, other)
    assert opened.abs().max() > 1e-3


@EVERY_ADAPTER
def test_gradients_are_right(name: str) -> None:
    torch.manual_seed(0)
    module = open_gates(ADAPTERS[name]()).double().eval()
    x, other = (t.requires_grad_() for t in inputs(dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda *args: residual(module, *args), (x, other))


@EVERY_ADAPTER
def test_every_parameter_gets_a_gradient_once_the_gates_are_open(name: str) -> None:
    torch.manual_seed(0)
    module = open_gates(ADAPTERS[name]()).double().eval()
    out = residual(module, *inputs(3, torch.float64))
    (out * torch.randn_like(out)).sum().backward()
    without = {key for key, p in module.named_parameters() if p.grad is None or not p.grad.any()}
    # With unimodal experts only, the other stream still informs the router through the mean.
    assert without == set()


@EVERY_ADAPTER
@settings(max_examples=8, deadline=None)
@given(batch=st.integers(1, 5), seed=st.integers(0, 99))
def test_samples_do_not_touch_each_other_in_eval_mode(name: str, batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    module = open_gates(ADAPTERS[name]()).eval()
    x, other = inputs(batch)
    whole = residual(module, x, other)
    alone = torch.cat([residual(module, x[i : i + 1], other[i : i + 1]) for i in range(batch)])
    assert_close(whole, alone, gradient=True)


@EVERY_ADAPTER
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_single(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = open_gates(ADAPTERS[name]()).eval()
    x, other = inputs()
    exact = residual(module, x, other)
    rough = residual(module.to(dtype), x.to(dtype), other.to(dtype))
    assert rough.dtype == dtype
    # Layer norm after a bottleneck of two channels amplifies rounding, so the bound is on the mean error.
    assert (rough.float() - exact).abs().mean() < 0.05 * exact.abs().mean() + 1e-3


@EVERY_ADAPTER
def test_compiles_and_exports(name: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    module, (x, other) = open_gates(ADAPTERS[name]()).eval(), inputs(4)
    args = (x,) if isinstance(module, ax.BottleneckAdapter) else (x, other)
    eager = residual(module, x, other)
    compiled = torch.compile(module, fullgraph=True, backend="eager")(*args)
    assert_close(compiled if isinstance(compiled, Tensor) else compiled[0], eager)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(module, args, dynamic_shapes={"x": {0: batch}} | _others(module, batch)).module()
    more = tuple(torch.cat([t, t, t]) for t in args)
    out = exported(*more)
    assert_close((out if isinstance(out, Tensor) else out[0])[:4], eager, gradient=True)


def _others(module: nn.Module, batch: torch.export.Dim) -> dict:
    if isinstance(module, ax.BottleneckAdapter):
        return {}
    return {"others": ({0: batch},)} if isinstance(module, ax.AdapterMoE) else {"other": {0: batch}}


@EVERY_ADAPTER
def test_wrong_widths_are_named(name: str) -> None:
    module = ADAPTERS[name]()
    with pytest.raises(ValueError, match=r"\(2, 6, 8\)"):
        residual(module, torch.randn(2, TOKENS, 8), torch.randn(2, OTHER_TOKENS, OTHER_DIM))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ax.BottleneckAdapter(10, reduction=3), "reduction=3 must divide dim=10"),
        (lambda: ax.BottleneckAdapter(24, reduction=8), "groups=2 must divide"),
        (lambda: ax.BottleneckAdapter(16, activation="tanh"), "activation is one of"),
        (lambda: ax.BottleneckAdapter(16, token_mixing="stir"), "token_mixing is"),
        (lambda: ax.BottleneckAdapter(16, self_attention="all"), "self_attention is"),
        (lambda: ax.BottleneckAdapter(16, self_attention="frames"), "frames_per_clip go together"),
        (lambda: ax.BottleneckAdapter(16, frames_per_clip=5), "frames_per_clip go together"),
        (
            lambda: ax.BottleneckAdapter(16, self_attention="frames", frames_per_clip=5)(torch.ones(7, 2, 16)),
            "a batch of 7 frames is not whole clips of frames_per_clip=5",
        ),
        (lambda: ax.BottleneckAdapter(16, exchange=ax.LatentExchange(8)), "16 wide, as the tokens"),
        (lambda: ax.BottleneckAdapter(16, exchange=ax.LatentExchange(16, resampler=resampler())), "has no resampler"),
        (lambda: ax.SoftRouter((16,), 2, noise_std=-1.0), "noise_std must not be negative"),
        (
            lambda: ax.AdapterMoE(
                resampler(), [], [ax.BottleneckAdapter(16)], ax.SoftRouter((16, 16), 1), balance="no"
            ),
            "balance is 'kl' or 'upstream'",
        ),
        (lambda: ax.LatentCrossAdapter(16, latent_init="ones"), "latent_init is"),
        (lambda: ax.LatentCrossAdapter(16, num_latents=0), "num_latents must be at least 1"),
        (lambda: ax.LatentCrossAdapter(16)(torch.ones(1, 2, 16)), "needs the other stream's tokens"),
        (lambda: ax.LatentCrossAdapter(16)(*inputs()), r"other must be \(B, N, 16\), got \(2, 5, 24\)"),
        (lambda: ax.DualGuidedAdapter(15), "dim must be even, got 15"),
        (lambda: ax.AdapterMoE(resampler(), [], [], ax.SoftRouter((16, 16), 1)), "0 experts were given"),
        (lambda: mixture()(inputs()[0]), "reads 1 other streams, got 0"),
    ],
)
def test_bad_arguments(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_batch_norm_in_training_needs_more_than_one_token() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ax.BottleneckAdapter(16, batch_norm=True)(torch.randn(1, 1, 16))


def test_self_attention_across_the_batch_mixes_samples_as_published() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, TOKENS, DIM)
    mixing = open_gates(ax.BottleneckAdapter(DIM, self_attention="batch")).eval()
    assert not torch.allclose(mixing(x)[:1], mixing(x[:1]), atol=1e-3)


def changed_by_frame_0(module: nn.Module, frames: int) -> Tensor:
    """Which output tokens, (frames, N), change when token 5 of frame 0 does."""
    x = torch.randn(frames, TOKENS, DIM)
    other = x.clone()
    other[0, 5] = torch.randn(DIM)
    return (module(x) - module(other)).abs().amax(-1) > 1e-6


def test_self_attention_over_the_frames_of_a_clip_stays_there() -> None:
    torch.manual_seed(0)
    module = open_gates(ax.BottleneckAdapter(DIM, activation=None, self_attention="frames", frames_per_clip=3)).eval()
    expected = torch.zeros(6, TOKENS, dtype=torch.bool)
    expected[:3, 5] = True
    assert torch.equal(changed_by_frame_0(module, 6), expected)
    x = torch.randn(3, TOKENS, DIM)
    whole = open_gates(ax.BottleneckAdapter(DIM, activation=None, self_attention="batch")).eval()
    whole.load_state_dict(module.state_dict())
    assert_close(module(x), whole(x))


def test_self_attention_across_the_batch_keeps_to_the_token() -> None:
    torch.manual_seed(0)
    module = open_gates(ax.BottleneckAdapter(DIM, activation=None, self_attention="batch")).eval()
    expected = torch.zeros(6, TOKENS, dtype=torch.bool)
    expected[:, 5] = True
    assert torch.equal(changed_by_frame_0(module, 6), expected)


def test_own_latents_mix_the_tokens_of_one_frame() -> None:
    torch.manual_seed(0)
    exchange = ax.LatentExchange(DIM, num_latents=3, scale=0.25)
    module = open_gates(ax.BottleneckAdapter(DIM, activation=None, exchange=exchange)).eval()
    expected = torch.zeros(6, TOKENS, dtype=torch.bool)
    expected[0] = True
    assert torch.equal(changed_by_frame_0(module, 6), expected)


def test_latents_of_its_own_are_a_cross_expert_that_reads_itself() -> None:
    torch.manual_seed(0)
    own = open_gates(ax.BottleneckAdapter(DIM, exchange=ax.LatentExchange(DIM, num_latents=3))).double()
    cross = ax.LatentCrossAdapter(DIM, num_latents=3).double()
    cross.bottleneck = copy.deepcopy(own)
    cross.exchange, cross.bottleneck.exchange = cross.bottleneck.exchange, None
    x = torch.randn(2, 40, DIM, dtype=torch.float64)
    assert_close(own(x), cross(x, x))
    own.pre_norm.register_forward_hook(lambda *_: None)  # now its parts are called
    assert_close(own(x), cross(x, x))


def test_a_gate_before_the_norm_leaves_its_sign() -> None:
    torch.manual_seed(0)
    module, x = open_gates(ax.BottleneckAdapter(DIM, gate_first=True)).double(), torch.randn(2, 6, DIM).double()
    before = module(x)
    nn.init.constant_(module.gate, -500)
    torch.testing.assert_close(module(x), -before, rtol=0.2, atol=0.2)  # what epsilon leaves of the scale
    assert_close(ax.merge_adapters(module.eval())(x), module(x))


def test_nonzero_gate_starts_are_honoured() -> None:
    module = ax.LatentCrossAdapter(DIM, gate_init=0.3, latent_gate_init=1.0)
    assert module.bottleneck.gate.item() == pytest.approx(0.3)
    assert module.exchange.gate.item() == 1.0
