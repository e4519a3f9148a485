"""Parts that all tasks share, parts that belong to one, and the page that explains them."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from avexperts.prompts import AttentionPromptPool, HomeostaticPrompt, PlasticPrompt, PrefixPrompt


def bank(**options) -> PlasticPrompt:
    return PlasticPrompt(lambda: nn.Linear(3, 3), **options)


def test_only_the_newest_task_trains() -> None:
    prompts = bank()
    for name in ("ave", "avqa", "s4"):
        prompts.add_task(name)
    trained = {name for name, parameter in prompts.named_parameters() if parameter.requires_grad}
    assert trained == {"tasks.s4.weight", "tasks.s4.bias"}
    prompts.set_task("ave")
    assert prompts.current is prompts.tasks["ave"]
    prompts.freeze("s4")
    assert not any(parameter.requires_grad for parameter in prompts.parameters())


@pytest.mark.parametrize("init_from", ["previous", "fresh"])
def test_where_a_task_starts(init_from: str) -> None:
    prompts = bank(init_from=init_from)
    prompts.add_task("ave")
    nn.init.constant_(prompts.tasks["ave"].weight, 7.0)
    prompts.add_task("avqa")
    assert torch.equal(prompts.tasks["avqa"].weight, prompts.tasks["ave"].weight) == (init_from == "previous")


def test_a_task_belongs_where_the_bank_is() -> None:
    prompts = bank().double().eval()
    prompts.add_task("ave")
    prompts.add_task("avqa")
    assert {parameter.dtype for parameter in prompts.parameters()} == {torch.float64}
    assert not any(part.training for part in prompts.modules())
    late = bank().to("meta")
    late.add_task("ave")  # what is there later decides
    assert not late.tasks["ave"].weight.is_meta


def test_the_state_of_one_task() -> None:
    prompts, other = bank(), bank()
    prompts.add_task("ave")
    state = prompts.state_dict_for("ave")
    assert list(state) == ["weight", "bias"]
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    other.check_task("avqa", state)
    assert torch.equal(torch.random.get_rng_state(), before)
    other.load_task("avqa", state)
    assert other.task == "avqa"
    assert torch.equal(other.tasks["avqa"].weight, prompts.tasks["ave"].weight)
    nn.init.zeros_(other.tasks["avqa"].weight)
    other.load_task("avqa", state)
    assert other.tasks["avqa"].weight.any()


def test_errors() -> None:
    prompts = bank()
    with pytest.raises(ValueError, match=r"no task was added yet: call add_task\(name\)"):
        prompts(torch.ones(1, 3))
    prompts.add_task("ave")
    for call in (prompts.set_task, prompts.freeze, prompts.state_dict_for):
        with pytest.raises(ValueError, match=r"unknown task 'avs': add_task it first; there are \['ave'\]"):
            call("avs")
    with pytest.raises(ValueError, match="'ave' was added already"):
        prompts.add_task("ave")
    for name in ("a.b", "", "keys", "pop"):
        with pytest.raises(ValueError, match="a task's name has letters"):
            prompts.add_task(name)
    with pytest.raises(ValueError, match=r"missing bias, unexpected b, weight is \(3,\), expected \(3, 3\)"):
        prompts.load_task("avs", {"weight": torch.ones(3), "b": torch.ones(1)})
    assert list(prompts.tasks) == ["ave"]
    with pytest.raises(ValueError, match="init_from is 'previous' or 'fresh', got 'last'"):
        bank(init_from="last")


def test_shared_parts_are_told_of_tasks_where_they_ask() -> None:
    pool = HomeostaticPrompt(AttentionPromptPool(4, 2, 8, num_tasks=2))
    pool.begin_task(1)
    assert pool.current.task == 1
    plain = HomeostaticPrompt(PrefixPrompt(1, 2, 8))
    plain.begin_task(0)
    assert plain(3).shape == (1, 3, 2, 2, 8)


def test_a_copy_has_tasks_of_its_own() -> None:
    prompts = bank()
    prompts.add_task("ave")
    other = copy.deepcopy(prompts)
    other.add_task("avqa")
    assert list(prompts.tasks) == ["ave"]


def test_the_page_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    page = Path(__file__).parents[2] / "docs" / "prompts.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(blocks) == 2
    exec(compile("\n".join(blocks), str(page), "exec"), {})
    assert "('ave', 'avqa') ave ('shallow', 'mid', 'deep', 'deep')" in capsys.readouterr().out
