from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from _avqa_names import names_of_head, part
from _close import assert_close
from avtasks.avqa import (
    AVQAHead,
    Grounding,
    QuestionEncoder,
    SpatialAttention,
    TemporalGrounding,
    convert_grounding,
    convert_head,
    matching_loss,
)
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).parents[2] / "golden" / "avmoe_avqa_avs"


def tokens(maps: Tensor) -> Tensor:
    return maps.flatten(-2).transpose(-1, -2)


def small_head(**options) -> AVQAHead:
    return AVQAHead(93, 7, dim=8, audio_dim=6, hidden=(9, 8, 6), **options).eval()


def inputs(clips: int = 2, seconds: int = 3, negative: bool = True) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    features = {
        "vision": torch.randn(clips, seconds, 36, 8, generator=generator),
        "audio": torch.randn(clips, seconds, 6, generator=generator),
    }
    batch = {"question": torch.randint(93, (clips, 4, 14), generator=generator)}
    if negative:
        batch["negative"] = torch.randn(clips, seconds, 36, 8, generator=generator)
    return features, batch


def test_values_and_gradients_of_the_papers_question_encoder():
    golden = load_file(GOLDEN / "question_encoder.safetensors")
    encoder = QuestionEncoder(11, 8, word_dim=6, hidden=5)
    encoder.load_state_dict(
        {
            key.replace("word2vec", "words").replace("fc.", "project."): value
            for key, value in part(golden, "w.").items()
        }
    )
    out = encoder(golden["question"])
    assert_close(out, golden["out"])
    (out * golden["probe"]).sum().backward()
    gradients = part(golden, "grad.")
    assert len(gradients) == 7
    for key, value in gradients.items():
        name = key.replace("word2vec", "words").replace("fc.", "project.")
        assert_close(encoder.get_parameter(name).grad, value, gradient=True, what=key)


def test_values_and_gradients_of_the_papers_grounding():
    golden = load_file(GOLDEN / "grounding_gen.safetensors")
    grounding = Grounding(10, 6, hidden=(9, 8, 7))
    state = convert_grounding(part(golden, "w."), grounding.state_dict())
    assert len(state) == 14
    grounding.load_state_dict(state)
    pairs = tokens(golden["visual_pos_neg_map"])
    heard = grounding.listen(golden["audio_tokens"].mean(1))
    match, mismatch = (grounding(pairs[:, which], heard).match for which in (0, 1))
    assert_close(torch.stack([match, mismatch], 1).flatten(0, 1), golden["logits"])
    loss = matching_loss(match, mismatch)
    assert_close(loss, golden["loss"])
    loss.backward()
    gradients = part(golden, "grad.")
    names = names_of_head(part(golden, "w."), [f"grounding.{name}" for name in state])
    assert len(gradients) == 4
    for key, value in gradients.items():
        parameter = grounding.get_parameter(names[key].removeprefix("grounding."))
        assert_close(parameter.grad, value, gradient=True, what=key)


def test_values_and_gradients_of_the_papers_head():
    golden = load_file(GOLDEN / "avqa_head.safetensors")
    head = small_head()
    state, dropped = convert_head(part(golden, "w."), head.state_dict())
    assert dropped == []
    head.load_state_dict(state)
    maps = {name: golden[name].clone().requires_grad_() for name in ("visual_posi_map", "audio_tokens")}
    features = {"vision": tokens(maps["visual_posi_map"]), "audio": maps["audio_tokens"].mean(2)}
    batch = {"question": golden["question"][:, None], "negative": tokens(golden["visual_nega_map"])}
    out = head(features, batch)
    assert_close(out.answer[:, 0], golden["out_qa"])
    assert_close(out.match.flatten(0, 1), golden["match_posi"])
    assert_close(out.mismatch.flatten(0, 1), golden["match_nega"])
    pairs = torch.stack([out.match, out.mismatch], 2).reshape(-1, 2)
    assert_close(pairs, golden["match_logits"])
    assert_close(
        F.cross_entropy(pairs, golden["match_labels"].long()), 2 * out.losses(golden["target"][:, None])["match"]
    )
    loss = sum(out.losses(golden["target"][:, None]).values())
    assert_close(loss, golden["loss"])
    loss.backward()
    gradients = part(golden, "grad.")
    for name, value in maps.items():
        assert_close(value.grad, gradients.pop(name), gradient=True, what=name)
    assert len(gradients) == 8
    names = names_of_head(part(golden, "w."), state)
    for key, value in gradients.items():
        assert_close(head.get_parameter(names[key]).grad, value, gradient=True, what=key)


def test_the_converter_passes_over_what_is_elsewhere_and_names_what_does_not_fit():
    golden = part(load_file(GOLDEN / "avqa_head.safetensors"), "w.")
    expected = small_head().state_dict()
    whole = {f"module.{key}": value for key, value in golden.items()}
    whole |= {"module.swin.norm.weight": torch.ones(2), "module.vis_adapter_blocks_p1.0.fc.bias": torch.ones(2)}
    whole |= {"module.norm3.weight": torch.ones(8), "module.fc_a1_pure.bias": torch.ones(8)}
    converted, dropped = convert_head(whole, expected)
    assert converted.keys() == expected.keys()
    assert dropped == ["module.norm3.weight", "module.fc_a1_pure.bias"]
    misspelt = {key.replace("fc_ans", "fc_answer"): value for key, value in golden.items()}
    with pytest.raises(KeyError, match=r"fc_answer\.bias.*answer\.bias"):
        convert_head(misspelt, expected)
    with pytest.raises(KeyError, match=r"grounding module; unknown: .*'fc_ans\.bias'.*missing: none"):
        convert_grounding(golden, small_head().grounding.state_dict())


def test_a_pre_trained_grounding_becomes_a_part_of_the_head():
    golden = load_file(GOLDEN / "avqa_head.safetensors")
    grounding = {
        key: value
        for key, value in part(golden, "w.").items()
        if key.startswith(("fc_a1", "fc_a2", "fc_gl", "fc1", "fc2", "fc3", "fc4"))
    }
    head = small_head()
    head.grounding.load_state_dict(convert_grounding(grounding, head.grounding.state_dict()))
    whole, _ = convert_head(part(golden, "w."), head.state_dict())
    for name, value in head.grounding.state_dict().items():
        assert torch.equal(value, whole[f"grounding.{name}"])


def test_equal_tokens_are_weighed_equally_and_no_token_is_selected():
    attention = SpatialAttention()
    _, weights = attention(torch.ones(2, 36, 8), torch.randn(2, 8))
    assert_close(weights, torch.full((2, 36), 1 / 36))
    _, weights = attention(100 * torch.randn(50, 36, 8), torch.randn(50, 8))
    assert weights.max() <= math.e**2 / (math.e**2 + 35)
    assert (weights.amax(-1) / weights.amin(-1)).max() <= math.e**2 + 1e-4
    _, sharp = SpatialAttention(temperature=0.1)(100 * torch.randn(50, 36, 8), torch.randn(50, 8))
    assert sharp.max() > 0.3


def test_answers_do_not_depend_on_other_videos_nor_matching_on_the_question():
    head = small_head()
    features, batch = inputs()
    before = head(features, batch)
    other_negative = head(features, batch | {"negative": torch.randn(2, 3, 36, 8)})
    other_question = head(features, batch | {"question": (batch["question"] + 1) % 93})
    assert torch.equal(before.answer, other_negative.answer)
    assert not torch.equal(before.mismatch, other_negative.mismatch)
    assert torch.equal(before.mismatch, other_question.mismatch)
    assert not torch.equal(before.answer, other_question.answer)


@pytest.mark.parametrize("seconds", [0, 3])
def test_only_a_head_with_a_code_of_the_seconds_knows_their_order(seconds):
    head = small_head(seconds=seconds)
    if seconds:
        torch.nn.init.normal_(head.second)
    features, batch = inputs(negative=False)
    swapped = {name: value[:, [1, 0, 2]] for name, value in features.items()}
    difference = (head(features, batch).answer - head(swapped, batch).answer).abs().max()
    assert difference > 1e-4 if seconds else difference < 1e-6


def test_questions_about_one_clip_do_not_see_each_other():
    head = small_head()
    features, batch = inputs()
    together = head(features, batch)
    for index in range(4):
        alone = head(features, batch | {"question": batch["question"][:, index : index + 1]})
        torch.testing.assert_close(alone.answer[:, 0], together.answer[:, index], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(alone.audio_time[:, 0], together.audio_time[:, index], rtol=1e-4, atol=1e-6)


def test_the_loss_passes_over_places_without_a_question():
    head = small_head()
    features, batch = inputs(negative=False)
    out = head(features, batch)
    answer = torch.tensor([[1, 2, -100, -100], [3, -100, -100, -100]])
    losses = out.losses(answer)
    expected = F.cross_entropy(out.answer[[0, 0, 1], [0, 1, 0]], torch.tensor([1, 2, 3]))
    assert losses.keys() == {"answer"}
    assert_close(losses["answer"], expected)


def test_every_parameter_learns():
    head = small_head(seconds=3).train()
    out = head(*inputs())
    sum(out.losses(torch.ones(2, 4, dtype=torch.long)).values()).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_papers_size():
    with torch.device("meta"):
        head = AVQAHead()
    assert sum(p.numel() for p in head.grounding.parameters()) == 768 * 1536 + 1536**2 + 2 * 1536**2 + 3 * 1536 + (
        3072 * 512 + 512 * 256 + 256 * 128 + 128 * 2 + 512 + 256 + 128 + 2
    )
    assert head.question.words.weight.shape == (93, 1536)
    assert head.answer.weight.shape == (42, 1536)


def test_width_that_heads_cannot_share():
    with pytest.raises(ValueError, match="heads=4 must divide dim=10"):
        TemporalGrounding(10)


def test_a_packed_question_ends_at_its_last_word():
    torch.manual_seed(0)
    packed, published = QuestionEncoder(11, 8, packed=True), QuestionEncoder(11, 8)
    published.load_state_dict(packed.state_dict())
    rows = torch.tensor([[[3, 4, 5, 0, 0, 0], [6, 7, 8, 9, 1, 2], [0, 0, 0, 0, 0, 0]]])
    out = packed(rows)
    assert_close(out[0, 0], published(rows[0, :1, :3])[0])
    assert_close(out[0, 1], published(rows[0, 1:2])[0])
    assert out[0, 2].isfinite().all(), "a row without a question"
    assert not torch.allclose(out[0, 0], published(rows[0, :1])[0])


def test_without_a_weight_nothing_is_matched():
    features, batch = inputs()
    assert small_head(match_weight=0.0)(features, batch).mismatch is None
    assert small_head()(features, batch).mismatch is not None
