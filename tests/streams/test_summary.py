"""The model summary: its figures against hand-computed ones, the papers', and what a real run does."""

from __future__ import annotations

import json

import _figures
import pytest
import torch
from _towers import FAMILIES, ToyTower, open_toy, toy_avmoe, toy_inputs, toy_pair, toy_stream
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import avexperts as ax

PAIR = {"vision": "blocks.1.attn", "audio": "blocks.1.attn"}


class Mean(nn.Module):
    """A coupling of one piece: both streams get a map of both means."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(16, 32)

    def forward(self, vision: ax.Site, audio: ax.Site):
        return vision.run(vision.tokens), audio.run(audio.tokens) + self.map(vision.tokens.mean(1, keepdim=True))


class Alone(ax.BottleneckAdapter):
    """An expert that needs no partner."""

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        return super().forward(own)


def bottleneck_cost(tokens: int, dim: int, reduction: int = 8, groups: int = 2) -> int:
    return 2 * tokens * dim * (dim // reduction) // groups


def experts_of(model: ax.LockStep) -> dict[str, tuple]:
    (adapter,) = (row for row in model.summary().adapters if row.active)
    return adapter.couplings[0].experts


@pytest.mark.parametrize("groups", [1, 2])
def test_bottlenecks_by_hand(groups: int) -> None:
    experts = {"vision": Alone(16, groups=groups), "audio": Alone(32, reduction=4)}
    rows = experts_of(ax.LockStep(toy_pair(), [(PAIR, ax.ResidualCoupling(experts))]))
    assert rows["vision"].size.multiply_adds == bottleneck_cost(9, 16, groups=groups)
    assert rows["audio"].size.multiply_adds == bottleneck_cost(6, 32, reduction=4)
    assert rows["vision"].key_numbers == "bottleneck 2"
    assert rows["vision"].size.parameters == sum(p.numel() for p in experts["vision"].parameters())


@pytest.mark.parametrize("strategy", ["reassociate", "project_first", "mix_first"])
@pytest.mark.parametrize("kind", ["dense", "lowrank"])
def test_resamplers_cost_what_they_say(kind: str, strategy: str) -> None:
    latents, sizes = 4, {"vision": (9, 16), "audio": (6, 32)}

    def cross(own: str, other: str) -> ax.LatentCrossAdapter:
        (n, dim), (m, other_dim) = sizes[own], sizes[other]
        resampler = ax.TokenResampler(m, n, other_dim, dim, kind=kind, strategy=strategy, num_queries=latents)
        return ax.LatentCrossAdapter(dim, num_latents=latents, resampler=resampler)

    experts = {"vision": cross("vision", "audio"), "audio": cross("audio", "vision")}
    rows = experts_of(ax.LockStep(toy_pair(), [(PAIR, ax.ResidualCoupling(experts))]))
    for name, (tokens, dim) in sizes.items():
        resampler = experts[name].exchange.resampler
        tokens_read = resampler.token_mix.in_features
        mean = resampler.in_dim * (tokens_read + dim) if strategy == "reassociate" else 0  # comes with the read
        expected = mean + (
            resampler.multiply_adds(latents)[strategy] + 2 * latents * tokens * dim + bottleneck_cost(tokens, dim)
        )
        assert rows[name].size.multiply_adds == expected
        assert rows[name].key_numbers == f"4 latents, bottleneck {dim // 8}, {kind} ({strategy})"


def test_a_mixture_by_hand() -> None:
    model = toy_avmoe(num_latents=3, router_hidden=(8,))
    moe, row = model.couplings[0].experts["vision"], experts_of(model)["vision"]
    (resampler,), tokens, dim, other_tokens, other_dim = moe.resamplers, 9, 16, 6, 32
    assert resampler.strategy == "reassociate"
    mean = other_tokens * other_dim + other_dim * dim
    router = 2 * dim * 8 + 8 * 2
    write = 2 * 3 * tokens * dim
    read = resampler.multiply_adds(3)["reassociate"]
    assert row.size.multiply_adds == read + mean + router + write + 2 * bottleneck_cost(tokens, dim)
    assert row.expert == "AdapterMoE"
    assert row.key_numbers == "1 cross + 1 unimodal, 3 latents, bottleneck 2, dense (reassociate)"


def test_toy_towers_by_hand_and_totals() -> None:
    model = toy_avmoe()
    summary = model.summary()
    vision, audio = summary.towers
    assert vision.size.multiply_adds == 9 * (3 * 16 + 8 * 16 * 16)
    assert audio.size.multiply_adds == 6 * (5 * 32 + 4 * 32 * 32)
    assert (vision.stream, vision.backbone, vision.sites, vision.size.trainable) == ("vision", "ToyTower", 8, 0)
    (adapter,) = summary.adapters
    assert adapter.size.parameters == adapter.size.trainable == sum(p.numel() for p in model.adapter_parameters())
    experts = [expert.size for row in adapter.couplings for expert in row.experts.values()]
    assert adapter.size.multiply_adds == sum(size.multiply_adds for size in experts)
    assert summary.total.multiply_adds == sum(row.size.multiply_adds for row in (vision, audio, adapter))
    assert summary.total.parameters == sum(p.numel() for p in model.parameters())
    assert summary.trainable_share == adapter.size.trainable / summary.total.parameters
    assert summary.notes == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_towers_cost_what_their_own_forward_does(family: str) -> None:
    build, size = FAMILIES[family]
    tower = build().eval()
    counts = []
    for batch in (1, 2):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            (getattr(tower, "forward_features", tower))(torch.zeros(batch, *size))
        counts.append(counter.get_total_flops() // 2)
    (row,) = ax.LockStep({"it": ax.open_backbone(tower, size)}).summary().towers
    pooler = sum(part.weight.numel() for name, part in tower.named_modules() if name == "pooler.dense")
    assert row.size.multiply_adds == counts[1] - counts[0] - pooler  # which comes after the tokens


def test_the_papers_model_at_full_size_on_the_meta_device() -> None:
    timm = pytest.importorskip("timm", exc_type=ImportError)
    transformers = pytest.importorskip("transformers")
    shape = {"depths": [2, 2, 6, 2], "num_attention_heads": [4, 8, 16, 32], "patch_embeds_hidden_size": 96}
    with torch.device("meta"):
        vision = timm.create_model("swinv2_large_window12_192", num_classes=0)
        audio = transformers.ClapAudioModel(transformers.ClapAudioConfig(window_size=8, **shape))
        model = ax.methods.avmoe(
            vision, audio, frame_size=(3, 192, 192), audio_size=(1, 1001, 64), batch_norm=True, skip_every=None
        )
    summary = model.summary()
    vision, audio = (row.size for row in summary.towers)
    (adapter,) = summary.adapters
    assert summary.notes == ()
    assert vision.multiply_adds / 1e9 == pytest.approx(26.1, abs=0.2)
    assert audio.multiply_adds / 1e9 == pytest.approx(5.9, abs=0.05)
    assert adapter.size.multiply_adds / 1e9 == pytest.approx(7.5, abs=0.05)
    assert adapter.size.parameters / 1e6 == pytest.approx(112.0, abs=0.05)
    stages = [
        row for row in adapter.couplings if row.sites["vision"].name.endswith("blocks.0.attn") or row.position == 8
    ]
    found = [stage.experts[stream].size.multiply_adds / 1e6 for stage in stages for stream in ("vision", "audio")]
    assert found == pytest.approx([679, 667, 88, 76, 46, 35, 66, 54], abs=1.5)
    assert vision.where == "float32 meta"
    _figures.record(
        "AVMoE on Swin-V2-L and HTS-AT, 12 pairs, adapter multiply-adds in G", adapter.size.multiply_adds / 1e9
    )


def test_a_coupling_of_one_piece() -> None:
    model = ax.LockStep(toy_pair(), [(PAIR, Mean())])
    (row,) = experts_of(model).values()
    assert (row.expert, row.size.multiply_adds, row.size.trainable) == ("Mean", 16 * 32, 17 * 32)
    lines = [line for line in str(model.summary()).splitlines() if "blocks.1.attn" in line]
    assert [("Mean" in line) for line in lines] == [True, False]


def test_named_adapters() -> None:
    model = toy_avmoe()
    model.add_adapter("small", toy_avmoe(num_latents=1, parts=(0,)))
    default, small = model.summary().adapters
    assert (default.name, default.active, small.name, small.active) == ("default", True, "small", False)
    assert small.size.trainable == 0  # it rests
    assert 0 < small.size.multiply_adds < default.size.multiply_adds
    model.set_adapter("small")
    summary = model.summary()
    assert [row.active for row in summary.adapters] == [False, True]
    assert summary.total.trainable == small.size.parameters
    assert "small (active)" in str(summary)
    assert "default (active)" not in str(summary)


def test_shared_and_trainable_towers_and_half_precision() -> None:
    tower = ToyTower(5, 16, 1)
    streams = {name: ax.open_backbone(tower, (6, 5), opener=open_toy) for name in ("left", "right")}
    summary = ax.LockStep(streams, towers="trainable").to(torch.bfloat16).summary()
    parameters = sum(p.numel() for p in tower.parameters())
    assert summary.total.parameters == summary.total.trainable == parameters
    assert summary.trainable_share == 1
    assert {row.size.where for row in summary.towers} == {"bfloat16 cpu"}
    assert summary.towers[0].size.multiply_adds == 6 * (5 * 16 + 2 * 16 * 16)


def test_looking_changes_nothing_and_is_not_seen() -> None:
    model, inputs, seen = toy_avmoe(batch_norm=True).train(), toy_inputs(), []
    model.couplings[0].experts["vision"].register_forward_hook(lambda *_: seen.append(1))
    model.towers["audio"].embed.register_forward_hook(lambda *_: seen.append(1))
    state = {key: value.clone() for key, value in model.state_dict().items()}
    training = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    model.summary()
    assert seen == []
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == training
    assert torch.equal(torch.get_rng_state(), random)
    model(inputs)
    assert len(seen) == 2


def test_what_cannot_be_counted_is_said_and_the_rest_is_shown() -> None:
    def open_stubborn(tower, x):
        if x.sum().item() < 0:
            raise ValueError
        x = yield ax.Site("blocks.0.block", tower.embed(x), nn.Identity())
        return x

    streams = {
        "stubborn": ax.open_backbone(ToyTower(), (6, 5), opener=open_stubborn),
        "paired": ax.open_backbone(ToyTower(), (torch.zeros(1, 6, 5),), opener=open_toy),
        "plain": toy_stream(),
    }
    summary = ax.LockStep(streams).summary()
    counts = {row.stream: row.size.multiply_adds for row in summary.towers}
    assert counts["stubborn"] is counts["paired"] is summary.total.multiply_adds is None
    assert counts["plain"] > 0
    assert "multiply-adds of stubborn are not counted: on the meta device it raises" in summary.notes[0]
    assert "multiply-adds of paired are not counted: it was opened with something else" in summary.notes[1]
    assert str(summary).count("note: ") == 2
    assert "? multiply-adds" in str(summary)


def test_as_dictionary_and_as_text() -> None:
    summary = toy_avmoe().summary()
    plain = json.loads(json.dumps(summary.as_dict()))
    assert plain["total"]["multiply_adds"] == summary.total.multiply_adds
    coupling = plain["adapters"][0]["couplings"][1]
    assert coupling["sites"]["vision"] == {"name": "blocks.1.mlp", "tokens": 9, "dim": 16, "takes_prefix": False}
    text = str(summary)
    assert all(row.sites[stream].name in text for row in summary.adapters[0].couplings for stream in row.sites)
    assert "trainable (61.2 %)" in text
    assert text == str(summary)
