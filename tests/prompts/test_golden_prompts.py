"""Every prompt module against the stored vectors of the papers' programs."""

from __future__ import annotations

import _php
import pytest
import torch
from torch import nn

from avexperts.prompts import (
    AttentionPromptPool,
    DynamicPromptGenerator,
    PrefixPromptPool,
    PromptPool,
    TokenGridPrompt,
    prefix_attention,
    spectrogram_border_prompt,
)

DEEP = {
    "deep_prefix_batchwise_even": (3, 3, 4, 16, 1, True),
    "deep_prefix_batchwise_odd": (2, 3, 2, 16, 1, True),
    "deep_prefix_persample_top2": (2, 5, 3, 12, 2, False),
}


def deep_pool(name: str, legacy: bool) -> PrefixPromptPool:
    layers, size, length, dim, top_k, batchwise = DEEP[name]
    pool = PrefixPromptPool(layers, size, length, dim, top_k, batchwise=batchwise, legacy_layout=legacy).double()
    pool.load_state_dict(_php.pool(_php.case(name).w))
    return pool


@pytest.mark.parametrize("name", DEEP)
def test_deep_pool_as_published(name: str) -> None:
    golden, pool = _php.case(name), deep_pool(name, legacy=True)
    inputs = _php.inputs(golden)
    found = pool(inputs["x"])
    out = {
        "batched_prompt": found.prompts,
        "prompt_idx": found.indices,
        "reduce_sim": -found.pull_loss,
        "similarity": found.similarity,
    }
    _php.check(out, golden.out)
    loss = (found.prompts * inputs["cotangent"]).sum() - 0.5 * found.pull_loss
    loss.backward()
    expected = golden.grad
    _php.check({"in.x": inputs["x"].grad}, expected, gradient=True)
    _php.check({"w.prompt": pool.prompts.grad, "w.prompt_key": pool.keys.grad}, expected, gradient=True)


@pytest.mark.parametrize("name", DEEP)
def test_deep_pool_laid_out_correctly(name: str) -> None:
    golden, pool = _php.case(name), deep_pool(name, legacy=False)
    x = _php.inputs(golden)["x"]
    found = pool(x)
    _php.check({"batched_prompt_permuted": found.prompts}, golden.ref)
    for layer, expected in enumerate(found.prompts):
        prefix = pool.at(layer, x).prefix
        assert prefix.dim() == (3 if pool.batchwise else 4)
        assert torch.equal(prefix.expand_as(expected), expected)


def test_the_legacy_layout_of_one_layer_is_that_of_all() -> None:
    pool = deep_pool("deep_prefix_batchwise_odd", legacy=True)
    x = _php.inputs(_php.case("deep_prefix_batchwise_odd"))["x"]
    found = pool(x)
    assert all(torch.equal(pool.at(layer, x).prefix, expected) for layer, expected in enumerate(found.prompts))


def test_l2p_pool() -> None:
    golden = _php.case("l2p_pool_batchwise")
    pool = PromptPool(5, 3, 12, top_k=2, batchwise=True).double()
    pool.load_state_dict(_php.pool(golden.w))
    inputs = _php.inputs(golden)
    # Three prompts were chosen twice each; the paper's program took the first and the third, we take the lowest two.
    votes = pool(inputs["x"].detach(), mask=None).similarity.topk(2).indices.flatten().bincount()
    theirs = golden.out["prompt_idx"]
    assert votes.tolist() == [2, 2, 1, 2, 1]
    assert theirs[0].tolist() == [0, 3]
    assert pool(inputs["x"]).indices[0].tolist() == [0, 1]
    found = pool(inputs["x"], mask=theirs)
    prompted = torch.cat([found.prompts, inputs["x"]], 1)
    out = {
        "prompted_embedding": prompted,
        "prompt_idx": found.indices,
        "reduce_sim": -found.pull_loss,
        "similarity": found.similarity,
    }
    _php.check(out, golden.out)
    ((prompted * inputs["cotangent"]).sum() - 0.5 * found.pull_loss).backward()
    grads = {"w.prompt": pool.prompts.grad, "w.prompt_key": pool.keys.grad, "in.x": inputs["x"].grad}
    _php.check({key: value for key, value in grads.items() if key in golden.grad}, golden.grad, gradient=True)


def test_coda_prompt_in_its_second_task() -> None:
    golden = _php.case("coda_prompt_train_task1")
    pool = AttentionPromptPool(6, 4, 12, num_tasks=3, ortho_weight=0.1).double()
    pool.begin_task(1)
    names = {"e_k_0": "keys", "e_a_0": "attention", "e_p_0": "prompts"}
    pool.load_state_dict({names[key]: value.double() for key, value in golden.w.items()})
    inputs = _php.inputs(golden)
    found = pool(inputs["query"])
    out = {"key_prefix": found.key, "value_prefix": found.value, "ortho_loss": found.ortho_loss}
    _php.check(out, golden.out)
    key_cot, value_cot = inputs["cot"]
    ((found.key * key_cot).sum() + (found.value * value_cot).sum() + found.ortho_loss).backward()
    grads = {f"w.{theirs}": getattr(pool, ours).grad for theirs, ours in names.items()}
    _php.check(grads | {"in.query": inputs["query"].grad}, golden.grad, gradient=True)


MID = {
    "mid_generator_audio": {
        "memory_size": 16,
        "prompt_length": 2,
        "heads": 4,
        "depth": 2,
        "dim_head": 4,
        "mlp_dim": 24,
    },
    "mid_generator_visual": {"memory_size": 12, "prompt_length": 3, "heads": 2, "depth": 3, "dim_head": 8},
}


@pytest.mark.parametrize("name", MID)
def test_dynamic_generator(name: str) -> None:
    golden = _php.case(name)
    module = DynamicPromptGenerator(32, **MID[name]).double()
    module.load_state_dict(_php.generator(golden.w))
    inputs = _php.inputs(golden)
    tokens = module.pool(inputs["x"])
    mixtures = {
        f"mixture_layer{layer}": generator(tokens, module.memory) for layer, generator in enumerate(module.generators)
    }
    prompts = module(inputs["x"], inputs["cls_features"][:, 0])
    _php.check(mixtures | {"tokens": tokens, "batched_prompt": prompts}, golden.out)
    (prompts * inputs["cotangent"]).sum().backward()
    expected = {key: value for key, value in golden.grad.items() if key.startswith("w.")}
    renamed = _php.generator({key.removeprefix("w."): value for key, value in expected.items()})
    assert len(renamed) >= 7
    stored = {key: value.float() for key, value in renamed.items()}
    _php.check({key: value for key, value in _php.gradients(module).items() if key in stored}, stored, gradient=True)
    _php.check({"in.x": inputs["x"].grad}, golden.grad, gradient=True)


@pytest.mark.parametrize("name", ["inject_audio_grid4_full", "inject_audio_grid8"])
def test_grid_prompt(name: str) -> None:
    golden = _php.case(name)
    inputs = _php.inputs(golden)
    _php.check({"tokens": TokenGridPrompt()(inputs["tokens"], inputs["prompt"])}, golden.out)


def test_prefix_before_the_projections() -> None:
    golden = _php.case("prefix_block")
    weights = {key: value.double() for key, value in golden.w.items()}
    attention = nn.MultiheadAttention(16, 2, batch_first=True).double()
    attention.load_state_dict({k.removeprefix("attn."): v for k, v in weights.items() if k.startswith("attn.")})
    inputs = _php.inputs(golden)
    x, prefix = inputs["x_LND"].transpose(0, 1), inputs["prompt_2PBD"].permute(2, 0, 1, 3)

    def block(prefix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        norm = nn.functional.layer_norm(x, (16,), weights["ln_1.weight"], weights["ln_1.bias"])
        attended = prefix_attention(norm, prefix, attention)
        y = x + attended
        h = nn.functional.layer_norm(y, (16,), weights["ln_2.weight"], weights["ln_2.bias"])
        h = nn.functional.linear(h, weights["mlp.c_fc.weight"], weights["mlp.c_fc.bias"])
        h = h * (1.702 * h).sigmoid()
        y = y + nn.functional.linear(h, weights["mlp.c_proj.weight"], weights["mlp.c_proj.bias"])
        return attended.transpose(0, 1), y.transpose(0, 1)

    attended, out = block(prefix)
    plain = block(prefix[:, :, :0])[1]
    _php.check({"attention": attended, "block": out, "block_no_prompt": plain}, golden.out)
    (out * inputs["cotangent"]).sum().backward()
    grads = {"in.x": inputs["x_LND"].grad, "in.prompt": inputs["prompt_2PBD"].grad}
    grads["w.attn.in_proj_weight"] = attention.in_proj_weight.grad
    _php.check(grads, golden.grad, gradient=True)


def test_prefix_after_the_projections() -> None:
    golden = _php.case("prefix_attention_postproj")
    from timm.layers import Attention

    attention = Attention(16, num_heads=2, qkv_bias=True).double()
    attention.load_state_dict({key: value.double() for key, value in golden.w.items()})
    inputs = _php.inputs(golden)
    prefix = inputs["prompt_B2Phd"].flatten(-2)
    y = prefix_attention(inputs["x"], prefix, attention, projection="post")
    plain = prefix_attention(inputs["x"], prefix[:, :, :0], attention, projection="post")
    _php.check({"y": y, "y_no_prompt": plain}, golden.out)
    (y * inputs["cotangent"]).sum().backward()
    grads = {"in.x": inputs["x"].grad, "in.prompt": inputs["prompt_B2Phd"].grad}
    _php.check(grads, golden.grad, gradient=True)


def test_border_prompt() -> None:
    golden = _php.case("spectrogram_border_prompt")
    chosen = golden.out["prompt_idx"][:, 0].long()
    x = getattr(golden, "in")["x"]
    out = spectrogram_border_prompt(x, golden.w["lr_prompt"][chosen], golden.w["tb_prompt"][chosen])
    assert torch.equal(out, golden.out["prompted_embedding"])
