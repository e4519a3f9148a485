"""Several adapters by name on the same towers: choose, switch, mix in one batch, rename, delete."""

from __future__ import annotations

import copy

import pytest
import torch
from _close import assert_close
from _towers import open_gates, toy_avmoe, toy_inputs, toy_pair
from torch import nn
from torch._dynamo.testing import CompileCounter

import avexperts as ax


def two_adapters(**second) -> tuple[ax.LockStep, dict[str, torch.Tensor]]:
    """Adapters "default" and "birds", neither of them zero, and what each gives alone."""
    streams = toy_pair()
    model = open_gates(toy_avmoe(streams=streams)).eval()
    torch.manual_seed(1)
    model.add_adapter("birds", open_gates(toy_avmoe(streams=streams, **second)).eval())
    return model, toy_inputs(5)


def test_each_adapter_alone_is_the_model_it_was_taken_from() -> None:
    streams, inputs = toy_pair(), toy_inputs()
    model, other = open_gates(toy_avmoe(streams=streams)), open_gates(toy_avmoe(streams=streams, num_latents=5))
    nn.init.normal_(other.couplings[0].experts["vision"].cross_experts[0].exchange.latents)
    expected = {"default": model(inputs).vision, "birds": other(inputs).vision}
    model.add_adapter("birds", other)
    assert list(model.adapters) == ["default", "birds"]
    for name, value in expected.items():
        assert_close(model(inputs, adapters=name).vision, value)  # without gradients matmul may fold otherwise
    assert model.active_adapter == "default"
    model.set_adapter("birds")
    assert torch.equal(model(inputs).vision, expected["birds"])
    assert len(model.couplings) == len(other.couplings)
    with model.disable_adapters():
        assert torch.equal(model(inputs, adapters="birds").vision, streams["vision"].backbone(inputs["vision"]))


@pytest.mark.parametrize("second", [{}, {"parts": [1]}, {"num_latents": 2, "unimodal_experts": 2}])
def test_a_mixed_batch_gives_each_sample_its_adapter(second: dict) -> None:
    model, inputs = two_adapters(**second)
    model, inputs = model.double(), {stream: x.double() for stream, x in inputs.items()}
    names = ["birds", "default", None, "birds", "default"]
    mixed = model(inputs, adapters=names)
    for row, name in enumerate(names):
        sample = {stream: x[row : row + 1] for stream, x in inputs.items()}
        if name is None:
            with model.disable_adapters():
                alone = model(sample)
        else:
            alone = model(sample, adapters=name)
        assert_close(mixed.vision[row : row + 1], alone.vision)
        assert_close(mixed.audio[row : row + 1], alone.audio)
    probs = mixed.routing["birds/vision.blocks.3.mlp"]
    assert probs.shape[0] == 2
    assert_close(probs, model(inputs, adapters="birds").routing["vision.blocks.3.mlp"][[0, 3]])
    assert mixed.aux_loss.isfinite()


def test_a_mixed_batch_gives_each_adapter_its_gradients() -> None:
    model, inputs = two_adapters()
    for name in model.adapters:
        model.adapters[name].requires_grad_()
    twin = copy.deepcopy(model)
    model(inputs, adapters=["birds", "default", None, "birds", "default"]).vision.square().sum().backward()
    for name, rows in (("birds", [0, 3]), ("default", [1, 4])):
        twin({stream: x[rows] for stream, x in inputs.items()}, adapters=name).vision.square().sum().backward()
    for (name, one), other in zip(model.adapters.named_parameters(), twin.adapters.parameters(), strict=True):
        if other.grad is not None:
            assert_close(one.grad, other.grad, gradient=True, what=name)


def test_a_batch_of_one_adapter_needs_no_sorting() -> None:
    model, inputs = two_adapters()
    out = model(inputs, adapters=["birds"] * 5)
    assert torch.equal(out.vision, model(inputs, adapters="birds").vision)
    assert all(not site.startswith("birds/") for site in out.routing)


def test_an_absent_stream_in_a_mixed_batch() -> None:
    model, inputs = two_adapters()
    names = ["birds", "default", "default", "birds", "default"]
    mixed = model(vision=inputs["vision"], adapters=names)
    assert mixed.tokens.keys() == {"vision"}
    alone = model(vision=inputs["vision"][[0, 3]], adapters="birds")
    assert_close(mixed.vision[[0, 3]], alone.vision)


def test_only_the_active_adapter_trains_and_what_was_frozen_in_it_stays_frozen() -> None:
    model, inputs = two_adapters()
    birds = model.adapters["birds"]
    assert not any(parameter.requires_grad for parameter in birds.parameters())
    model.couplings[0].requires_grad_(False)
    model.set_adapter("birds")
    assert all(parameter.requires_grad for parameter in model.adapter_parameters())
    assert not any(parameter.requires_grad for parameter in model.adapters["default"].parameters())
    model(inputs).vision.sum().backward()
    assert all(parameter.grad is None for parameter in model.adapters["default"].parameters())
    model.set_adapter("default")
    assert not any(parameter.requires_grad for parameter in model.couplings[0].parameters())
    assert all(parameter.requires_grad for parameter in model.couplings[1].parameters())


def test_renaming_and_deleting() -> None:
    model, inputs = two_adapters()
    birds = model(inputs, adapters="birds").vision
    model.rename_adapter("birds", "owls")
    assert torch.equal(model(inputs, adapters="owls").vision, birds)
    model.rename_adapter("default", "first")
    assert model.active_adapter == "first"
    with pytest.raises(ValueError, match="'first' is active: set another one first"):
        model.delete_adapter("first")
    model.set_adapter("owls")
    model.delete_adapter("first")
    assert list(model.adapters) == ["owls"]
    assert not any("first" in key for key in model.state_dict())
    with pytest.raises(ValueError, match=r"no adapter 'first'; there are \['owls'\]"):
        model(inputs, adapters="first")


def test_mistakes_are_named() -> None:
    model, inputs = two_adapters()
    for call in (
        lambda: model(inputs, adapters="brids"),
        lambda: model(inputs, adapters=["birds", "brids", None, None, None]),
        lambda: model.set_adapter("brids"),
        lambda: model.delete_adapter("brids"),
        lambda: model.rename_adapter("brids", "owls"),
    ):
        with pytest.raises(ValueError, match=r"no adapter 'brids'; there are \['default', 'birds'\]"):
            call()
    with pytest.raises(ValueError, match="there is an adapter 'birds' already"):
        model.add_adapter("birds", [])
    with pytest.raises(ValueError, match="letters, digits"):
        model.add_adapter("my.birds", [])
    with pytest.raises(ValueError, match="2 adapter names for 5 samples"):
        model(inputs, adapters=["birds", "default"])
    elsewhere = toy_avmoe(streams=toy_pair() | {"audio": toy_pair()["vision"]})
    with pytest.raises(ValueError, match=r"made for other towers: the sites of \['audio'\] differ"):
        model.add_adapter("elsewhere", elsewhere)
    assert list(model.adapters) == ["default", "birds"]


def test_adapters_that_cannot_share_a_pass_say_so() -> None:
    def at(*pairs: tuple[str, str]) -> list:
        sites = [{"vision": f"blocks.{v}.attn", "audio": f"blocks.{a}.attn"} for v, a in pairs]
        return [(pair, ax.ResidualCoupling({"vision": nn.Identity(), "audio": nn.Identity()})) for pair in sites]

    model = ax.LockStep(toy_pair(), at((1, 0)))
    model.add_adapter("other", at((1, 1)))
    model.add_adapter("crossed", at((0, 1)))
    model.add_adapter("later", at((2, 1)))
    names = ["default", None, None]
    with pytest.raises(ValueError, match=r"couple vision site 'blocks\.1\.attn' with different partners"):
        model(toy_inputs(), adapters=[*names[:2], "other"])
    with pytest.raises(ValueError, match="pair the streams crosswise"):
        model(toy_inputs(), adapters=[*names[:2], "crossed"])


def test_entry_tokens_of_other_couplings_are_refused() -> None:
    model, inputs = two_adapters(pairing=[{"vision": "blocks.2", "audio": "blocks.1"}])
    entry = model.entry_tokens(inputs)
    with pytest.raises(ValueError, match="it was made for other couplings"):
        model(inputs, entry=entry, adapters="birds")
    model.set_adapter("birds")
    assert torch.equal(model(inputs, entry=model.entry_tokens(inputs)).vision, model(inputs).vision)


def test_switching_back_and_new_weights_need_no_new_graph() -> None:
    torch._dynamo.reset()
    model, inputs = two_adapters()
    eager = {name: model(inputs, adapters=name).vision for name in model.adapters}
    counter = CompileCounter()
    model.compile(backend=counter)
    for name in ("default", "birds", "default", "birds"):
        assert_close(model(inputs, adapters=name).vision, eager[name])
    assert counter.frame_count == 2
    model.adapters["birds"].load_state_dict(model.adapters["default"].state_dict())
    assert_close(model(inputs, adapters="birds").vision, eager["default"])
    assert counter.frame_count == 2
    torch._dynamo.reset()
