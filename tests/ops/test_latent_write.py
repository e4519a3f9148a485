from __future__ import annotations

import os
import subprocess
import sys

import _figures
import pytest
import torch
from _check_op import (
    RMS_BOUNDS,
    compiles_and_exports,
    outputs_and_gradients,
    poisoned,
    rms_ratio,
    worst_against_reference,
)
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avexperts import LatentExchange, ops
from avexperts.ops._backend import forced

ODD = [(1, 1, 1, 1), (2, 63, 7, 100), (1, 2000, 32, 24), (2, 100, 63, 63), (0, 5, 3, 8), (3, 0, 2, 8)]


def make(frames: int, tokens: int, latents: int, dim: int) -> list[Tensor]:
    return [torch.randn(frames, tokens, dim), torch.randn(frames, latents, dim) / dim**0.25, torch.tensor([0.8])]


def scaled(*tensors: Tensor) -> Tensor:
    return ops.latent_write(*tensors, scale=0.7)


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(0, 3), tokens=st.integers(0, 9), latents=st.integers(1, 9), dim=st.integers(1, 9))
def test_the_fused_form_is_the_reference(frames, tokens, latents, dim) -> None:
    tensors = [x.double() for x in make(frames, tokens, latents, dim)]
    with forced("reference"):
        expected = outputs_and_gradients(scaled, tensors)
    with forced("fused"):
        actual = outputs_and_gradients(scaled, tensors)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e, gradient=True)


def test_gradients_are_those_of_the_function() -> None:
    tensors = [x.double().requires_grad_() for x in make(2, 5, 3, 4)]
    with forced("fused"):
        assert torch.autograd.gradcheck(scaled, tensors, nondet_tol=0.0)


@pytest.mark.parametrize("dtype", RMS_BOUNDS, ids=str)
@pytest.mark.parametrize("sizes", ODD, ids=str)
def test_error_in_every_precision(dtype: torch.dtype, sizes: tuple[int, ...]) -> None:
    worst = worst_against_reference(scaled, make(*sizes), "fused", dtype)
    _figures.record(f"latent_write, fused {dtype}: RMS error, forward and gradients", worst)
    assert worst <= RMS_BOUNDS[dtype]


@pytest.mark.parametrize("tokens_dtype", [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_neither_dtypes_nor_logits(tokens_dtype: torch.dtype) -> None:
    x, latents, gate = make(2, 40, 6, 8)
    tensors = [x.to(tokens_dtype), latents, gate]
    results = {}
    for backend in ("reference", "fused"):
        with forced(backend), torch.autocast("cpu", torch.bfloat16):
            results[backend] = outputs_and_gradients(scaled, tensors)
    for ours, theirs in zip(results["fused"], results["reference"], strict=True):
        assert ours.dtype == theirs.dtype
        assert rms_ratio(ours, theirs) < 1e-2
    with torch.autocast("cpu", torch.bfloat16):
        weights = torch.ops.avexperts.latent_write(*make(2, 40, 6, 8), 30.0)[1]
    assert weights.dtype == torch.float32


def test_one_graph_and_an_export() -> None:
    compiles_and_exports(scaled, make(3, 7, 4, 6), "fused", batched=[0, 1])


# opcheck itself looks at .grad of tensors that are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_the_operators_are_registered_in_full() -> None:
    tensors = [x.requires_grad_() for x in make(2, 5, 3, 4)]
    torch.library.opcheck(torch.ops.avexperts.latent_write.default, (*tensors, 0.7))


def test_backward_keeps_the_weights_alone() -> None:
    tensors = [x.requires_grad_() for x in make(2, 50, 4, 24)]
    own = {x.untyped_storage().data_ptr() for x in tensors}
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        if x.untyped_storage().data_ptr() not in own:
            kept.append(x.numel())
        return x

    with forced("fused"), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        ops.latent_write(*tensors)
    assert kept == [2 * 50 * 4]


def test_the_layer_writes_alike_in_every_form() -> None:
    exchange = LatentExchange(dim=16, num_latents=4, gate_init=0.5)
    x, read = torch.randn(2, 9, 16), torch.randn(2, 4, 16)
    with forced("reference"):
        expected = exchange.write(x, read)
    for backend in ("fused", "compiled"):
        with forced(backend):
            assert_close(exchange.write(x, read), expected, gradient=True, what=backend)


def test_a_second_derivative_is_refused_by_name_and_the_reference_gives_it() -> None:
    tensors = [x.requires_grad_() for x in make(1, 3, 2, 4)]
    for backend in ("fused", "reference"):
        with forced(backend):
            (first,) = torch.autograd.grad(scaled(*tensors).square().sum(), tensors[:1], create_graph=True)
        if backend == "fused":
            with pytest.raises(RuntimeError, match=r"backward through avexperts\.latent_write_backward"):
                first.square().sum().backward()
        else:
            first.square().sum().backward()
    assert tensors[1].grad is not None


def test_too_many_latents_for_registers_is_said() -> None:
    with forced("triton"), pytest.raises(RuntimeError, match=r"op 'latent_write' .* 65 latent tokens"):
        ops.latent_write(torch.ones(1, 2, 4), torch.ones(1, 65, 4), torch.ones(1))


def triton_cases(device: str) -> None:
    """Hold the kernels against the reference on ``device``: odd sizes, every precision, poison all around."""
    for sizes in [*ODD, (2, 65, 64, 65)]:
        for dtype, bound in RMS_BOUNDS.items():
            torch.manual_seed(1)  # the gate's gradient is one sum, whose terms may cancel: fix how far
            tensors = [poisoned(x.to(device, dtype)) for x in make(*sizes)]
            worst = worst_against_reference(scaled, tensors, "triton", dtype)
            print(f"{sizes} {dtype}: {worst:.2e}")
            assert worst <= bound, (sizes, dtype, worst)
    mixed = [x.to(device) for x in make(2, 40, 6, 24)]
    mixed[0] = mixed[0].bfloat16()
    with forced("triton"):
        ours = outputs_and_gradients(scaled, mixed, torch.bfloat16)
    with forced("reference"):
        dtypes = [x.dtype for x in outputs_and_gradients(scaled, mixed)]
        truth = outputs_and_gradients(scaled, [x.float() for x in mixed], torch.bfloat16)
    assert [x.dtype for x in ours] == dtypes
    assert max(map(rms_ratio, ours, truth)) <= RMS_BOUNDS[torch.bfloat16]
    compiles_and_exports(scaled, [x.to(device) for x in make(3, 7, 4, 6)], "triton", batched=[0, 1])


def test_the_kernels_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_latent_write import triton_cases; triton_cases('cpu')"
    here = os.path.dirname(__file__)
    out = subprocess.run(
        [sys.executable, "-c", code, here, os.path.dirname(here)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert out.returncode == 0, out.stdout + out.stderr
    worst: dict[str, float] = {}
    for line in out.stdout.splitlines():
        what, figure = line.rsplit(":", 1)
        worst[what.split()[-1]] = max(worst.get(what.split()[-1], 0), float(figure))
    for dtype, figure in worst.items():
        _figures.record(f"latent_write, triton {dtype}: RMS error, forward and gradients", figure)


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernels_on_a_gpu() -> None:
    triton_cases("cuda")


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_more_than_two_to_the_31_elements() -> None:
    frames, tokens, dim = 5500, 4096, 96
    assert frames * tokens * dim > 2**31
    x = torch.randn(frames, tokens, dim, device="cuda", dtype=torch.bfloat16)
    latents = torch.randn(frames, 32, dim, device="cuda", dtype=torch.bfloat16)
    gate = torch.ones(1, device="cuda", dtype=torch.bfloat16)
    with forced("triton"):
        out = ops.latent_write(x, latents, gate)
    with forced("reference"):
        expected = ops.latent_write(x[-2:].float(), latents[-2:].float(), gate.float())
    assert rms_ratio(out[-2:], expected) <= 6e-3
