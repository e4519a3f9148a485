"""Hand-computed properties of the prompt modules, and their errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from _close import assert_close
from torch import nn

from avexperts.prompts import (
    AttentionPromptPool,
    ContextPromptLearner,
    DynamicPromptGenerator,
    MemoryPromptGenerator,
    PrefixPrompt,
    PrefixPromptPool,
    PromptGate,
    PromptPool,
    TokenGridPrompt,
    prefix_attention,
    spectrogram_border_prompt,
)


def axes_pool(**options) -> PromptPool:
    pool = PromptPool(3, 2, 3, **options)
    nn.init.eye_(pool.keys)
    return pool


def test_a_query_along_a_key_finds_it() -> None:
    found = axes_pool()(torch.tensor([[0.0, 5.0, 0.0]]))
    assert found.indices.tolist() == [[1]]
    assert_close(found.similarity, torch.tensor([[0.0, 1.0, 0.0]]))
    assert_close(found.pull_loss, torch.tensor(-1.0))


@pytest.mark.parametrize(("chosen", "all_take"), [([0, 1, 1, 0, 2], 0), ([2, 1, 1], 1)])
def test_a_batch_takes_what_most_of_it_chose(chosen: list[int], all_take: int) -> None:
    found = axes_pool(batchwise=True)(torch.eye(3)[chosen])
    assert found.indices.flatten().tolist() == [all_take] * len(chosen)


def test_a_batch_that_chose_too_few_fills_up_with_the_lowest() -> None:
    pool = axes_pool(top_k=2, batchwise=True)
    with torch.no_grad():
        pool.keys[0] = pool.keys[2] = torch.tensor([0.0, 0.0, 1.0])
    found = pool(torch.tensor([[0.0, 0.1, 1.0]]))
    assert found.indices.tolist() == [[0, 2]]
    assert pool(torch.eye(3)[[2, 2]], mask=None).indices.tolist() == [[0, 2]] * 2


@pytest.mark.parametrize("query", ["mean", "max", "mean_max", "cls"])
def test_queries(query: str) -> None:
    tokens = torch.tensor([[[1.0, 4.0, 0.0], [3.0, 0.0, 0.0]]])
    expected = {"mean": [2.0, 2.0, 0.0], "max": [3.0, 4.0, 0.0], "mean_max": [7.0, 8.0, 0.0], "cls": [1.0, 4.0, 0.0]}
    direction = nn.functional.normalize(torch.tensor([expected[query]]), dim=1)
    assert_close(axes_pool(query=query)(tokens).similarity, direction)
    assert_close(axes_pool(query="cls")(tokens, cls=torch.eye(3)[:1]).similarity, torch.eye(3)[:1])


@pytest.mark.parametrize(
    ("rows", "layout"), [(4, ["KK", "KK", "VV", "VV"]), (5, ["KK", "KK", "KV", "VV", "VV"]), (1, ["KV"])]
)
def test_the_legacy_layout(rows: int, layout: list[str]) -> None:
    pool = PrefixPromptPool(1, 3, 2, 4, batchwise=True, legacy_layout=True)
    with torch.no_grad():
        pool.prompts[:, 0], pool.prompts[:, 1] = 0, 1
    found = pool(torch.randn(rows, 5, 4)).prompts[0].mean((2, 3))
    assert ["".join("KV"[int(part)] for part in row) for row in found] == layout


def test_slots_belong_to_tasks_while_training_and_to_queries_otherwise() -> None:
    pool = PromptPool(4, 2, 3, top_k=2, slots_per_task=2)
    x = torch.randn(5, 3)
    with pytest.raises(ValueError, match="no task was begun"):
        pool(x)
    pool.begin_task(0)
    assert pool(x).indices.tolist() == [[0, 1]] * 5
    pool.begin_task(1)
    assert pool(x).indices.tolist() == [[2, 3]] * 5
    assert torch.equal(pool.keys[2:], pool.keys[:2])
    assert torch.equal(pool.prompts[2:], pool.prompts[:2])
    assert pool.eval()(x).indices.shape == (5, 2)
    with pytest.raises(ValueError, match=r"task 3 needs slots 4 to 5, and the pool has 4 prompts"):
        pool.begin_task(2)


def test_expert_prefixes_copy_their_slots_too() -> None:
    pool = PrefixPromptPool(2, 3, 2, 4, slots_per_task=1)
    pool.begin_task(0)
    pool.begin_task(1)
    assert torch.equal(pool.prompts[:, :, 1], pool.prompts[:, :, 0])
    assert not torch.equal(pool.prompts[:, :, 2], pool.prompts[:, :, 0])


def test_components_of_earlier_tasks_rest_and_later_ones_hide() -> None:
    pool = AttentionPromptPool(6, 4, 32, num_tasks=3, ortho_weight=1.0)
    pool.begin_task(0)
    pool.begin_task(1)
    for rows in (pool.keys[:4], pool.attention[:4], pool.prompts[:4].flatten(1)):
        assert_close(rows @ rows.mT, torch.eye(4), gradient=True)
    found = pool(torch.randn(3, 32))
    (found.key.sum() + found.value.sum() + found.ortho_loss).backward()
    for parameter in pool.parameters():
        touched = parameter.grad.flatten(1).any(1).tolist()
        assert touched == [False, False, True, True, False, False]
    pool.eval()
    assert pool(torch.randn(3, 32)).ortho_loss == 0
    seen = torch.autograd.grad(pool(torch.randn(3, 32)).key.sum(), pool.prompts)[0].flatten(1).any(1)
    assert seen.tolist() == [True] * 4 + [False] * 2
    with pytest.raises(ValueError, match="for 3 tasks, and this is task 4"):
        pool.begin_task(3)


def test_more_components_than_channels_are_only_normed() -> None:
    pool = AttentionPromptPool(6, 2, 4, num_tasks=2)
    pool.begin_task(0)
    pool.begin_task(1)
    assert_close(pool.keys.norm(dim=1), torch.ones(6))


def test_general_prefixes_are_one_for_all() -> None:
    prompts = PrefixPrompt(2, 5, 8)
    assert torch.equal(prompts(3)[:, 0], prompts(3)[:, 2])
    assert torch.equal(prompts.at(1, torch.zeros(1)).prefix, prompts.prompts[1])


def test_a_mixture_without_weights_is_the_mean_of_the_memory() -> None:
    module, memory = MemoryPromptGenerator(8, 5, 3, 1, 2, 4), torch.randn(5, 8)
    nn.init.zeros_(module.mixture.weight)
    nn.init.zeros_(module.mixture.bias)
    assert_close(module(torch.randn(2, 6, 8), memory), memory.mean(0).expand(2, 3, 8))


def test_a_gate_without_a_key_halves() -> None:
    gate, prompts = PromptGate(8), torch.randn(2, 3, 8)
    nn.init.zeros_(gate.key.weight)
    nn.init.zeros_(gate.key.bias)
    assert_close(gate(prompts, torch.randn(8)), prompts / 2)


def test_grid_prompts_fill_the_first_channels() -> None:
    out = TokenGridPrompt()(torch.zeros(1, 4, 4), torch.arange(8.0).view(1, 2, 4))
    assert out[0].tolist() == [[2 * t, 2 * t + 1, 0, 0] for t in range(4)]


def test_narrow_tokens_are_pooled_and_joined() -> None:
    module = DynamicPromptGenerator(4, grid_pools=2, heads=1, dim_head=2, memory_size=3)
    assert module.pool(torch.arange(16.0).view(1, 16, 1).repeat(1, 1, 4)).tolist()[0][0] == [0.0] * 4  # wide enough
    grid = torch.arange(64.0).view(1, 64, 1)
    assert module.pool(grid).tolist() == [[[27.0, 31.0, 59.0, 63.0]]]


@pytest.mark.parametrize("projection", ["pre", "post"])
def test_duplicated_keys_change_no_average(projection: str) -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    x = torch.randn(3, 5, 16)
    plain = attention(x, x, x, need_weights=False)[0]
    assert_close(prefix_attention(x, torch.zeros(3, 2, 0, 16), attention, projection=projection), plain, gradient=True)
    if projection == "pre":
        assert_close(prefix_attention(x, torch.stack([x, x], 1), attention), plain, gradient=True)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_where_the_class_name_stands(position: str) -> None:
    texts = torch.arange(7.0).repeat(2, 1)[..., None]  # start, two places, two words of the name, full stop, end
    learner = ContextPromptLearner(2, texts, [2, 1], position)
    with torch.no_grad():
        learner.context.copy_(torch.tensor([[-1.0], [-2.0]]))
    found = learner()[..., 0].tolist()
    expected = {
        "end": [[0, -1, -2, 3, 4, 5, 6], [0, -1, -2, 3, 4, 5, 6]],
        "middle": [[0, -1, 3, 4, -2, 5, 6], [0, -1, 3, -2, 4, 5, 6]],
        "front": [[0, 3, 4, -1, -2, 5, 6], [0, 3, -1, -2, 4, 5, 6]],
    }
    assert found == expected[position]
    learner().sum().backward()
    assert learner.context.grad.flatten().tolist() == [2.0, 2.0]
    assert [name for name, _ in learner.named_parameters()] == ["context"]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PromptPool(3, 2, 4, top_k=4), "top_k=4 of a pool of 3"),
        (lambda: PromptPool(3, 2, 4, query="median"), "query is one of"),
        (lambda: PromptPool(3, 2, 4, prompt_init="ones"), "prompts and keys start as"),
        (lambda: PromptPool(4, 2, 4, top_k=2, slots_per_task=1), "slots_per_task=1 must be top_k=2"),
        (lambda: PromptPool(3, 2, 4)(torch.ones(2, 5, 6)), r"queries \(2, 6\) do not have the width 4"),
        (lambda: AttentionPromptPool(4, 3, 8, 2), "prompt_length=3 is odd"),
        (lambda: AttentionPromptPool(5, 4, 8, 2), "5 components do not divide among 2 tasks"),
        (lambda: MemoryPromptGenerator(8, depth=0), "must be at least 1"),
        (
            lambda: DynamicPromptGenerator(8, heads=1, dim_head=2)(torch.ones(1, 50, 4), torch.ones(8)),
            "50 tokens of 4 channels cannot be pooled 2 times and joined to 8",
        ),
        (
            lambda: TokenGridPrompt()(torch.ones(1, 9, 4), torch.ones(1, 2, 4)),
            "a prompt of 8 numbers does not fit a grid of 9 tokens of 4 channels",
        ),
        (lambda: TokenGridPrompt()(torch.ones(1, 4, 1), torch.ones(1, 2, 4)), "at most 1"),
        (lambda: ContextPromptLearner(2, torch.ones(3, 8, 4), position="top"), "position is"),
        (lambda: ContextPromptLearner(2, torch.ones(3, 8, 4), [1, 2], "front"), "name_lengths, one for each of 3"),
        (lambda: ContextPromptLearner(8, torch.ones(3, 8, 4)), "8 learned words do not fit texts of 8"),
        (
            lambda: spectrogram_border_prompt(torch.ones(1, 1, 4, 4), torch.ones(3, 4), torch.ones(3, 4)),
            "3 border rows, an even number",
        ),
        (
            lambda: spectrogram_border_prompt(torch.ones(1, 1, 4, 4), torch.ones(2, 5), torch.ones(2, 5)),
            r"must be \(L, 4\)",
        ),
        (
            lambda: prefix_attention(
                torch.ones(3, 5, 8), torch.ones(2, 2, 4, 8), nn.MultiheadAttention(8, 2, batch_first=True)
            ),
            r"a prefix for tokens \(3, 5, 8\).* got \(2, 2, 4, 8\)",
        ),
        (
            lambda: prefix_attention(
                torch.ones(3, 5, 8),
                torch.ones(2, 4, 8),
                nn.MultiheadAttention(8, 2, batch_first=True),
                projection="mid",
            ),
            "projection is 'pre' or 'post'",
        ),
    ],
)
def test_bad_arguments(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_unknown_attention_is_named() -> None:
    with pytest.raises(TypeError, match="does not know the projections of Linear"):
        prefix_attention(torch.ones(1, 2, 4), torch.ones(2, 1, 4), nn.Linear(4, 4))
    with pytest.raises(TypeError, match="batch_first=True"):
        prefix_attention(torch.ones(1, 2, 4), torch.ones(2, 1, 4), nn.MultiheadAttention(4, 2))
