"""What is computed in another order than the papers write it must be the same numbers, forward and backward."""

from __future__ import annotations

import pytest
import torch
from _close import assert_close
from torch import Tensor, nn

from avexperts.prompts import (
    DynamicPromptGenerator,
    MemoryPromptGenerator,
    PrefixPromptPool,
    PromptGate,
    prefix_attention,
)


def plain_generator(module: MemoryPromptGenerator, tokens: Tensor, memory: Tensor) -> Tensor:
    """Equation by equation, every token in every layer."""
    x = torch.cat([tokens, memory.expand(len(tokens), -1, -1)], 1)
    for layer in module.layers:
        q, k, v = (p.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for p in layer.qkv(layer.norm1(x)).chunk(3, -1))
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        x = x + layer.out((weights @ v).transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.norm2(x))
    mixture = module.mixture(x[:, 0]).unflatten(1, (module.num_prompts, len(memory))).softmax(-1)
    return torch.einsum("bpm,md->bpd", mixture, memory)


def plain_gate(module: PromptGate, prompts: Tensor, query: Tensor) -> Tensor:
    scores = (module.query(prompts) * module.key(query)[..., None, :]).sum(-1) / prompts.shape[-1] ** 0.5
    return prompts * scores.sigmoid()[..., None]


def gradients(out: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), inputs))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_generator_in_the_plain_order(depth: int) -> None:
    module = MemoryPromptGenerator(12, 5, 4, depth, heads=2, dim_head=3, mlp_dim=8).double()
    tokens = torch.randn(3, 7, 12, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(5, 12, dtype=torch.float64, requires_grad=True)
    inputs = (tokens, memory, *module.parameters())
    ours, plain = module(tokens, memory), plain_generator(module, tokens, memory)
    assert_close(ours, plain)
    for one, other in zip(gradients(ours, *inputs), gradients(plain, *inputs), strict=True):
        assert_close(one, other, gradient=True)


@pytest.mark.parametrize("shape", [(12,), (3, 12)])
def test_gate_in_the_plain_order(shape: tuple[int, ...]) -> None:
    module = PromptGate(12).double()
    prompts = torch.randn(3, 4, 12, dtype=torch.float64, requires_grad=True)
    query = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    inputs = (prompts, query, *module.parameters())
    ours, plain = module(prompts, query), plain_gate(module, prompts, query)
    assert_close(ours, plain)
    for one, other in zip(gradients(ours, *inputs), gradients(plain, *inputs), strict=True):
        assert_close(one, other, gradient=True)


def test_both_modalities_share_the_projected_memory() -> None:
    module = DynamicPromptGenerator(12, 2, prompt_length=2, memory_size=5, depth=2, heads=2, dim_head=3).double()
    seen, heard = torch.randn(3, 7, 12).double(), torch.randn(3, 64, 3).double()
    query, calls = torch.randn(12).double(), []
    module.generators[1].layers[0].qkv.register_forward_hook(lambda *_: calls.append(1))
    together = module.at(1, [seen, heard], query)
    assert len(calls) == 3  # tokens of each, and the memory once
    for tokens, found in zip((seen, heard), together, strict=True):
        assert_close(module(tokens, query)[1], found)


def test_generators_read_what_only_the_last_layer_needs() -> None:
    module = MemoryPromptGenerator(12, 5, 4, depth=2, heads=2, dim_head=3)
    sizes: list[int] = []
    for layer in module.layers:
        layer.mlp.register_forward_hook(lambda part, args, out: sizes.append(args[0].shape[1]))
    module(torch.randn(3, 7, 12), torch.randn(5, 12))
    assert sizes == [12, 1]


@pytest.mark.parametrize("projection", ["pre", "post"])
def test_a_shared_prefix_is_that_of_every_row(projection: str) -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True).double()
    x, prefix = torch.randn(3, 5, 16).double(), torch.randn(2, 4, 16).double()
    shared = prefix_attention(x, prefix, attention, projection=projection)
    assert_close(shared, prefix_attention(x, prefix.expand(3, -1, -1, -1), attention, projection=projection))


def test_batchwise_pools_hand_out_one_prefix() -> None:
    pool = PrefixPromptPool(2, 3, 4, 8, batchwise=True)
    assert pool.at(0, torch.randn(5, 6, 8)).prefix.shape == (2, 4, 8)
