"""What every op with more than one form must show, given a function of tensors that obeys the request for a backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from avexperts.ops._backend import forced

RMS_BOUNDS = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 6e-3}
Op = Callable[..., Tensor | tuple[Tensor, ...]]


def rms_ratio(actual: Tensor, expected: Tensor) -> float:
    """Root mean square of the error over that of what is expected; 0 for empty tensors."""
    expected = expected.double()
    error = (actual.double() - expected).norm()
    return 0.0 if error == 0 else (error / expected.norm()).item()


def outputs_and_gradients(op: Op, tensors: Sequence[Tensor], rounded: torch.dtype | None = None) -> list[Tensor]:
    """Run, then pull random cotangents, of values that ``rounded`` can hold, back to every tensor."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in tensors]
    out = op(*leaves)
    outs = out if isinstance(out, tuple) else (out,)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(o.shape, generator=generator).to(rounded or o.dtype).to(o) for o in outs]
    wanted = [x for x in leaves if x.requires_grad]
    return [*outs, *torch.autograd.grad(outs, wanted, cotangents)]


def worst_against_reference(op: Op, tensors: Sequence[Tensor], backend: str, dtype: torch.dtype) -> float:
    """Compare a backend at ``dtype`` with the reference at float32 on the same rounded values: the worst RMS ratio."""
    rounded = [x.to(dtype) if x.is_floating_point() else x for x in tensors]
    with forced(backend):
        actual = outputs_and_gradients(op, rounded)
    with forced("reference"):
        expected = outputs_and_gradients(op, [x.float() if x.is_floating_point() else x for x in rounded], dtype)
    assert all(a.shape == e.shape for a, e in zip(actual, expected, strict=True))
    return max(rms_ratio(a, e) for a, e in zip(actual, expected, strict=True))


def compiles_and_exports(op: Op, tensors: Sequence[Tensor], backend: str, batched: Sequence[int] = ()) -> None:
    """Hold one graph, its gradients and an exported program against eager; ``batched`` may grow in the latter."""

    class Module(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
            return op(*tensors)

    with forced(backend):
        torch._dynamo.reset()
        eager = outputs_and_gradients(op, tensors)
        graph = torch.compile(op, fullgraph=True, backend="aot_eager")
        sizes = {0: torch.export.Dim("batch", min=2, max=64)}
        dynamic = {"tensors": tuple(sizes if i in batched else None for i in range(len(tensors)))}
        program = torch.export.export(Module(), tuple(tensors), dynamic_shapes=dynamic, strict=False).module()
        for ours in (outputs_and_gradients(graph, tensors), outputs_and_gradients(program, tensors)):
            for a, e in zip(ours, eager, strict=True):
                torch.testing.assert_close(a, e, rtol=1e-5, atol=1e-6)
        torch._dynamo.reset()


def poisoned(x: Tensor) -> Tensor:
    """Copy ``x`` into the middle of a buffer of NaN, so that a read beyond its ends shows."""
    buffer = x.new_full((x.numel() + 512,), float("nan"))
    inner = buffer[256 : 256 + x.numel()].view(x.shape)
    return inner.copy_(x)
