"""Openers whose attention takes a prefix of keys and values, and couplings that read tokens of an earlier site."""

from __future__ import annotations

import pytest
import torch
from _close import assert_close
from _towers import FAMILIES, toy_inputs, toy_pair
from torch import Tensor, nn

import avexperts as ax

ABLE = ["timm-vit", "timm-swinv2", "clap-audio", "ast", "clip-vision", "vit"]


def first_site(family: str, **options) -> ax.Site:
    model = FAMILIES[family].build().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return ax.open_backbone(model, **options)(torch.randn(2, *FAMILIES[family].size)).send(None)


@pytest.mark.parametrize("family", FAMILIES)
def test_which_sites_take_a_prefix_is_known_beforehand(family: str) -> None:
    sites = ax.open_backbone(FAMILIES[family].build(), FAMILIES[family].size).sites
    assert {site.takes_prefix for site in sites if site.name.endswith("mlp")} == {False}
    assert {site.takes_prefix for site in sites if site.name.endswith("attn")} == {family in ABLE}


@pytest.mark.parametrize("family", ABLE)
def test_an_empty_prefix_changes_nothing_and_another_one_does(family: str) -> None:
    with torch.no_grad():
        site = first_site(family)
        plain, dim = site.run(site.tokens), site.tokens.shape[-1]
        for projected in (False, True):
            empty = site.run(site.tokens, prefix=torch.zeros(2, 2, 0, dim), projected=projected)
            assert_close(empty, plain, gradient=True)
            prefix = torch.randn(2, 3, dim)
            shared = site.run(site.tokens, prefix=prefix, projected=projected)
            assert (shared - plain).abs().max() > 1e-3
            own = site.run(site.tokens, prefix=prefix.expand(2, -1, -1, -1), projected=projected)
            assert_close(own, shared, gradient=True)
            other = torch.stack([prefix, torch.randn(2, 3, dim)])
            apart = site.run(site.tokens, prefix=other, projected=projected)
            assert_close(apart[0], shared[0], gradient=True)
            assert (apart[1] - shared[1]).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["timm-swinv2", "clap-audio"])
def test_shifted_windows_with_an_empty_prefix(family: str) -> None:
    model = FAMILIES[family].build().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    stream, plain, sent = ax.open_backbone(model)(torch.randn(2, *FAMILIES[family].size)), [], None
    with torch.no_grad():
        for _ in range(8):
            site = stream.send(sent)
            sent = site.run(site.tokens)
            if site.name.endswith("attn"):
                empty = torch.zeros(2, 0, site.tokens.shape[-1])
                assert_close(site.run(site.tokens, prefix=empty), sent, gradient=True)
                plain.append(site.name)
    assert len(plain) == 4  # every second of these blocks shifts its windows


def test_a_whole_block_of_sound_takes_a_prefix() -> None:
    site = first_site("clap-audio", granularity="block")
    empty = torch.zeros(2, 0, site.tokens.shape[-1])
    assert_close(site.run(site.tokens, prefix=empty), site.run(site.tokens), gradient=True)


def test_clip_opened_at_its_embedding() -> None:
    model, size = FAMILIES["clip-vision"].build().eval(), FAMILIES["clip-vision"].size
    plain, wide = ax.open_backbone(model, size), ax.open_backbone(model, size, embed=True)
    assert [site.name for site in wide.sites] == ["embed", *(site.name for site in plain.sites)]
    x = torch.randn(2, *size)
    assert torch.equal(ax.LockStep({"vision": plain})(vision=x).vision, ax.LockStep({"vision": wide})(vision=x).vision)


class Reader(nn.Module):
    """Adds what arrived at an earlier site."""

    def __init__(self, *reads: str) -> None:
        super().__init__()
        self.reads = reads
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, site: ax.Site | None, *, read: dict[str, Tensor]) -> tuple[Tensor | None, ...]:
        if site is None:
            return (None,)
        return (site.run(site.tokens) + self.scale * read[self.reads[0]],)


def reading(**options) -> ax.LockStep:
    coupling = Reader("vision.blocks.0.attn")
    return ax.LockStep(toy_pair(), [({"vision": "blocks.1.attn"}, coupling)], **options)


@pytest.mark.parametrize("checkpoint", [None, "towers", "couplings", "all"])
def test_a_coupling_reads_what_its_stream_has_passed(checkpoint: str | None) -> None:
    inputs = toy_inputs()
    model = reading(checkpoint=checkpoint, taps=["vision.blocks.0.attn", "vision.blocks.1.attn"])
    out = model(inputs)
    model.couplings[0].scale.data.zero_()
    bare = model(inputs)
    model.couplings[0].scale.data.fill_(0.5)
    assert (out.vision - bare.vision).abs().max() > 1e-3
    out.vision.sum().backward()
    assert model.couplings[0].scale.grad.abs() > 0
    assert list(out.taps) == ["vision.blocks.0.attn", "vision.blocks.1.attn"]


def test_what_is_read_is_part_of_the_frozen_prefix(tmp_path) -> None:
    inputs, model = toy_inputs(), reading()
    entry = model.entry_tokens(inputs)
    assert set(entry) == {"vision.blocks.0.attn", "vision.blocks.1.attn"}
    assert torch.equal(model(inputs, entry=entry).vision, model(inputs).vision)
    with pytest.raises(ValueError, match=r"not vision\.blocks\.0\.attn, which couplings read"):
        model(inputs, entry={"vision.blocks.1.attn": entry["vision.blocks.1.attn"]})
    cache = ax.PrefixCache(tmp_path / "cache", model, ["a", "b", "c"])
    cache.write([0, 1, 2], entry)
    back = cache.read([2, 0])
    few = {name: x[[2, 0]] for name, x in inputs.items()}
    assert torch.equal(model(few, entry=back).vision, model(few).vision)


def test_rows_of_other_adapters_read_their_own() -> None:
    inputs, model = toy_inputs(3), reading()
    whole = model(inputs).vision
    with model.disable_adapters():
        bare = model(inputs).vision
    mixed = model(inputs, adapters=["default", None, "default"]).vision
    assert_close(mixed, torch.stack([whole[0], bare[1], whole[2]]))


def test_one_graph_with_what_is_read() -> None:
    torch._dynamo.reset()
    inputs, model = toy_inputs(), reading()
    eager = model(inputs).vision
    model.compile(backend="eager")
    assert_close(model(inputs).vision, eager)


@pytest.mark.parametrize("name", ["vision.blocks.2.attn", "audio.blocks.0.attn", "vision.blocks.9.attn"])
def test_what_comes_later_or_elsewhere_cannot_be_read(name: str) -> None:
    with pytest.raises(ValueError, match=f"reads '{name}': it can read sites that one of its own streams has passed"):
        ax.LockStep(toy_pair(), [({"vision": "blocks.1.attn"}, Reader(name))])


def test_a_summary_counts_couplings_that_read() -> None:
    assert reading().summary().adapters[0].couplings[0].experts[""].size.multiply_adds is not None


def test_an_adapter_without_tasks_says_so() -> None:
    with pytest.raises(TypeError, match="adapter 'default' has no tasks"):
        _ = reading().prompts
