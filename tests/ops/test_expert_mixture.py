from __future__ import annotations

import _figures
import pytest
import torch
from _check_op import RMS_BOUNDS, rms_ratio
from _close import assert_close
from _experts import expert, half_of, run, statistics, taken_apart, worst
from hypothesis import given, settings
from hypothesis import strategies as st

from avexperts import ops
from avexperts.ops._backend import forced
from avexperts.ops.expert_mixture import _mix_experts
from avexperts.ops.expert_mixture.fused import fused
from avexperts.ops.expert_mixture.reference import reference

options = st.fixed_dictionaries(
    {
        "norms": st.booleans(),
        "batch_norm": st.sampled_from([None, "eval", "train"]),
        "biases": st.booleans(),
        "gated": st.booleans(),
    }
)
activations = st.sampled_from([None, "relu", "gelu", "silu"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_fused_form_is_the_reference(data: st.DataObject) -> None:
    frames, tokens = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 9))
    groups, width = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 5))
    shared = data.draw(options)
    experts = [
        expert(
            frames, groups * width, groups * data.draw(st.integers(1, 3)), groups=groups,
            latents=data.draw(st.integers(0, 4)), activation=data.draw(activations), **shared,
        )
        for _ in range(data.draw(st.integers(1, 4)))
    ]  # fmt: skip
    x, probs, *experts = (
        half_of(value, torch.float64)
        for value in (torch.randn(frames, tokens, groups * width) + 1, torch.rand(frames, len(experts)), *experts)
    )
    actual, expected = run("fused", x, probs, experts), run("reference", x, probs, experts)
    for a, e in zip(actual[0] + actual[1], expected[0] + expected[1], strict=True):
        assert_close(a, e, gradient=True)


@pytest.mark.parametrize("batch_norm", [None, "train"])
def test_gradients_are_those_of_the_function(batch_norm: str | None) -> None:
    experts = [
        half_of(expert(2, 6, 4, groups=2, latents=latents, batch_norm=batch_norm, activation="silu"), torch.float64)
        for latents in (2, 0)
    ]
    tensors, put_together = taken_apart(experts)
    tensors = [torch.randn(2, 3, 6).double(), torch.rand(2, 2).double(), *tensors]
    assert torch.autograd.gradcheck(
        lambda x, probs, *weights: fused(x, probs, put_together(weights)),
        [tensor.requires_grad_() for tensor in tensors],
        nondet_tol=0.0,
    )


@pytest.mark.parametrize("dtype", RMS_BOUNDS, ids=str)
@pytest.mark.parametrize(
    ("tokens", "batch_norm"), [(1, None), (63, None), (100, "train"), (2000, None), (2000, "train")]
)
def test_error_in_every_precision(dtype: torch.dtype, tokens: int, batch_norm: str | None) -> None:
    torch.manual_seed(2)
    experts = [
        expert(2, 96, 12, groups=2, latents=32, batch_norm=batch_norm, activation="relu"),
        expert(2, 96, 12, groups=2, batch_norm=batch_norm),
    ]
    error = worst("fused", torch.randn(2, tokens, 96), torch.rand(2, 2), experts, dtype)
    _figures.record(f"mix_experts, fused {dtype}: RMS error, forward and gradients", error)
    assert error <= RMS_BOUNDS[dtype]


def test_nothing_in_nothing_out() -> None:
    experts = [expert(0, 8, 4, latents=3), expert(0, 8, 4)]
    for x in (torch.randn(0, 5, 8), torch.randn(2, 0, 8)):
        here = [each._replace(read=None if each.read is None else torch.randn(len(x), 3, 8)) for each in experts]
        actual, _ = run("fused", x, torch.rand(len(x), 2), here)
        expected, _ = run("reference", x, torch.rand(len(x), 2), here)
        for a, e in zip(actual, expected, strict=True):
            assert torch.equal(a, e)


def test_an_expert_of_no_weight_adds_nothing() -> None:
    experts = [expert(2, 16, 4, latents=3), expert(2, 16, 4)]
    x, probs = torch.randn(2, 5, 16), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    with forced("fused"):
        assert_close(ops.mix_experts(x, probs, experts), ops.mix_experts(x, probs[:, 1:], experts[1:]))


def test_a_closed_gate_gives_exact_zeros() -> None:
    experts = [
        expert(2, 16, 4, latents=3)._replace(gate=torch.zeros(1)),
        expert(2, 16, 4)._replace(gate=torch.zeros(1)),
    ]
    with forced("fused"):
        y = ops.mix_experts(torch.randn(2, 5, 16), torch.rand(2, 2), experts)
    assert torch.equal(y, torch.zeros(2, 5, 16))


def test_shifted_tokens_lose_no_digits() -> None:
    # mean and variance of the norms come from sums: a large common offset must not cancel
    experts = [expert(2, 96, 12, groups=2, latents=8), expert(2, 96, 12, groups=2)]
    x, probs = torch.randn(2, 50, 96) + 30, torch.rand(2, 2)
    exact = ops.mix_experts(x.double(), probs.double(), [half_of(each, torch.float64) for each in experts])
    errors = {}
    for backend in ("reference", "fused"):
        with forced(backend):
            y = ops.mix_experts(x, probs, experts)
        errors[backend] = ((y - exact).norm() / exact.norm()).item()
    assert errors["fused"] <= max(4 * errors["reference"], 1e-5), errors


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_gives_the_dtype_of_the_reference(norms: bool, gated: bool, dtype: torch.dtype) -> None:
    experts = [expert(2, 16, 4, latents=latents, norms=norms, gated=gated) for latents in (3, 0)]
    x, probs, y = torch.randn(2, 5, 16, dtype=dtype), torch.rand(2, 2, dtype=torch.bfloat16), {}
    for backend in ("reference", "fused"):
        with forced(backend), torch.autocast("cpu", torch.bfloat16):
            y[backend] = ops.mix_experts(x, probs, experts)
    assert y["fused"].dtype == y["reference"].dtype
    assert rms_ratio(y["fused"], y["reference"].float()) < 2e-2  # two products of the reference are in bfloat16


def test_tokens_of_any_layout() -> None:
    experts = [expert(2, 16, 4, latents=3), expert(2, 16, 4)]
    x, probs = torch.randn(2, 16, 5).mT, torch.rand(2, 2)
    with forced("fused"):
        assert torch.equal(ops.mix_experts(x, probs, experts), ops.mix_experts(x.contiguous(), probs, experts))


def test_one_graph_and_an_exported_program() -> None:
    experts = [expert(4, 16, 4, groups=2, latents=3, activation="relu"), expert(4, 16, 4, groups=2)]
    tensors, put_together = taken_apart(experts)

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor, probs: torch.Tensor) -> torch.Tensor:
            return ops.mix_experts(x, probs, put_together([x.clone() for x in tensors]))

    x, probs = torch.randn(4, 6, 16), torch.rand(4, 2)
    torch._dynamo.reset()
    with forced("fused"):
        eager = Module()(x, probs)
        assert_close(torch.compile(Module(), fullgraph=True, backend="aot_eager")(x, probs), eager)
        assert_close(torch.export.export(Module(), (x, probs), strict=False).module()(x, probs), eager)
    torch._dynamo.reset()


def test_compilation_is_spent_on_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(_mix_experts, "compiled", lambda function: compiled.append(function) or function)
    experts = [expert(2, 8, 4, groups=2), expert(2, 8, 4)]
    x, probs = torch.randn(2, 5, 8), torch.rand(2, 2)
    expected = ops.mix_experts(x, probs, experts)
    assert not compiled
    with forced("compiled"):
        assert torch.equal(ops.mix_experts(x, probs, experts), expected)
    assert compiled == [reference]


def test_running_statistics_move_once_per_step() -> None:
    experts = [expert(3, 16, 4, batch_norm="train")]
    before = [value.clone() for value in statistics(experts)]
    with forced("fused"):
        ops.mix_experts(torch.randn(3, 5, 16, requires_grad=True), torch.rand(3, 1), experts).sum().backward()
    assert all(not torch.equal(a, b) for a, b in zip(statistics(experts), before, strict=True))
    _, expected = run("reference", torch.ones(3, 5, 16), torch.rand(3, 1), [experts[0]])
    assert len(expected) == 4


def test_memory_between_forward_and_backward() -> None:
    experts = [expert(2, 64, 8, latents=4, batch_norm="train", activation="relu"), expert(2, 64, 8, batch_norm="train")]
    kept = {}
    for backend in ("reference", "fused"):
        tensors, put_together = taken_apart(experts)
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        x = torch.randn(2, 500, 64, requires_grad=True)
        own = {value.untyped_storage().data_ptr() for value in [x, *leaves]}
        storages: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor, storages=storages, own=own) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage
            return tensor

        with forced(backend), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = ops.mix_experts(x, torch.rand(2, 2), put_together(leaves))
        kept[backend] = sum(storage.nbytes() for storage in storages.values())
        y.sum().backward()
    _figures.record("mix_experts, fused: memory kept, share of the reference", kept["fused"] / kept["reference"])
    assert kept["fused"] < 0.35 * kept["reference"]


def test_what_does_not_fit_is_named() -> None:
    experts = [expert(2, 16, 4, groups=2), expert(2, 16, 4)]
    with pytest.raises(ValueError, match=r"probs must be \(2, 2\): frames by experts, got \(2, 3\)"):
        ops.mix_experts(torch.randn(2, 5, 16), torch.rand(2, 3), experts)
    with forced("fused"), pytest.raises(RuntimeError, match="different numbers of groups"):
        ops.mix_experts(torch.randn(2, 5, 16), torch.rand(2, 2), experts)
