"""The driver: what it does with streams, couplings, taps and absent streams, and what it refuses."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from _close import assert_close
from _figures import record
from _towers import FAMILIES, ToyTower, open_gates, open_toy, residual, toy_avmoe, toy_inputs, toy_pair, toy_stream
from torch import Tensor, nn

import avexperts as ax


class Swap(nn.Module):
    """A coupling that only reads: every stream goes on as it would alone, and reports its partner's mean."""

    def forward(self, *sites: ax.Site | None):
        here = [site for site in sites if site is not None]
        tokens = [None if site is None else site.run(site.tokens) for site in sites]
        return (*tokens, {"mean": {"vision": here[-1].tokens.mean((1, 2))}})


def test_without_couplings_it_is_the_backbones() -> None:
    streams, inputs = toy_pair(), toy_inputs()
    out = ax.LockStep(streams)(inputs)
    for name, stream in streams.items():
        assert torch.equal(out.tokens[name], stream.backbone(inputs[name]))
    assert torch.equal(out.vision, out.tokens["vision"])
    with pytest.raises(AttributeError, match="no stream 'depth'"):
        _ = out.depth


def test_a_coupling_sees_the_tokens_from_before_its_sites() -> None:
    streams, inputs = toy_pair(), {name: x.double() for name, x in toy_inputs().items()}
    coupling = ax.ResidualCoupling({"vision": ax.BottleneckAdapter(16), "audio": ax.BottleneckAdapter(32)})
    coupling.experts["vision"].forward = lambda own, other: own.sum(-1, keepdim=True) + other.mean()
    coupling.experts["audio"].forward = lambda own, other: own * 0 + other.mean()
    pair = {"vision": "blocks.3.mlp", "audio": "blocks.0.mlp"}
    out = ax.LockStep(streams, [(pair, coupling)], taps=["vision.blocks.3.mlp", "audio.blocks.0.mlp"]).double()(inputs)
    vision, audio = out.taps["vision.blocks.3.mlp"], out.taps["audio.blocks.0.mlp"]
    tower = streams["vision"].backbone
    expected = tower.norm(residual(tower.blocks[3][1], vision) + vision.sum(-1, keepdim=True) + audio.mean())
    assert_close(out.vision, expected)


def test_three_streams_none_privileged() -> None:
    streams = {name: toy_stream(tokens, 5, 16) for name, tokens in (("rgb", 9), ("sound", 6), ("touch", 4))}
    inputs = {name: torch.randn(2, stream.sites[0].tokens, 5) for name, stream in streams.items()}

    def mixture(own: str) -> ax.AdapterMoE:
        others = [stream.sites[0].tokens for name, stream in streams.items() if name != own]
        return ax.AdapterMoE(
            [ax.TokenResampler(tokens, streams[own].sites[0].tokens, 16, 16) for tokens in others],
            [ax.LatentCrossAdapter(16, num_latents=2) for _ in others],
            [ax.BottleneckAdapter(16)],
            ax.SoftRouter((16, 16, 16), 3, hidden=(8,)),
        )

    pairs = ax.pair_sites({name: stream.sites for name, stream in streams.items()})
    couplings = [(pair, ax.ResidualCoupling({name: mixture(name) for name in pair})) for pair in pairs]
    model = open_gates(ax.LockStep(streams, couplings))
    out, without = model(inputs), model(rgb=inputs["rgb"], touch=inputs["touch"])
    assert len(out.routing) == 12
    assert without.tokens.keys() == {"rgb", "touch"}
    probs = without.routing["rgb.blocks.0.attn"]
    assert torch.equal(probs[:, 0], torch.zeros(2))  # the expert that reads the absent sound
    assert_close(probs.sum(-1), torch.ones(2))


def test_an_absent_stream_masks_cross_modal_experts_and_keeps_their_gradients_defined() -> None:
    model = open_gates(toy_avmoe()).train()
    out = model(vision=toy_inputs()["vision"])
    out.vision.sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.couplings.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    assert all(not gradient.any() for name, gradient in gradients.items() if ".audio." in name or "cross" in name)
    assert any(gradient.any() for name, gradient in gradients.items() if "vision.unimodal" in name)
    assert all(torch.equal(probs[:, 0], torch.zeros(3)) for probs in out.routing.values())


def test_a_coupling_may_only_read() -> None:
    streams, inputs = toy_pair(), toy_inputs()
    pair = {"vision": "blocks.1.attn", "audio": "blocks.1.attn"}
    out = ax.LockStep(streams, [(pair, Swap())])(inputs)
    assert torch.equal(out.vision, streams["vision"].backbone(inputs["vision"]))
    assert out.readings["mean"]["vision.blocks.1.attn"].shape == (3,)


def test_towers_modes() -> None:
    def tower() -> ax.Stream:
        return toy_stream()

    frozen = ax.LockStep({"it": tower()}).train()
    papers = ax.LockStep({"it": tower()}, towers="frozen-train").train()
    trainable = ax.LockStep({"it": tower()}, towers="trainable").train()
    assert not frozen.towers["it"].training
    assert papers.towers["it"].training
    assert not any(p.requires_grad for model in (frozen, papers) for p in model.towers.parameters())
    assert all(p.requires_grad for p in trainable.towers.parameters())


def test_state_dict_keys_of_the_towers_do_not_change() -> None:
    model = toy_avmoe()
    for name, tower in model.towers.items():
        inside = {
            key.removeprefix(f"towers.{name}.") for key in model.state_dict() if key.startswith(f"towers.{name}.")
        }
        assert inside == set(ToyTower(1, 1, len(tower.blocks)).state_dict())


def test_deep_copies_are_independent() -> None:
    model, inputs = open_gates(toy_avmoe()), toy_inputs()
    twin = copy.deepcopy(model)
    before = model(inputs).vision
    nn.init.zeros_(twin.towers["vision"].embed.weight)
    assert torch.equal(model(inputs).vision, before)
    assert not torch.equal(twin(inputs).vision, before)


@pytest.mark.parametrize("towers", ["frozen", "frozen-train", "trainable"])
@pytest.mark.parametrize("checkpoint", ["towers", "couplings", "all"])
def test_checkpointing_gives_equal_gradients_and_buffers(towers: str, checkpoint: str) -> None:
    torch.manual_seed(0)
    plain = open_gates(toy_avmoe(towers=towers, batch_norm=True)).double().train()
    again = copy.deepcopy(plain)
    again.checkpoint = checkpoint
    inputs = {name: x.double() for name, x in toy_inputs().items()}
    for model in (plain, again):
        model(inputs).vision.square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), again.parameters(), strict=True):
        if a.grad is not None:
            assert_close(b.grad, a.grad, gradient=True, what=name)
    for (name, a), b in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("checkpoint", ["towers", "couplings", "all"])
def test_checkpointing_keeps_fewer_activations(checkpoint: str) -> None:
    kept: dict[str | None, int] = {}

    def count(tensor: Tensor) -> Tensor:
        kept[model.checkpoint] += tensor.nbytes
        return tensor

    for kind in (None, checkpoint):
        model = open_gates(toy_avmoe(checkpoint=kind))
        kept[kind] = 0
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(toy_inputs())
    record(f"saved activations with checkpoint={checkpoint!r} (of those without)", kept[checkpoint] / kept[None])
    assert kept[checkpoint] < kept[None]


def test_autocast_keeps_the_model_close_and_its_routing_normalised() -> None:
    torch.manual_seed(0)
    model, inputs = open_gates(toy_avmoe()), toy_inputs()
    exact = model(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(inputs)
        rough.vision.float().sum().backward()
    torch.testing.assert_close(rough.vision.float(), exact.vision, atol=0.1, rtol=0.1)  # ten bfloat16 layers
    assert all(torch.isfinite(p.grad).all() for p in model.adapter_parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_whole_model_in_another_dtype(dtype: torch.dtype) -> None:
    model = open_gates(toy_avmoe()).to(dtype)
    out = model({name: x.to(dtype) for name, x in toy_inputs().items()})
    assert out.vision.dtype == out.audio.dtype == dtype
    assert torch.isfinite(out.vision).all()


@pytest.mark.parametrize(
    ("couplings", "message"),
    [
        ([{"vision": "blocks.9.attn"}], "no site 'blocks.9.attn'; did you mean"),
        ([{"depth": "blocks.0.attn"}], "names the stream 'depth'"),
        ([{"vision": "blocks.1.mlp"}, {"vision": "blocks.1.attn"}], "give couplings in run order"),
        ([{"vision": "blocks.1.mlp"}, {"vision": "blocks.1.mlp"}], "give couplings in run order"),
        ([{}], "names no site"),
    ],
)
def test_plans_that_cannot_run(couplings: list[dict[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ax.LockStep(toy_pair(), [(pair, Swap()) for pair in couplings])


def test_bad_arguments() -> None:
    model = ax.LockStep(toy_pair())
    with pytest.raises(ValueError, match=r"unknown streams \['sound'\]"):
        model(sound=torch.ones(1))
    with pytest.raises(ValueError, match="give at least one of"):
        model()
    with pytest.raises(ValueError, match=r"no such site or stage to tap: 'vision\.nowhere'"):
        ax.LockStep(toy_pair(), taps=["vision.nowhere"])
    with pytest.raises(ValueError, match="without a site table: \\['it'\\]"):
        ax.LockStep({"it": ax.open_backbone(ToyTower(), opener=open_toy)})
    with pytest.raises(ValueError, match="towers is"):
        ax.LockStep(toy_pair(), towers="melted")
    with pytest.raises(ValueError, match="checkpoint is None, 'towers'"):
        ax.LockStep(toy_pair(), checkpoint=True)


def test_a_coupling_must_continue_every_stream() -> None:
    class Forgetful(nn.Module):
        def forward(self, first: ax.Site, second: ax.Site) -> tuple[Tensor]:
            return (first.run(first.tokens),)

    pair = {"vision": "blocks.1.attn", "audio": "blocks.1.attn"}
    with pytest.raises(
        ValueError,
        match=r"the coupling at vision blocks\.1\.attn, audio blocks\.1\.attn returned 1 token tensors for 2",
    ):
        ax.LockStep(toy_pair(), [(pair, Forgetful())])(toy_inputs())


def test_sites_must_not_depend_on_the_input() -> None:
    def fickle(tower, x):
        x = yield ax.Site("blocks.0.block" if x.shape[0] == 1 else "blocks.1.block", tower.embed(x), nn.Identity())
        return x

    model = ax.LockStep({"it": ax.open_backbone(ToyTower(), (6, 5), opener=fickle)})
    with pytest.raises(RuntimeError, match=r"arrived at blocks\.1\.block where its dry run had blocks\.0\.block"):
        model(it=torch.randn(2, 6, 5))


def test_a_prefix_is_refused_where_a_site_cannot_take_one() -> None:
    class Prefixed(nn.Module):
        requires_prefix = True

        def forward(self, site: ax.Site):
            return (site.run(site.tokens, prefix=torch.ones(1)),)

    def with_prefix(branch: nn.Module, x: Tensor, prefix: Tensor | None = None) -> Tensor:
        return residual(branch, x) if prefix is None else residual(branch, x + prefix)

    def open_prefixed(tower, x):
        x = yield ax.Site("blocks.0.attn", tower.embed(x), partial(with_prefix, tower.blocks[0][0]))
        x = yield ax.Site("blocks.0.mlp", x, partial(residual, tower.blocks[0][1]))
        return x

    stream = ax.open_backbone(ToyTower(), (6, 5), opener=open_prefixed)
    model = ax.LockStep({"it": stream}, [({"it": "blocks.0.attn"}, Prefixed())])
    assert not torch.equal(model(it=torch.ones(1, 6, 5)).it, ax.LockStep({"it": stream})(it=torch.ones(1, 6, 5)).it)
    with pytest.raises(ValueError, match=r"Prefixed needs a prefix, which it site 'blocks\.0\.mlp' cannot take"):
        ax.LockStep({"it": stream}, [({"it": "blocks.0.mlp"}, Prefixed())])


@pytest.mark.parametrize("family", ["toy", "timm-swinv2", "clap-audio"])
def test_entry_tokens_stand_for_the_frozen_prefix(family: str) -> None:
    torch.manual_seed(0)
    if family == "toy":
        model, inputs = open_gates(toy_avmoe(pairing=[{"vision": "blocks.2", "audio": "blocks.1"}])), toy_inputs()
    else:
        build, size = FAMILIES[family]
        sizes = {"frame_size": size, "audio_size": size}
        model = open_gates(ax.methods.avmoe(build(), build(), stages=[1], num_latents=2, **sizes))
        inputs = {name: torch.randn(2, *size) for name in ("vision", "audio")}
    calls: list[str] = []
    for name, module in model.towers.named_modules():
        module.register_forward_pre_hook(lambda _m, _a, name=name: calls.append(name))
    plain, called = model(inputs), len(calls)
    entry = model.entry_tokens(inputs)
    calls.clear()
    quick = model(inputs, entry=entry)
    assert len(calls) < called
    assert torch.equal(quick.vision, plain.vision)
    assert torch.equal(quick.audio, plain.audio)
    assert all(torch.equal(quick.routing[site], probs) for site, probs in plain.routing.items())
