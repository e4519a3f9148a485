from __future__ import annotations

import pytest
import torch
from _towers import FAMILIES, open_gates, toy_avmoe, toy_inputs, toy_pair, toy_stream

import avexperts as ax


@pytest.mark.parametrize("method", [ax.methods.avmoe, ax.methods.lavish, ax.methods.dg_sct])
def test_sizes_are_asked_for(method) -> None:
    build, size = FAMILIES["vit"]
    with pytest.raises(ValueError, match="needed for 'audio': give frame_size and audio_size"):
        method(build(), build(), frame_size=size)


def test_towers_that_cannot_be_paired_are_refused_with_advice() -> None:
    vit, clap = FAMILIES["vit"], FAMILIES["clap-audio"]
    sizes = {"frame_size": vit.size, "audio_size": clap.size}
    with pytest.raises(ValueError, match=r"different numbers of stages .*pairing='even'"):
        ax.methods.avmoe(vit.build(), clap.build(), **sizes)
    model = ax.methods.avmoe(vit.build(), clap.build(), pairing="even", **sizes)
    assert len(model.couplings) == 4


@pytest.mark.parametrize("resampler", ["dense", "lowrank", "interpolate", "bicubic", "identity"])
def test_every_kind_of_resampler_serves(resampler: str) -> None:
    out = toy_avmoe(resampler=resampler)(toy_inputs())
    assert out.vision.shape == (3, 9, 16)


def test_latent_scale_can_follow_the_width() -> None:
    model = toy_avmoe(latent_scale="sqrt")
    scales = {expert.cross_experts[0].exchange.scale for expert in model.couplings[0].experts.values()}
    assert scales == {16**-0.5, 32**-0.5}


def test_lavish_bridges_unequal_widths_and_only_those() -> None:
    unequal = ax.methods.lavish(**toy_pair())
    equal = ax.methods.lavish(toy_stream(), toy_stream())
    assert any("resampler" in name for name, _ in unequal.named_parameters())
    assert not any("resampler" in name for name, _ in equal.named_parameters())


def test_dg_sct_reports_where_to_pool() -> None:
    out = ax.methods.dg_sct(**toy_pair(), num_latents=3)(toy_inputs())
    maps = out.readings["spatial_map"]
    assert maps["vision.blocks.3.mlp"].shape == (3, 1, 9)
    torch.testing.assert_close(maps["audio.blocks.1.mlp"].sum(-1), torch.ones(3, 1))


def test_an_output_gate_on_the_visual_stream_only_as_published() -> None:
    model = toy_avmoe(gate={"vision": True, "audio": False}, unimodal_experts=2)
    gates = {
        name.split(".experts.")[1].split(".")[0]
        for name, _ in model.couplings.named_parameters()
        if name.endswith("bottleneck.gate")
    }
    assert gates == {"vision"}
    out, bare = model(toy_inputs()), toy_avmoe()
    with pytest.raises(ValueError, match="gate is for both streams, or one for each"):
        toy_avmoe(gate={"vision": True})
    assert out.vision.shape == bare(toy_inputs()).vision.shape


def test_options_of_segmentation_are_saved_and_come_back(tmp_path) -> None:
    options = {
        "gate": {"vision": True, "audio": False}, "self_attention": "latents", "router_noise": 0.01,
        "balance": "upstream", "taps": ["vision.blocks.1"],
    }  # fmt: skip
    vit, ast = FAMILIES["vit"], FAMILIES["ast"]
    towers = {"vision": vit.build(), "audio": ast.build()}
    sizes = {"frame_size": vit.size, "audio_size": ast.size}
    model = open_gates(ax.methods.avmoe(**towers, **sizes, **options)).eval()
    model.save_pretrained(tmp_path)
    back = ax.LockStep.from_pretrained(tmp_path, **towers)
    inputs = {"vision": torch.randn(2, *vit.size), "audio": torch.randn(2, *ast.size)}
    got, expected = back(inputs), model(inputs)
    assert torch.equal(got.vision, expected.vision)
    assert torch.equal(got.aux_loss, expected.aux_loss)
    assert torch.equal(got.taps["vision.blocks.1"], expected.taps["vision.blocks.1"])
    assert back.couplings[0].experts["vision"].router.noise_std == 0.01


@pytest.mark.parametrize("options", [{"self_attention": "batch"}, {"self_attention": "frames", "frames_per_clip": 3}])
def test_unimodal_experts_attend_over_frames(options: dict) -> None:
    model, inputs = open_gates(toy_avmoe(**options)).eval(), toy_inputs()
    moved = inputs | {"vision": torch.cat([torch.randn(1, 9, 3), inputs["vision"][1:]])}
    assert not torch.allclose(model(inputs).vision[1:], model(moved).vision[1:], atol=1e-3)


@pytest.mark.parametrize(
    "recipe",
    [
        {"num_latents": 2, "groups": 1},
        {"resampler": "bicubic", "pre_norm": False, "gate_first": True},
        {"reduction": 2, "channel_weight": 0.2, "spatial_weight": 0.1, "pre_norm": False, "gate_first": True},
    ],
    ids=["avqa", "s4", "ms3"],
)
def test_dg_sct_of_the_other_programs(recipe: dict) -> None:
    recipe |= {"latent_init": "zeros", "gate": {"vision": True, "audio": False}}
    model, inputs = ax.methods.dg_sct(**toy_pair(), **recipe), toy_inputs()
    with model.disable_adapters():
        bare = model(inputs)
    fresh = model(inputs)
    assert torch.equal(fresh.vision, bare.vision)
    assert not torch.allclose(open_gates(model)(inputs).vision, bare.vision, atol=1e-3)
    assert {
        name.split(".")[2] for name, _ in model.couplings.named_parameters() if name.endswith("bottleneck.gate")
    } == {"vision"}


def test_channel_and_spatial_weights_keep_the_mean_of_the_tokens() -> None:
    torch.manual_seed(0)
    adapter = ax.DualGuidedAdapter(16, channel_weight=0.2, spatial_weight=0.0)
    seen: list[torch.Tensor] = []
    adapter.bottleneck.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    torch.nn.init.zeros_(adapter.channel_gate.weight)
    torch.nn.init.zeros_(adapter.channel_gate.bias)  # then every channel's gate is one half
    x = torch.randn(2, 5, 16)
    adapter(x, torch.randn(2, 7, 16))
    torch.testing.assert_close(seen[0], 0.9 * x)
