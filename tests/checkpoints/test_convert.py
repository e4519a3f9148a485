"""The papers' adapters in our names, and ours in theirs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from _golden import Golden
from _towers import toy_avmoe, toy_stream
from torch import Tensor

import avexperts as ax
from avexperts import AdapterMoE, BottleneckAdapter, LatentCrossAdapter, SoftRouter, TokenResampler, convert
from avexperts.checkpoints._adapter_names import CROSS, DUAL_GUIDED, UNIMODAL, UNUSED
from avexperts.checkpoints._checkpoint_error import CheckpointError

ADAPTERS = {
    "expert_cross_bn_ln": convert.avmoe,
    "expert_cross_nobn_noln_nogate": convert.avmoe,
    "expert_uni_bn_ln": convert.avmoe,
    "avvp_expert_uni": convert.avmoe,
    "moe_1x1_bn_train": convert.avmoe,
    "moe_2x2_nobn": convert.avmoe,
    "avvp_moe_1x1_lb": convert.avmoe,
    "lockstep_skip2": convert.avmoe,
    "lavish_adapter": convert.lavish,
    "dgsct_adapter": convert.dg_sct,
}
P1, P2 = "audio_moe_adapter_blocks_p1.", "vis_moe_adapter_blocks_p2."


@pytest.fixture(scope="module")
def whole() -> dict[str, Tensor]:
    """AVMoE's whole network around toy towers: 8 coupled blocks, towers and head too."""
    return Golden("avmoe", "lockstep_skip2").w


@pytest.fixture
def adapters(whole) -> dict[str, Tensor]:
    return {key: value for key, value in whole.items() if "adapter_blocks" in key}


def mixture() -> AdapterMoE:
    return AdapterMoE(
        TokenResampler(14, 20, 16, 24),
        [LatentCrossAdapter(24, num_latents=5, reduction=4, batch_norm=True)],
        [BottleneckAdapter(24, reduction=4, batch_norm=True, activation=None)],
        SoftRouter((24, 24), 2),
    )


def assert_equal(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key].shape == value.shape
        assert torch.equal(got[key], value), key


class TestBothWays:
    @pytest.mark.parametrize("case", ADAPTERS)
    def test_papers_to_ours_and_back_is_what_it_was(self, case: str) -> None:
        translate, papers = ADAPTERS[case], Golden("avmoe", case).w
        left = {key for key in papers if key.split(".")[0] in UNUSED}
        if case == "lockstep_skip2":
            left = {key for key in papers if "adapter_blocks" not in key}
        ours = translate(papers)
        assert_equal(translate(ours, to="papers"), {key: value for key, value in papers.items() if key not in left})
        assert_equal(translate(translate(ours, to="papers")), ours)

    def test_only_what_no_forward_uses_is_lost(self) -> None:
        papers = Golden("avmoe", "dgsct_adapter").w
        assert papers.keys() - convert.dg_sct(convert.dg_sct(papers), to="papers").keys() == {"gate_tk"}

    def test_every_name_of_the_tables_goes_both_ways(self) -> None:
        for table in (CROSS, UNIMODAL, DUAL_GUIDED):
            assert len(set(table.values())) == len(table)
        attention = {f"self_attention.{part}": torch.ones(1) for part in ("in_proj_weight", "out_proj.bias")}
        assert_equal(convert.avmoe(attention, to="papers"), attention)

    @pytest.mark.parametrize(("block", "options"), [
        ("moe_adapter_blocks", {}),
        ("adapter_blocks", {"token_mixing": "scatter"}),
    ])  # fmt: skip
    def test_a_model_of_ours_gets_the_names_of_the_program_that_runs_it(self, block: str, options: dict) -> None:
        model = toy_avmoe(cross_experts=2, unimodal_experts=2, batch_norm=True, **options)
        ours = model.adapters["default"].state_dict()
        papers = convert.avmoe(ours, to="papers", like=model)
        prefixes = {key.split(".")[0] for key in papers}
        assert prefixes == {f"{stream}_{block}_p{part}" for stream in ("audio", "vis") for part in (1, 2)}
        assert {value.dim() for key, value in papers.items() if "_sampler" in key} == {4}
        assert_equal(convert.avmoe(papers, like=model), ours)

    @pytest.mark.parametrize("parts", [[0], [1]])
    def test_one_part_of_each_block(self, parts: list[int]) -> None:
        model = toy_avmoe(parts=parts)
        ours = model.adapters["default"].state_dict()
        papers = convert.avmoe(ours, to="papers", parts=parts)
        assert {key.split(".")[0][-2:] for key in papers} == {f"p{parts[0] + 1}"}
        assert_equal(convert.avmoe(papers, like=model), ours)

    @pytest.mark.parametrize(("method", "translate"), [("lavish", convert.lavish), ("dg_sct", convert.dg_sct)])
    def test_whole_models_of_the_other_systems(self, method: str, translate) -> None:
        streams = {name: toy_stream(9, 3, 16, 2) for name in ("vision", "audio")}
        model = getattr(ax.methods, method)(**streams, num_latents=3, batch_norm=True)
        ours = model.adapters["default"].state_dict()
        papers = translate(ours, to="papers")
        assert {key.split(".")[0] for key in papers} == {
            f"{s}_adapter_blocks_p{p}" for s in ("audio", "vis") for p in (1, 2)
        }
        assert_equal(translate(papers, like=model), ours)

    def test_what_save_adapters_stores_can_go_back(self, adapters) -> None:
        stored = {f"adapter.{key}": value for key, value in convert.avmoe(adapters).items()}
        assert_equal(convert.avmoe(stored | {"heads.event.weight": torch.ones(1)}, to="papers"), adapters)

    def test_states_are_left_as_they_are(self, adapters) -> None:
        shapes = {key: value.shape for key, value in adapters.items()}
        convert.avmoe(adapters)
        assert {key: value.shape for key, value in adapters.items()} == shapes


class TestReading:
    def test_data_parallel_prefixes_also_on_some_names_only(self, whole) -> None:
        mixed = {f"module.{key}" if index % 3 else key: value for index, (key, value) in enumerate(whole.items())}
        assert_equal(convert.avmoe(mixed), convert.avmoe(whole))
        wrapped = {f"module.{key}": value for key, value in Golden("avmoe", "lavish_adapter").w.items()}
        assert "exchange.latents" in convert.lavish(wrapped)

    def test_towers_and_heads_of_both_programs_are_passed_over(self, whole, adapters) -> None:
        assert len(adapters) < len(whole)
        parsing = ("fc_a.weight", "audio_token", "audio_cug.blocks.0.norm1.weight", "fc_prob_v.bias", "av_mcg.x.y")
        head = dict.fromkeys(parsing, torch.ones(1))
        assert_equal(convert.avmoe(whole | head), convert.avmoe(adapters))

    def test_all_that_is_unknown_is_named(self, adapters) -> None:
        extra = {P1 + "0.gate_x": 0, P1 + "1.multimodal_experts.0.bn1.wieght": 0, P2 + "0.gate": 0, "ln": 0}
        with pytest.raises(CheckpointError) as error:
            convert.avmoe(adapters | {key: torch.ones(1) for key in extra})
        unknown = re.search("unknown keys: (.+)", str(error.value))[1].split(", ")
        assert set(unknown) == set(extra)

    def test_a_tensor_that_one_adapter_lacks_is_named(self, adapters) -> None:
        lost = P1 + "3.multimodal_experts.0.ln_post.bias", P2 + "7.fc.weight"
        with pytest.raises(CheckpointError, match=f"missing keys: {lost[0]}, {lost[1]}$"):
            convert.avmoe({key: value for key, value in adapters.items() if key not in lost})

    def test_streams_may_differ_in_what_their_adapters_hold(self, adapters) -> None:
        # The event-localisation program builds gates for frames even where it builds none for sound.
        without = {k: v for k, v in adapters.items() if not (k.startswith("audio") and k.endswith(".gate"))}
        assert len(adapters) - len(without) == 32
        assert len(convert.avmoe(without)) == len(without)

    @pytest.mark.parametrize(("lost", "named"), [
        ([P1 + "2."], [P1 + "2.*"]),
        ([f"{s}_moe_adapter_blocks_p{p}.0." for s in ("audio", "vis") for p in (1, 2)], [P1 + "0.*", P2 + "0.*"]),
        (["audio_"], ["audio_moe_adapter_blocks_p2.7.*"]),
    ])  # fmt: skip
    def test_whole_adapters_that_are_missing(self, adapters, lost: list[str], named: list[str]) -> None:
        with pytest.raises(CheckpointError) as error:
            convert.avmoe({key: value for key, value in adapters.items() if not key.startswith(tuple(lost))})
        for name in named:
            assert name in str(error.value)

    def test_two_names_for_one_adapter(self, adapters) -> None:
        doubled = {key.replace("moe_adapter", "adapter"): value for key, value in adapters.items()}
        with pytest.raises(CheckpointError, match=r"two keys would become couplings\.0\.experts\.audio"):
            convert.avmoe(adapters | doubled)

    @pytest.mark.parametrize(("state", "message"), [
        ({}, "no key of an adapter is in it"),
        ([1, 2], "not a state dict but list"),
        ({"fc.weight": 3, "router": None}, "'fc.weight' is int, 'router' is NoneType"),
        ({"module.gate": torch.ones(1), "gate": torch.ones(1)}, "'gate' is there twice"),
        ({"swin.norm.weight": torch.ones(1)}, "unknown keys: swin.norm.weight"),
        ({"gate_tk": torch.ones(1)}, "no key of an adapter"),
    ])  # fmt: skip
    def test_other_things(self, state, message: str) -> None:
        with pytest.raises(CheckpointError, match=message):
            convert.avmoe(state)

    def test_numbers_too_high_to_count_to_are_no_trouble(self, adapters) -> None:
        far = {key.replace("_p1.7.", "_p1.999999."): value for key, value in adapters.items()}
        with pytest.raises(CheckpointError, match=rf"{P1}7.\*, {P1}".replace(".", r"\.")) as error:
            convert.avmoe(far)
        assert len(str(error.value)) < 1000


class TestWriting:
    def test_what_the_papers_have_no_name_for_is_named(self) -> None:
        model = toy_avmoe(resampler="lowrank")
        with pytest.raises(CheckpointError, match=r"unknown keys: couplings\.0\.experts\.\w+\.resamplers\.0\.token_sq"):
            convert.avmoe(model.adapters["default"].state_dict(), to="papers")

    def test_what_one_coupling_lacks_is_named(self, adapters) -> None:
        ours = convert.avmoe(adapters)
        lost = "couplings.5.experts.vision.router.layers.0.bias"
        with pytest.raises(CheckpointError, match=f"missing keys: {lost}$"):
            convert.avmoe({key: value for key, value in ours.items() if key != lost}, to="papers")

    def test_an_odd_number_of_couplings_cannot_be_two_parts_each(self, adapters) -> None:
        ours = convert.avmoe(adapters)
        odd = {key: value for key, value in ours.items() if not key.startswith("couplings.15.")}
        with pytest.raises(CheckpointError, match=r"missing keys: couplings\.15\.experts\.audio\.\*"):
            convert.avmoe(odd, to="papers")

    @pytest.mark.parametrize(("options", "message"), [
        ({"to": "timm"}, "to is 'avexperts' or 'papers', got 'timm'"),
        ({"to": "papers", "parts": (1, 0)}, r"parts is \(0,\), \(1,\) or \(0, 1\), got \(1, 0\)"),
    ])  # fmt: skip
    def test_bad_arguments(self, options: dict, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            convert.avmoe({"gate": torch.ones(1)}, **options)


class TestAgainstAModule:
    def test_what_fits_loads(self) -> None:
        module, papers = mixture(), Golden("avmoe", "moe_1x1_bn_train").w
        module.load_state_dict(convert.avmoe(papers, like=module))

    def test_missing_unknown_and_misshapen_keys_are_named_in_both_languages(self) -> None:
        papers = Golden("avmoe", "moe_1x1_bn_train").w
        del papers["multimodal_experts.0.ln_before.bias"]
        papers["multimodal_experts.1.gate"] = torch.ones(1)
        papers["conv_adapter.weight"] = torch.ones(20, 15, 1, 1)
        with pytest.raises(CheckpointError) as error:
            convert.avmoe(papers, like=mixture())
        assert str(error.value) == (
            "the adapters do not fit the module; "
            "missing keys: multimodal_experts.0.ln_before.bias (cross_experts.0.bottleneck.pre_norm.bias); "
            "unknown keys: multimodal_experts.1.gate (cross_experts.1.bottleneck.gate); "
            "misshapen keys: conv_adapter.weight (resamplers.0.token_mix.weight) is (20, 15) where the module has "
            "(20, 14)"
        )

    def test_a_whole_model_of_another_size(self, adapters) -> None:
        model = toy_avmoe(batch_norm=True)
        with pytest.raises(CheckpointError) as error:
            convert.avmoe(adapters, like=model)
        text = str(error.value)
        assert "unknown keys: audio_moe_adapter_blocks_p1.2." in text
        assert (
            "vis_moe_adapter_blocks_p1.0.fc.bias (couplings.0.experts.vision.resamplers.0.channel_mix.bias) is (8,) "
            "where the module has (16,)" in text
        )

    def test_the_way_back_is_checked_on_our_side(self) -> None:
        ours = convert.avmoe(Golden("avmoe", "moe_1x1_bn_train").w)
        convert.avmoe(ours, to="papers", like=mixture())
        ours["cross_experts.0.bottleneck.gate"] = torch.ones(2)
        named = re.escape(
            "multimodal_experts.0.gate (cross_experts.0.bottleneck.gate) is (2,) where the module has (1,)"
        )
        with pytest.raises(CheckpointError, match=named):
            convert.avmoe(ours, to="papers", like=mixture())

    def test_the_module_is_only_looked_at(self) -> None:
        module = mixture()
        before = {key: value.clone() for key, value in module.state_dict().items()}
        convert.avmoe(Golden("avmoe", "moe_1x1_bn_train").w, like=module)
        assert_equal(module.state_dict(), before)


class TestTowers:
    @pytest.mark.parametrize("to", ["transformers", "timm"])
    def test_swin_both_ways(self, to: str) -> None:
        papers = Golden("avmoe", "swinv2_body").w
        assert_equal(convert.swinv2(convert.swinv2(papers, to=to), to="papers"), papers)

    @pytest.mark.parametrize("prefix", ["audio_encoder.", ""])
    def test_htsat_both_ways(self, prefix: str) -> None:
        unused = ("tscam_conv.", "head.", "spectrogram_extractor.", "logmel_extractor.")
        papers = Golden("avmoe", "htsat_body").w
        papers = {k: v for k, v in papers.items() if not (k.startswith(unused) or k.endswith(".attn_mask"))}
        ours = convert.htsat({f"module.sed_model.{key}": value for key, value in papers.items()}, prefix=prefix)
        assert_equal(convert.htsat(ours, to="papers", prefix=prefix), papers)

    @pytest.mark.parametrize(("translate", "case"), [(convert.swinv2, "swinv2_body"), (convert.htsat, "htsat_body")])
    def test_on_the_way_back_too_every_key_is_named(self, translate, case: str) -> None:
        ours = translate(Golden("avmoe", case).w)
        lost = next(key for key in ours if key.endswith("blocks.1.attention.self.query.weight"))
        del ours[lost]
        with pytest.raises(CheckpointError, match=f"missing keys: .*{lost[-40:]}; unknown keys: extra"):
            translate(ours | {"extra": torch.ones(1)}, to="papers")

    def test_an_unknown_target(self) -> None:
        with pytest.raises(ValueError, match="to is 'transformers' or 'papers', got 'timm'"):
            convert.htsat({}, to="timm")
