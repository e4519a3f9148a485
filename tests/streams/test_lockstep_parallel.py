"""Two processes on one machine: DDP and FSDP2 give the gradients of one process on the joint batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from _close import assert_close
from _processes import run_processes
from _towers import open_gates, toy_avmoe, toy_inputs

WORLD = 2


def loss_of(out) -> torch.Tensor:
    return (
        out.vision.square().mean() + out.audio.square().mean() if "audio" in out.tokens else out.vision.square().mean()
    )


def model_and_inputs(absent: bool = False):
    torch.manual_seed(0)
    model, inputs = open_gates(toy_avmoe(parts=(0,))).train(), toy_inputs(4)
    parts = [{name: x[2 * rank : 2 * rank + 2] for name, x in inputs.items()} for rank in range(WORLD)]
    if absent:
        parts[1]["audio"] = None
    return model, parts


def wrap(model, how: str):
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if how == "ddp":
        return torch.nn.parallel.DistributedDataParallel(model)
    if how == "ddp-compiled":
        return torch.nn.parallel.DistributedDataParallel(torch.compile(model, fullgraph=True, backend="aot_eager"))
    if how == "fsdp-root":
        return fully_shard(model)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16) if how == "fsdp-experts-bf16" else MixedPrecisionPolicy()
    for coupling in model.couplings:
        for expert in coupling.experts.values():
            fully_shard(expert, mp_policy=policy)
    if how == "fsdp-root-compiled":
        fully_shard(model)
        model.compile(backend="aot_eager", fullgraph=False)
    return model


MODES = ("ddp", "ddp-compiled", "fsdp-root", "fsdp-experts", "fsdp-root-compiled")
CASES = [(how, False) for how in (*MODES, "fsdp-experts-bf16")] + [("ddp", True)]


def worker(rank: int, folder: Path) -> None:
    for how, absent in CASES:
        model, parts = model_and_inputs(absent)
        loss_of(wrap(model, how)(**parts[rank])).backward()
        gradients = {}
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                grad = parameter.grad
                gradients[name] = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
        if rank == 0:
            torch.save(gradients, folder / f"{how}-{absent}.pt")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run every case in one pair of processes, since starting them costs more than running."""
    return run_processes(worker, tmp_path_factory.mktemp("gradients"), count=WORLD)


def gradients_of(folder: Path, how: str, absent: bool = False) -> dict[str, torch.Tensor]:
    return torch.load(folder / f"{how}-{absent}.pt", weights_only=True)


def gradients_of_one_process(absent: bool = False) -> dict[str, torch.Tensor]:
    model, parts = model_and_inputs(absent)
    (sum(loss_of(model(**part)) for part in parts) / WORLD).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("how", MODES)
def test_two_processes_equal_one(two_processes: Path, how: str) -> None:
    got, expected = gradients_of(two_processes, how), gradients_of_one_process()
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(got[name], value, gradient=True, what=name)


def test_experts_in_bfloat16_under_fsdp(two_processes: Path) -> None:
    got, expected = gradients_of(two_processes, "fsdp-experts-bf16"), gradients_of_one_process()
    total = sum(value.square().sum() for value in expected.values()).sqrt()
    off = sum((got[name] - value).square().sum() for name, value in expected.items()).sqrt()
    assert 0 < off < 0.1 * total


def test_a_stream_absent_on_one_rank_stalls_nobody(two_processes: Path) -> None:
    got, expected = gradients_of(two_processes, "ddp", absent=True), gradients_of_one_process(absent=True)
    for name, value in expected.items():
        assert_close(got[name], value, gradient=True, what=name)
