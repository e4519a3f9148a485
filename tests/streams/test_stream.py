from __future__ import annotations

import pytest
import torch
from _towers import FAMILIES, ToyTower, open_toy, toy_stream
from torch import nn

import avexperts as ax


def test_the_site_table_comes_from_a_dry_run() -> None:
    stream = toy_stream(tokens=6, dim=16, depth=1)
    assert stream.sites == (
        ax.SiteInfo("blocks.0.attn", 6, 16, takes_prefix=False),
        ax.SiteInfo("blocks.0.mlp", 6, 16, takes_prefix=False),
    )


def test_the_dry_run_computes_nothing_where_the_meta_device_will_do() -> None:
    class Counting(ToyTower):
        real_runs = 0

        def count(self, x: torch.Tensor) -> torch.Tensor:
            Counting.real_runs += x.device.type != "meta"
            return x

    def open_counting(tower, x):
        x = yield ax.Site("blocks.0.block", tower.embed(tower.count(x)), nn.Identity())
        return x

    assert ax.open_backbone(Counting(), (6, 5), opener=open_counting).sites
    assert Counting.real_runs == 0


def test_a_backbone_that_needs_values_is_run_for_real() -> None:
    def open_reading(tower, x):
        x = yield ax.Site(f"blocks.{int(x.sum().item())}.block", tower.embed(x), nn.Identity())
        return x

    stream = ax.open_backbone(ToyTower(), torch.zeros(1, 6, 5), opener=open_reading)
    assert stream.sites[0].name == "blocks.0.block"


def test_tracing_leaves_the_model_as_it_was() -> None:
    model = ToyTower().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ax.open_backbone(model, (6, 5), opener=open_toy)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_towers_can_live_on_the_meta_device(family: str) -> None:
    build, size = FAMILIES[family]
    with torch.device("meta"):
        meta = build()
    assert ax.open_backbone(meta, size).sites == ax.open_backbone(build(), size).sites


@pytest.mark.parametrize("family", FAMILIES)
def test_run_binds_its_block_when_the_site_is_made(family: str) -> None:
    build, size = FAMILIES[family]
    stream = ax.open_backbone(build().eval())
    seen = []
    with torch.no_grad():
        generator = stream(torch.randn(1, *size))
        sent = None
        while True:
            try:
                site = generator.send(sent)
            except StopIteration:
                break
            sent = site.run(site.tokens)
            seen.append((site, sent))
        # Checkpointing runs a site again after its stream has moved on; a late binding would run another block.
        assert all(torch.equal(site.run(site.tokens), result) for site, result in seen)


@pytest.mark.parametrize("family", FAMILIES)
def test_run_reaches_weights_through_module_calls(family: str) -> None:
    build, size = FAMILIES[family]
    model = build().eval()
    owners = {name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}

    def called(run) -> set[str]:
        names: set[str] = set()
        hooks = [
            module.register_forward_pre_hook(lambda _m, _a, name=name: names.add(name))
            for name, module in model.named_modules()
        ]
        with torch.no_grad():
            run()
        for hook in hooks:
            hook.remove()
        return names & owners

    x = torch.randn(1, *size)
    stream = ax.open_backbone(model, size)
    own = called(lambda: model.forward_features(x) if hasattr(model, "forward_features") else model(x))
    driven = called(lambda: ax.LockStep({"it": stream})(it=x))
    # Pooling heads run after the final tokens; the tower itself and its embedding call stay with the tower.
    outside = {name for name in own if "pooler" in name or "post_layernorm" in name or "pre_layrnorm" in name}
    assert {name for name in own if ".layers." in name or ".blocks." in name or "layer." in name} - outside <= driven


def test_a_context_manager_open_across_a_yield_is_refused() -> None:
    def leaking(tower, x):
        with torch.no_grad():
            x = yield ax.Site("blocks.0.block", tower.embed(x), nn.Identity())
        return x

    with pytest.raises(ValueError, match=r"context manager open across the yield of 'blocks\.0\.block'"):
        ax.open_backbone(ToyTower(), (6, 5), opener=leaking)
    assert torch.is_grad_enabled()


def test_unknown_backbones_are_told_how_to_be_opened() -> None:
    with pytest.raises(TypeError, match=r"no opener is known for .*Linear(.|\n)*yield ax\.Site"):
        ax.open_backbone(nn.Linear(2, 2))


def test_registered_openers_serve_subclasses() -> None:
    class Mine(ToyTower): ...

    class Child(Mine): ...

    assert ax.register_opener(Mine, open_toy) is open_toy
    assert len(ax.open_backbone(Child(), (6, 5)).sites) == 4


@pytest.mark.parametrize(
    ("opener", "message"),
    [
        (lambda tower, x: iter_sites(tower, x, names=["a.0.x", "a.0.x"]), "yields twice: a.0.x"),
        (lambda tower, x: iter_sites(tower, x, names=[]), "yields no site"),
        (lambda tower, x: iter_sites(tower, x, names=["a.0.x"], end=None), "must return the final tokens"),
        (lambda tower, x: iter_sites(tower, x[0], names=["a.0.x"]), r"tokens must be \(B, N, D\), got \(6, 16\)"),
    ],
)
def test_faulty_openers(opener, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ax.open_backbone(ToyTower(), (6, 5), opener=opener)


def iter_sites(tower, x, names, end=...):
    x = tower.embed(x)
    for name in names:
        x = yield ax.Site(name, x, nn.Identity())
    return x if end is ... else end


def test_a_subclass_with_a_forward_of_its_own_is_not_opened_as_its_parent() -> None:
    build, _ = FAMILIES["vit"]
    vit = type(build())

    class Reversed(vit):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    model = Reversed(build().config)
    with pytest.raises(TypeError, match="Reversed"):
        ax.open_backbone(model)
    ax.register_opener(Reversed, ax.open_backbone(build()).opener)
    assert ax.open_backbone(model, (3, 32, 32)).sites
