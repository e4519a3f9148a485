from __future__ import annotations

import os
import subprocess
import sys

import _figures
import pytest
import torch
from _check_op import RMS_BOUNDS, poisoned, rms_ratio
from _experts import expert, half_of, on, run, taken_apart, worst

from avexperts import ops
from avexperts.ops._backend import forced

GPU = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
# frames, tokens, channels, hidden channels, groups, latent tokens of each expert, options
CASES = [
    (2, 1, 16, 4, 1, (3, 0), {}),
    (2, 63, 100, 10, 5, (5, 0), {"activation": "relu"}),
    (1, 100, 63, 7, 7, (0, 3), {"activation": "gelu", "biases": True}),
    (2, 65, 40, 8, 2, (4, 4, 0, 0), {"batch_norm": "eval", "activation": "silu"}),
    (1, 40, 24, 6, 3, (3,), {"norms": False}),
    (2, 33, 24, 6, 3, (0,), {"gated": False}),
    (1, 2000, 96, 12, 2, (32, 0), {"activation": "relu"}),
    (1, 20, 1536, 192, 2, (32, 0), {"activation": "relu"}),
]


def triton_cases(device: str) -> None:
    """Hold the kernel against the reference on ``device``: odd sizes, every precision, poison all around."""
    for frames, tokens, dim, hidden, groups, latents, options in CASES:
        torch.manual_seed(2)
        experts = [expert(frames, dim, hidden, groups=groups, latents=count, **options) for count in latents]
        x, probs = torch.randn(frames, tokens, dim), 0.1 + torch.rand(frames, len(experts))
        x, probs, *experts = (on(value, lambda t: poisoned(t.to(device))) for value in (x, probs, *experts))
        for dtype, bound in RMS_BOUNDS.items():
            error = worst("triton", x, probs, experts, dtype, poisoned)
            print(f"{(frames, tokens, dim, hidden, groups, latents)} {dtype}: {error:.2e}")
            assert error <= bound, (frames, tokens, dim, options, dtype, error)
    _empty_cases(device)
    _graph_cases(device)


def _empty_cases(device: str) -> None:
    for shape in ((0, 5, 8), (2, 0, 8)):
        experts = [on(expert(shape[0], 8, 4, latents=count), lambda t: t.to(device)) for count in (3, 0)]
        actual, _ = run("triton", torch.randn(shape, device=device), torch.rand(shape[0], 2, device=device), experts)
        assert actual[0].shape == shape
        assert all(torch.equal(gradient, torch.zeros_like(gradient)) for gradient in actual[2:])


def _graph_cases(device: str) -> None:
    experts = [expert(3, 16, 4, groups=2, latents=3, activation="relu"), expert(3, 16, 4, groups=2)]
    experts = [on(each, lambda t: t.to(device)) for each in experts]
    tensors, put_together = taken_apart(experts)
    leaves = [t.to(device).requires_grad_() for t in (torch.randn(3, 7, 16), torch.rand(3, 2), *tensors)]

    class Module(torch.nn.Module):
        def forward(self, x: torch.Tensor, probs: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
            return ops.mix_experts(x, probs, put_together(weights))

    with forced("triton"):
        eager = Module()(*leaves)
        expected = torch.autograd.grad(eager.square().sum(), leaves)
        program = torch.export.export(Module(), tuple(leaves), strict=False).module()
        for form in (torch.compile(Module(), fullgraph=True, backend="aot_eager"), program):
            y = form(*leaves)
            torch.testing.assert_close(y, eager)
            for a, e in zip(torch.autograd.grad(y.square().sum(), leaves), expected, strict=True):
                torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-5)


def test_the_kernel_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    code = "import sys; sys.path[:0] = sys.argv[1:]; from test_expert_mixture_triton import triton_cases as c; c('cpu')"
    here = os.path.dirname(__file__)
    out = subprocess.run(
        [sys.executable, "-c", code, here, os.path.dirname(here)],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert out.returncode == 0, out.stdout + out.stderr
    for line in out.stdout.splitlines():
        case, figure = line.rsplit(":", 1)
        _figures.record(f"mix_experts, triton {case.split()[-1]}: RMS error, forward and gradients", float(figure))


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ([expert(2, 16, 4, batch_norm="train")], "batch norms that train"),
        ([expert(2, 16, 4), expert(2, 16, 8)], "differ in hidden channels"),
        ([expert(2, 16, 4, latents=3), expert(2, 16, 4, latents=2)], "differ in latent tokens"),
        ([expert(2, 64, 64) for _ in range(9)], "576 hidden channels of all experts: the kernel holds at most 512"),
    ],
)
def test_what_the_kernel_does_not_know_is_said(experts, message, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    dim = experts[0].up.shape[0]
    with forced("triton"), pytest.raises(RuntimeError, match=f"op 'mix_experts' .*{message}"):
        ops.mix_experts(torch.randn(2, 5, dim), torch.rand(2, len(experts)), experts)


class TestOnAGpu:
    pytestmark = GPU

    def test_the_kernel(self) -> None:
        triton_cases("cuda")

    def test_more_than_two_to_the_31_elements(self) -> None:
        frames, tokens, dim = 5500, 4096, 96
        assert frames * tokens * dim > 2**31
        experts = [expert(frames, dim, 12, groups=2, latents=8, activation="relu"), expert(frames, dim, 12, groups=2)]
        experts = [on(half_of(each, torch.bfloat16), lambda t: t.cuda()) for each in experts]
        x = torch.randn(frames, tokens, dim, device="cuda", dtype=torch.bfloat16)
        probs = torch.rand(frames, 2, device="cuda", dtype=torch.bfloat16)
        with forced("triton"):
            out = ops.mix_experts(x, probs, experts)
        last = [half_of(each, torch.float32) for each in experts]
        last = [each._replace(read=None if each.read is None else each.read[-2:]) for each in last]
        with forced("reference"):
            expected = ops.mix_experts(x[-2:].float(), probs[-2:].float(), last)
        assert rms_ratio(out[-2:], expected) <= 6e-3
