"""Whole-graph compilation and export of a LockStep, and what happens when a graph breaks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _close import assert_close
from _towers import open_gates, toy_avmoe, toy_inputs, toy_pair, toy_stream
from torch import nn
from torch._dynamo.testing import CompileCounter

import avexperts as ax

PAIR = {"vision": "blocks.1.attn", "audio": "blocks.1.attn"}


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_inductor_compiles_a_whole_avmoe_model() -> None:
    torch.manual_seed(0)
    streams = {"vision": toy_stream(9, 3, 16, 1), "audio": toy_stream(6, 5, 32, 1)}
    model, inputs = open_gates(toy_avmoe(streams=streams, parts=(0,))), toy_inputs()

    def step() -> tuple[torch.Tensor, ...]:
        out = model(inputs)
        loss = out.vision.square().mean() + out.audio.square().mean()
        return out.vision, out.audio, *torch.autograd.grad(loss, list(model.adapter_parameters()))

    eager = step()
    model.compile()
    for compiled, expected in zip(step(), eager, strict=True):
        assert_close(compiled, expected, gradient=True)


def test_export_with_a_dynamic_batch() -> None:
    model, example = open_gates(toy_avmoe()).eval(), toy_inputs(4)
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = ({name: {0: batch} for name in example},)
    program = torch.export.export(model, (example,), dynamic_shapes=shapes)
    inputs = toy_inputs(7)
    assert_close(program.module()(inputs).vision, model(inputs).vision)


def test_one_graph_serves_any_batch_size() -> None:
    model = open_gates(toy_avmoe())
    counter = CompileCounter()
    model.compile(backend=counter, dynamic=True)
    for batch in (4, 6, 9):
        model(toy_inputs(batch))
    assert counter.frame_count == 1


def test_one_graph_for_each_set_of_present_streams() -> None:
    model, inputs = open_gates(toy_avmoe()), toy_inputs()
    counter = CompileCounter()
    model.compile(backend=counter)
    for given in (inputs, {"vision": inputs["vision"]}, inputs, {"vision": inputs["vision"]}):
        model(given)
    assert counter.frame_count == 2


@pytest.mark.parametrize("checkpoint", ["towers", "couplings", "all"])
def test_checkpointing_and_autocast_compile(checkpoint: str) -> None:
    pairing = [{"vision": "blocks.1.attn", "audio": "blocks.0.attn"}]  # blocks before it, between streams and after it
    model, inputs = open_gates(toy_avmoe(checkpoint=checkpoint, pairing=pairing)), toy_inputs()
    with torch.autocast("cpu", torch.bfloat16):
        eager = model(inputs).vision
    model.compile(backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        compiled = model(inputs).vision
        compiled.float().sum().backward()
    torch.testing.assert_close(compiled, eager, atol=2e-2, rtol=2e-2)  # bfloat16 sums in another order


class Breaking(nn.Module):
    def forward(self, *sites: ax.Site):
        torch._dynamo.graph_break()
        return tuple(site.run(site.tokens) for site in sites)


def test_a_graph_break_is_named() -> None:
    model = ax.LockStep(toy_pair(), [(PAIR, Breaking())])
    model.compile(backend="eager")
    with pytest.raises(ax.LockStepGraphBreak, match="graph_break"):
        model(toy_inputs())


def test_with_fullgraph_off_a_break_costs_speed_and_not_correctness() -> None:
    model, inputs = ax.LockStep(toy_pair(), [(PAIR, Breaking())]), toy_inputs()
    eager = model(inputs)
    model.compile(backend="eager", fullgraph=False)
    assert_close(model(inputs).vision, eager.vision)


def test_a_stream_that_a_break_has_drained_is_named() -> None:
    model = ax.LockStep(toy_pair())
    model._openers["vision"] = lambda tower, x: iter(())  # what a compiler that consumed the generator leaves behind
    with pytest.raises(ax.LockStepGraphBreak, match="running stream 'vision'"):
        model(toy_inputs())


def test_compiling_on_an_old_torch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.12.1+cpu")
    with pytest.raises(RuntimeError, match=r"needs torch 2\.13 or newer, this is 2\.12\.1"):
        toy_avmoe().compile()


def test_full_backward_hooks_fire_on_couplings() -> None:
    model, fired = open_gates(toy_avmoe()), []
    model.couplings[-1].register_full_backward_hook(lambda *_: fired.append(True))
    with pytest.warns(UserWarning, match="no inputs require gradients"):  # sites are tuples, which torch looks past
        model(toy_inputs()).vision.sum().backward()
    assert fired


def test_a_registered_custom_operator_stays_in_the_graph_under_autocast() -> None:
    @torch.library.custom_op("avexperts_test::scale", mutates_args=())
    def scale(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * weight

    scale.register_fake(lambda x, weight: torch.empty_like(x))
    scale.register_autograd(
        lambda ctx, grad: (grad * ctx.saved_tensors[1], (grad * ctx.saved_tensors[0]).sum((0, 1))),
        setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
    )
    scale.register_autocast("cpu", torch.bfloat16)

    class Scaled(nn.Module):
        def __init__(self, dim: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((dim,), 0.1))

        def forward(self, own, other):
            return scale(own, self.weight)

    coupling = ax.ResidualCoupling({"vision": Scaled(16), "audio": Scaled(32)})
    model, inputs = ax.LockStep(toy_pair(), [(PAIR, coupling)]), toy_inputs()
    model.compile(backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        model(inputs).vision.float().sum().backward()
    assert coupling.experts["vision"].weight.grad.abs().sum() > 0


def test_no_opener_or_driver_delegates_to_another_generator() -> None:
    sources = list(Path(ax.__file__).parent.glob("streams/*.py"))
    assert len(sources) > 5
    assert not [path.name for path in sources if "yield from" in path.read_text()]  # torch 2.13 cannot trace it
