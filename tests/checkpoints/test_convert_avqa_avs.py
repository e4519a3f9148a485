"""Whole checkpoints of the question answering and segmentation programs: their adapters in our names, and back."""

from __future__ import annotations

import pytest
import torch
from _golden import Golden
from _towers import toy_avmoe
from torch import Tensor

import avexperts as ax
from avexperts import convert
from avexperts.checkpoints._checkpoint_error import CheckpointError

PROGRAMS = {"avqa_full_moe_skip1": "adapter_blocks", "avs_ms3_full_skip2": "moe_adapter_blocks"}


@pytest.mark.parametrize("case", PROGRAMS)
def test_adapters_of_a_whole_checkpoint_go_both_ways(case: str) -> None:
    papers = Golden("avmoe_avqa_avs", case).w
    adapters = {key: value for key, value in papers.items() if "adapter_blocks" in key}
    ours = convert.avmoe({f"module.{key}": value for key, value in papers.items()})
    back = convert.avmoe(ours, to="papers", blocks=PROGRAMS[case])
    assert len(back) == len(ours) == len(adapters)
    assert all(torch.equal(back[key], value) for key, value in adapters.items())


def test_own_latents_and_gates_by_stream_have_their_places() -> None:
    ours = convert.avmoe(Golden("avmoe_avqa_avs", "avs_ms3_full_skip2").w)
    expert = "couplings.0.experts.{}.unimodal_experts.1."
    assert ours[expert.format("audio") + "exchange.latents"].shape == (5, 8)
    assert expert.format("vision") + "exchange.gate" in ours
    assert expert.format("vision") + "gate" in ours
    assert expert.format("audio") + "gate" not in ours


def names_of(key: str) -> dict[str, Tensor]:
    """One small tensor under a name that a head of these programs has."""
    return {key: torch.ones(2, 2)}


@pytest.mark.parametrize(
    "key",
    [
        "fc_a1_pure.weight", "fc4.bias", "fc_ans.weight", "linear21.weight", "norm3.bias", "attn_a.in_proj_weight",
        "question_encoder.lstm.weight_ih_l0", "x4_linear_.weight", "x1_linear.weight", "audio_linear.bias",
        "tpavi_b3.W_z.1.running_mean", "path2.resConfUnit1.conv1.weight", "output_conv.4.bias",
        "encoder_backbone.block1.0.norm1.weight", "conv2.conv2d_list.3.weight",
        "temporal_attn.audio_gated.0.weight",
    ],
)  # fmt: skip
def test_heads_are_left(key: str) -> None:
    whole = convert.avmoe(toy_avmoe().adapters["default"].state_dict(), to="papers")
    assert convert.avmoe(whole | names_of(key)).keys() == convert.avmoe(whole).keys()
    with pytest.raises(CheckpointError, match=r"unknown keys: fc5\.weight"):
        convert.avmoe(whole | names_of(key) | names_of("fc5.weight"))


def test_self_attention_over_frames_has_the_papers_names() -> None:
    model = toy_avmoe(self_attention="frames", frames_per_clip=5, unimodal_experts=2)
    papers = convert.avmoe(model.adapters["default"].state_dict(), to="papers", like=model)
    assert "vis_moe_adapter_blocks_p1.0.singlemodal_experts.1.self_attention.in_proj_weight" in papers
    assert convert.avmoe(papers, like=model).keys() == model.adapters["default"].state_dict().keys()


def test_lists_can_be_called_as_in_question_answering() -> None:
    state = toy_avmoe().adapters["default"].state_dict()
    called = {key.split("_p")[0] for key in convert.avmoe(state, to="papers", blocks="adapter_blocks")}
    assert called == {"audio_adapter_blocks", "vis_adapter_blocks"}
    with pytest.raises(ValueError, match="blocks is None, 'adapter_blocks' or 'moe_adapter_blocks', got 'lists'"):
        convert.avmoe(state, to="papers", blocks="lists")


@pytest.mark.parametrize("kind", ["cross", "own"])
def test_one_expert_with_latents_is_told_apart(kind: str) -> None:
    exchange = ax.LatentExchange(16, num_latents=3)
    own = ax.BottleneckAdapter(16, exchange=exchange)
    module = ax.LatentCrossAdapter(16, num_latents=3) if kind == "cross" else own
    papers = convert.avmoe(module.state_dict(), to="papers")
    assert "my_tokens" in papers
    assert ("gate_self" in papers) == (kind == "own")
    module.load_state_dict(convert.avmoe(papers))


def test_what_a_program_does_not_apply_is_left_out_by_name_only() -> None:
    papers = Golden("avmoe_avqa_avs", "dgsct_s4_adapter_bicubic").w
    everything = convert.dg_sct(papers)
    applied = convert.dg_sct(papers, unapplied=["conv_adapter", "ln_before"])
    left = {"exchange.resampler.token_mix", "bottleneck.pre_norm"}
    assert {key.rpartition(".")[0] for key in everything.keys() - applied.keys()} == left
