from __future__ import annotations

import pytest
import torch
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from avexperts import TokenResampler, ops

FORMS = ("mix_first", "project_first", "reassociate")
sizes = st.integers(1, 9)


def formed(module: TokenResampler, y: torch.Tensor) -> torch.Tensor:
    """The published order, spelled out: mix tokens with bias, then map channels with bias."""
    weight = module.token_mix.weight
    weight = weight if module.token_squeeze is None else weight @ module.token_squeeze.weight
    return (weight @ y + module.token_mix.bias[:, None]) @ module.channel_mix.weight.T + module.channel_mix.bias


@settings(max_examples=40, deadline=None)
@given(m=sizes, n=sizes, d_in=sizes, d_out=sizes, latents=sizes, kind=st.sampled_from(["dense", "lowrank"]))
def test_the_three_forms_are_one_function(m, n, d_in, d_out, latents, kind) -> None:
    torch.manual_seed(m * 7 + n)
    t, y = torch.rand(latents, d_out).double(), torch.randn(2, m, d_in).double()
    module = TokenResampler(m, n, d_in, d_out, kind=kind).double()
    v = formed(module, y)
    for form in FORMS:
        twin = TokenResampler(m, n, d_in, d_out, kind=kind, strategy=form).double()
        twin.load_state_dict(module.state_dict())
        assert_close(twin(y), v, what=form)
        assert_close(twin.mean(y), v.mean(1), what=form)
        assert_close(twin.attend(t, y, scale=0.7), ops.latent_read(t, v, scale=0.7), what=form)
        both = twin.read(t, y)
        assert_close(both[0], twin.attend(t, y), what=form)
        assert_close(both[1], v.mean(1), what=form)


@pytest.mark.parametrize(("m", "n"), [(16, 4), (4, 25), (6, 9), (9, 6), (1, 7), (1, 9), (9, 1), (5, 5)])
@pytest.mark.parametrize("kind", ["interpolate", "bicubic", "identity"])
def test_kinds_without_token_weights_read_alike_formed_or_not(m: int, n: int, kind: str) -> None:
    module = TokenResampler(m, n, 8, 5, kind=kind, strategy="project_first").double()
    twin = TokenResampler(m, n, 8, 5, kind=kind, strategy="reassociate").double()
    twin.load_state_dict(module.state_dict())
    gradients = []
    for each in (module, twin):
        torch.manual_seed(0)
        t, y = torch.rand(3, 5).double().requires_grad_(), torch.randn(2, m, 8).double().requires_grad_()
        read, mean = each.read(t, y, scale=0.7)
        assert_close(read, ops.latent_read(t, each(y), scale=0.7))
        assert_close(mean, each(y).mean(1))
        assert_close(each.mean(y), mean)
        loss = read.square().sum() + mean.square().sum()
        gradients.append(torch.autograd.grad(loss, [t, y, *each.parameters()]))
    assert module(y).shape == (2, module.out_tokens, 5)
    for ours, theirs in zip(*gradients, strict=True):
        assert_close(ours, theirs, gradient=True)


@pytest.mark.parametrize("form", FORMS)
def test_the_three_forms_have_the_same_gradients(form: str) -> None:
    torch.manual_seed(0)
    module = TokenResampler(14, 20, 16, 24, strategy="mix_first").double()
    twin = TokenResampler(14, 20, 16, 24, strategy=form).double()
    twin.load_state_dict(module.state_dict())
    t, y = torch.rand(5, 24).double(), torch.randn(3, 14, 16).double()
    for each in (module, twin):
        read, mean = each.read(t, y)
        (read.square().sum() + mean.square().sum()).backward()
    for (name, a), b in zip(module.named_parameters(), twin.parameters(), strict=True):
        assert_close(b.grad, a.grad, gradient=True, what=name)


@pytest.mark.parametrize(
    ("in_tokens", "out_tokens", "in_dim", "out_dim", "experts", "expected"),
    [
        (2304, 4096, 192, 96, 1, "reassociate"),
        (2304, 4096, 192, 96, 2, "project_first"),
        (4096, 2304, 96, 192, 2, "mix_first"),
        (36, 64, 1536, 768, 1, "reassociate"),
        (36, 64, 1536, 768, 2, "project_first"),
    ],
)
def test_the_cheapest_form_at_the_papers_shapes(in_tokens, out_tokens, in_dim, out_dim, experts, expected) -> None:
    with torch.device("meta"):
        module = TokenResampler(in_tokens, out_tokens, in_dim, out_dim, num_queries=32 * experts)
    assert module.strategy == expected


@pytest.mark.parametrize(("in_tokens", "out_tokens", "rank"), [(2304, 4096, 64), (144, 256, 18), (5, 7, 1)])
def test_the_default_rank(in_tokens: int, out_tokens: int, rank: int) -> None:
    with torch.device("meta"):
        module = TokenResampler(in_tokens, out_tokens, 8, 8, kind="lowrank")
        chosen = TokenResampler(in_tokens, out_tokens, 8, 8, kind="lowrank", rank=100)
    assert module.token_squeeze.out_features == rank
    assert chosen.token_squeeze.out_features == 100


@pytest.mark.parametrize("kind", ["lowrank", "interpolate"])
@pytest.mark.parametrize(
    ("sizes", "share"),
    [((2304, 4096, 192, 96), 0.1), ((4096, 2304, 96, 192), 0.1), ((144, 256, 768, 384), 0.95)],
    ids=str,
)
def test_cheaper_kinds_cost_less_at_the_papers_shapes(kind: str, sizes: tuple[int, ...], share: float) -> None:
    with torch.device("meta"):
        costs = {k: TokenResampler(*sizes, kind=k).multiply_adds(32) for k in ("dense", kind)}
    dense, cheap = (min(each.values()) for each in costs.values())
    assert cheap == costs[kind]["reassociate"]
    assert cheap <= share * dense


def test_identity_weights_return_the_input() -> None:
    module = TokenResampler(6, 6, 8, 8)
    for linear in (module.token_mix, module.channel_mix):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    y = torch.randn(2, 6, 8)
    assert_close(module(y), y)


def test_the_channel_bias_does_not_move_the_attention() -> None:
    torch.manual_seed(0)
    module = TokenResampler(6, 7, 8, 5, strategy="reassociate").double()
    t, y, shift = torch.rand(3, 5).double(), torch.randn(2, 6, 8).double(), torch.randn(5).double()
    before = module.attend(t, y)
    with torch.no_grad():
        module.channel_mix.bias += shift
    assert_close(module.attend(t, y), before + shift)


def test_identity_kind_keeps_the_tokens_and_has_no_weights_at_equal_width() -> None:
    same = TokenResampler(6, 9, 8, 8, kind="identity")
    y = torch.randn(2, 6, 8)
    assert same(y) is y
    assert not list(same.parameters())
    assert TokenResampler(6, 9, 8, 5, kind="identity")(y).shape == (2, 6, 5)


@pytest.mark.parametrize(("m", "n", "mode"), [(16, 4, "bilinear"), (6, 9, "linear")])
def test_interpolate_follows_the_grid_or_the_sequence(m: int, n: int, mode: str) -> None:
    module = TokenResampler(m, n, 8, 5, kind="interpolate")
    y = torch.randn(2, m, 8)
    z = module.channel_mix(y).mT
    grid, size = (z.unflatten(-1, (4, 4)), (2, 2)) if mode == "bilinear" else (z, n)
    expected = torch.nn.functional.interpolate(grid, size=size, mode=mode).reshape(2, 5, n).mT
    assert_close(module(y), expected)
    assert_close(module.mean(y), expected.mean(1))


def test_bicubic_resizes_the_grid() -> None:
    module = TokenResampler(16, 9, 8, 5, kind="bicubic")
    y = torch.randn(2, 16, 8)
    grid = module.channel_mix(y).mT.unflatten(-1, (4, 4))
    expected = torch.nn.functional.interpolate(grid, size=(3, 3), mode="bicubic").flatten(-2).mT
    assert_close(module(y), expected)
    assert_close(module.mean(y), expected.mean(1))


def test_cheaper_kinds_have_fewer_parameters() -> None:
    def count(kind: str) -> int:
        return sum(p.numel() for p in TokenResampler(64, 256, 32, 16, kind=kind).parameters())

    assert count("interpolate") < count("lowrank") < count("dense")


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ((4, 4, 4, 4), {"kind": "magic"}, "kind is one of .*'bicubic'"),
        ((4, 4, 4, 4), {"strategy": "magic"}, "strategy is"),
        ((0, 4, 4, 4), {}, "sizes must be positive"),
        ((4, 4, 4, 4), {"kind": "interpolate", "strategy": "mix_first"}, "no form 'mix_first'.*'reassociate'"),
        ((4, 4, 4, 4), {"kind": "identity", "strategy": "reassociate"}, "no form 'reassociate'.*'project_first'"),
    ],
)
def test_bad_arguments(args, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenResampler(*args, **options)


def test_another_resolution_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"built for 4 tokens, got 5.*kind='interpolate'"):
        TokenResampler(4, 4, 8, 8)(torch.randn(1, 5, 8))
