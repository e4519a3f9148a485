"""Two processes modulate as one does with all of their samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from _branches import Joined, joined_batch, leading
from _figures import record
from _processes import run_processes
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avexperts.modulation import OnTheFlyGradientModulation, mmpareto, unimodal_logits

WORLD, STEPS = 2, 5


def start() -> tuple[Joined, dict[str, Tensor], Tensor]:
    torch.manual_seed(2)
    model = Joined()
    inputs, target = joined_batch(8)
    leading(model, inputs, target)
    return model, inputs, target


def train(
    model: nn.Module, inputs: dict[str, Tensor], target: Tensor, *, noise: bool, rule: str = "conv", parts: int = 1
):
    """Some steps, the third of which has no labels on the last process."""
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    modulation = OnTheFlyGradientModulation(bare.branches, alpha=0.8, noise=noise, rule=rule)
    modulation.attach(optimizer)
    seen = []
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in range(parts):
            here = slice(part * len(target) // parts, (part + 1) * len(target) // parts)
            logits, features = model({name: value[here] for name, value in inputs.items()})
            alone = unimodal_logits(bare.head, features)
            if step != 2:
                modulation.observe(alone, target[here])
            elif not dist.is_initialized():  # the first process's half, which alone has labels
                modulation.observe({name: value[:4] for name, value in alone.items()}, target[here][:4])
            elif dist.get_rank() == 0:
                modulation.observe(alone, target[here])
            (nn.functional.cross_entropy(logits, target[here]) / parts).backward()
        optimizer.step()
        seen.append(modulation.last.coefficients)
    weights = {name: getattr(p.detach(), "full_tensor", p.detach)() for name, p in bare.named_parameters()}
    return weights | {"coefficients": torch.stack(seen)}


def work(rank: int, folder: Path) -> None:
    from torch.distributed.fsdp import fully_shard  # an older torch has it elsewhere

    model, inputs, target = start()
    share = slice(4 * rank, 4 * rank + 4)
    inputs, target = {name: value[share] for name, value in inputs.items()}, target[share]
    found = {"ogm-ge": train(DistributedDataParallel(model), inputs, target, noise=True)}
    found["accumulated"] = train(DistributedDataParallel(start()[0]), inputs, target, noise=False, parts=2)
    sharded = start()[0]
    fully_shard(sharded)
    found["sharded"] = train(sharded, inputs, target, noise=False)
    assert unlabelled_step_changes_nothing()
    messages = []
    with pytest.raises(ValueError, match="where they are sharded") as caught:
        train(sharded, inputs, target, noise=True)
    messages.append(str(caught.value))
    logits, features = model(inputs)
    losses = {name: value.sum() for name, value in features.items()}
    with pytest.raises(RuntimeError, match="gradients of one process") as several:
        mmpareto(logits.sum(), losses, model.branches)
    messages.append(str(several.value))
    torch.save({"found": found, "messages": messages}, folder / f"{rank}.pt")


def unlabelled_step_changes_nothing() -> bool:
    model, inputs, target = start()
    modulation = OnTheFlyGradientModulation(model.branches, alpha=0.8, noise=True)
    nn.functional.cross_entropy(model(inputs)[0], target).backward()
    raw = [parameter.grad.clone() for parameter in model.parameters()]
    modulation.step()
    assert modulation.averages() == {}
    return all(torch.equal(p.grad, before) for p, before in zip(model.parameters(), raw, strict=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = run_processes(work, tmp_path_factory.mktemp("runs"), count=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("what", ["ogm-ge", "accumulated", "sharded"])
def test_two_processes_do_what_one_does(runs: list[dict], what: str) -> None:
    model, inputs, target = start()
    one = train(model, inputs, target, noise=what == "ogm-ge")
    assert (one["coefficients"][:, 0] < 1).any()
    first, second = (run["found"][what] for run in runs)
    worst = max((first[name] - value).abs().max().item() for name, value in one.items())
    record(f"modulation on two processes, {what}: difference from one", worst)
    assert worst < 2e-6
    assert all(torch.equal(first[name], second[name]) for name in one)


def test_what_cannot_be_shared_says_so(runs: list[dict]) -> None:
    assert all(len(run["messages"]) == 2 for run in runs)
