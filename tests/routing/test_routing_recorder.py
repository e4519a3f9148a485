"""The routing recorder: exact, mergeable, on every way a model is called, and gone when it stops."""

from __future__ import annotations

import copy
import gc
import math
from pathlib import Path

import pytest
import torch
from _close import assert_close
from _processes import run_processes
from _towers import open_gates, toy_avmoe, toy_inputs
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._dynamo.exc import Unsupported
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import avexperts as ax


def routed(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def toy_model(seed: int = 0, **options) -> ax.LockStep:
    torch.manual_seed(seed)
    return open_gates(toy_avmoe(**options))


def flat(recorder: ax.RoutingRecorder) -> dict[str, Tensor]:
    """All of a summary's numbers in one tensor per mixture; NaN where there is none."""
    return {
        name: torch.tensor(
            [row.samples, *row.mean_probs, row.entropy, row.normalised_entropy, *row.load, row.aux_loss or math.nan],
            dtype=torch.float64,
        )
        for name, row in recorder.summary().items()
    }


def living_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def assert_same(a: ax.RoutingRecorder, b: ax.RoutingRecorder) -> None:
    got, expected = flat(a), flat(b)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-12, atol=1e-12, equal_nan=True)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 5), st.integers(0, 99))
def test_running_sums_equal_the_stored_probabilities(batches: list[int], experts: int, seed: int) -> None:
    recorder = ax.RoutingRecorder()
    stored = [routed(seed + index, batch, experts) for index, batch in enumerate(batches)]
    for probs in stored:
        recorder.update({"here": probs})
    every = torch.cat(stored).double()
    row = recorder.summary()["here"]
    entropy = -(every * every.log()).sum(-1).mean().item()
    assert row.samples == sum(batches)
    assert row.mean_probs == pytest.approx(every.mean(0).tolist(), abs=1e-12)
    assert row.entropy == pytest.approx(entropy, abs=1e-12)
    assert row.normalised_entropy == pytest.approx(entropy / math.log(experts) if experts > 1 else 0, abs=1e-12)
    assert row.load == pytest.approx([(every.argmax(-1) == e).double().mean().item() for e in range(experts)])
    assert row.aux_loss is None


def test_ends_of_the_scale_by_hand() -> None:
    recorder = ax.RoutingRecorder()
    recorder.update({"even": torch.full((4, 3), 1 / 3), "one": torch.eye(3)[[1, 1, 1, 0]]})
    even, one = recorder.summary().values()
    assert even.entropy == pytest.approx(math.log(3), abs=1e-6)
    assert even.normalised_entropy == pytest.approx(1, abs=1e-6)
    assert one.entropy == one.normalised_entropy == 0
    assert one.load == one.mean_probs == (0.25, 0.75, 0)


def test_a_million_small_numbers_do_not_drown() -> None:
    recorder, probs = ax.RoutingRecorder(), torch.tensor([[0.9, 0.1]]).expand(50_000, 2)
    for _ in range(20):
        recorder.update({"here": probs})
    assert recorder.summary()["here"].mean_probs == pytest.approx((0.9, 0.1), abs=1e-7)  # what float32 makes of 0.9


def test_recording_a_model_equals_its_stored_outputs() -> None:
    model, recorder = toy_model(), ax.RoutingRecorder()
    outs = [model(toy_inputs(batch)) for batch in (3, 5, 3)]
    for out in outs:
        recorder.update(out)
    for name, row in recorder.summary().items():
        probs = torch.cat([out.routing[name] for out in outs]).double()
        losses = [out.readings["aux_loss"][name].double() for out in outs]
        assert row.samples == 11
        assert_close(torch.tensor(row.mean_probs, dtype=torch.float64), probs.mean(0))
        assert row.aux_loss == pytest.approx(torch.stack(losses).mean().item(), abs=1e-12)
    assert list(recorder.summary()) == list(outs[0].routing)


def test_the_context_sees_every_call_and_leaves_nothing() -> None:
    model, inputs, by_hand = toy_model(), toy_inputs(), ax.RoutingRecorder()
    attributes = set(vars(model))
    with ax.RoutingRecorder(model) as recorder:
        by_hand.update(model(inputs))
        with torch.inference_mode():
            by_hand.update(model(**inputs))
        out = model(inputs)
        out.vision.sum().backward()
        by_hand.update(out)
    model(inputs)
    assert_same(recorder, by_hand)
    assert all(not module._forward_hooks for module in model.modules())
    assert set(vars(model)) == attributes


def test_recording_changes_no_output_no_gradient_and_keeps_no_graph() -> None:
    model, inputs = toy_model(), toy_inputs()

    def step() -> tuple[Tensor, ...]:
        out = model(inputs)
        loss = out.vision.square().mean() + out.aux_loss
        return out.vision.detach(), *torch.autograd.grad(loss, list(model.adapter_parameters()), allow_unused=True)

    plain = step()
    with ax.RoutingRecorder(model) as recorder:
        recorded = step()
    for a, b in zip(plain, recorded, strict=True):
        assert a is b is None or torch.equal(a, b)
    assert not any(sums.requires_grad for sums in recorder._sums.values())
    before = living_tensors()
    with recorder:
        for _ in range(5):
            model(inputs)
    assert living_tensors() <= before


def test_recording_never_asks_the_device_for_a_value() -> None:
    recorder = ax.RoutingRecorder()
    with torch.no_grad():
        out = toy_model()(toy_inputs())
    with FakeTensorMode(allow_non_fake_inputs=True):  # where a value that is needed raises
        for _ in range(2):
            recorder.update(out)
        with pytest.raises(DataDependentOutputException):
            recorder.summary()


def test_an_error_in_the_model_or_in_the_block_ends_the_recording() -> None:
    model = toy_model()
    with pytest.raises(ValueError, match="unknown streams"), ax.RoutingRecorder(model):
        model(depth=torch.ones(1))
    assert not model._forward_hooks


def test_two_recorders_at_once_stop_in_any_order() -> None:
    model, inputs = toy_model(), toy_inputs()
    first, second = ax.RoutingRecorder(model), ax.RoutingRecorder(model)
    first.__enter__()
    second.__enter__()
    model(inputs)
    first.__exit__()
    model(inputs)
    second.__exit__()
    model(inputs)
    assert {row.samples for row in first.summary().values()} == {3}
    assert {row.samples for row in second.summary().values()} == {6}


@pytest.mark.parametrize("how", ["compile, record", "compile, run, record", "record, compile", "torch.compile, record"])
def test_compiled_models_are_recorded_without_a_graph_more(how: str) -> None:
    torch._dynamo.reset()
    model, inputs, by_hand = toy_model(parts=(0,)), toy_inputs(), ax.RoutingRecorder()
    by_hand.update(copy.deepcopy(model)(inputs))
    counter = CompileCounter()
    if how.startswith("torch.compile"):
        model = torch.compile(model, backend=counter, fullgraph=True)
    elif how.startswith("compile"):
        model.compile(backend=counter)
    if "run" in how:
        model(inputs)
    with ax.RoutingRecorder(model) as recorder:
        if how == "record, compile":
            model.compile(backend=counter)
        model(inputs)
    model(inputs)
    assert counter.frame_count == 1
    for name, value in flat(by_hand).items():
        assert_close(flat(recorder)[name].float(), value.float(), what=name)


def test_inside_of_a_larger_graph_it_says_so() -> None:
    torch._dynamo.reset()
    model, inputs = toy_model(parts=(0,)), toy_inputs()

    def outer(inputs: dict[str, Tensor]) -> Tensor:
        return model(inputs).vision

    with ax.RoutingRecorder(model) as recorder, pytest.raises(Unsupported, match="disable"):
        torch.compile(outer, backend="eager", fullgraph=True)(inputs)
    with pytest.raises(RuntimeError, match="compiled inside of something larger"):
        recorder.summary()


def test_absent_streams_do_not_count_for_masked_experts() -> None:
    model, inputs = toy_model(), toy_inputs()
    with ax.RoutingRecorder(model) as recorder:
        model(vision=inputs["vision"])
        model(vision=inputs["vision"], audio=None)
    rows = recorder.summary()
    assert all(name.startswith("vision.") for name in rows)
    assert all(row.mean_probs == row.load == (0, 1) and row.samples == 6 for row in rows.values())
    with recorder:
        model(inputs)
    rows = recorder.summary()
    assert {row.samples for name, row in rows.items() if name.startswith("vision.")} == {9}
    assert {row.samples for name, row in rows.items() if name.startswith("audio.")} == {3}


def test_batches_of_several_adapters_are_kept_apart() -> None:
    model = toy_model()
    model.add_adapter("wide", toy_model(cross_experts=2))
    with ax.RoutingRecorder(model) as recorder:
        model(toy_inputs(), adapters=["default", "wide", "wide"])
        model(toy_inputs(), adapters=["default", "wide", None])
    rows = recorder.summary()
    sizes = {(name.partition("/")[0], row.samples, len(row.load)) for name, row in rows.items()}
    assert sizes == {("default", 2, 2), ("wide", 3, 3)}


def test_samples_that_no_expert_could_serve_do_not_count() -> None:
    recorder = ax.RoutingRecorder()
    recorder.update({"here": torch.tensor([[0.0, 0.0], [0.25, 0.75]]), "nowhere": torch.zeros(3, 2)})
    here, nowhere = recorder.summary().values()
    assert (here.samples, here.mean_probs, here.load) == (1, (0.25, 0.75), (0, 1))
    assert nowhere.samples == 0
    assert math.isnan(nowhere.entropy)


def test_disabled_adapters_and_models_without_routers_record_nothing() -> None:
    model = toy_model()
    with ax.RoutingRecorder(model) as recorder, model.disable_adapters():
        model(toy_inputs())
    with pytest.raises(RuntimeError, match="no routing was recorded"):
        recorder.summary()
    assert str(recorder) == "RoutingRecorder: nothing recorded"


def test_merging_equals_one_recorder() -> None:
    outs = [toy_model()(toy_inputs(batch)) for batch in (2, 4, 3)] + [toy_model()(vision=toy_inputs()["vision"])]
    one, left, right = (ax.RoutingRecorder() for _ in range(3))
    for index, out in enumerate(outs):
        one.update(out)
        (left if index % 2 else right).update(out)
    left.merge(right)
    assert_same(left, one)
    assert_same(one.reduce(), one)
    left.merge(left.reduce())
    assert left.summary()["vision.blocks.1.attn"].samples == 2 * one.summary()["vision.blocks.1.attn"].samples
    assert_same(one.reduce(), one)


def test_reset_forgets() -> None:
    recorder = ax.RoutingRecorder()
    recorder.update({"here": torch.eye(2)})
    recorder.reset()
    recorder.update({"here": torch.eye(3)})
    assert recorder.summary()["here"].samples == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float64(dtype: torch.dtype) -> None:
    recorder, probs = ax.RoutingRecorder(), routed(0, 4000, 3).to(dtype)
    recorder.update({"here": probs})
    with torch.autocast("cpu", torch.bfloat16):
        recorder.update({"here": probs})
    assert recorder.summary()["here"].mean_probs == pytest.approx(probs.double().mean(0).tolist(), abs=1e-12)


def test_the_table_names_every_mixture() -> None:
    with ax.RoutingRecorder(toy_model()) as recorder:
        recorder.model(toy_inputs())
    lines = str(recorder).splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(recorder.summary())
    assert all(line.split()[1] == "3" for line in lines[2:])


def test_bad_use() -> None:
    recorder = ax.RoutingRecorder(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="Tensor carries no routing: record the LockStep itself"), recorder:
        recorder.model(torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"here: routing probabilities must be \(B, E\), got \(2,\)"):
        recorder.update({"here": torch.ones(2)})
    recorder.update({"here": torch.eye(2)})
    with pytest.raises(ValueError, match="here had 2 experts and now has 3"):
        recorder.update({"here": torch.eye(3)})
    with pytest.raises(ValueError, match="give the model"), ax.RoutingRecorder():
        pass
    with recorder, pytest.raises(RuntimeError, match="recording already"), recorder:
        pass


def worker(rank: int, folder: Path) -> None:
    model = nn.parallel.DistributedDataParallel(toy_model())
    inputs = {name: x[2 * rank : 2 * rank + 2] for name, x in fixed_inputs().items()}
    with ax.RoutingRecorder(model) as recorder:
        model(inputs)
        if rank == 0:
            model(inputs | {"audio": None})
    torch.save(flat(recorder.reduce()), folder / f"{rank}.pt")


def fixed_inputs() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return toy_inputs(4)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    folder = run_processes(worker, tmp_path)
    model, inputs = toy_model(), fixed_inputs()
    halves = [{name: x[2 * rank : 2 * rank + 2] for name, x in inputs.items()} for rank in range(2)]
    with ax.RoutingRecorder(model) as recorder:
        for half in (*halves, halves[0] | {"audio": None}):
            model(half)
    shares = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, expected in flat(recorder).items():
        assert torch.equal(shares[0][name], shares[1][name])
        assert_close(shares[0][name].float(), expected.float(), what=name)
