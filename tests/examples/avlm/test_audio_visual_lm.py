"""The whole stack: stages of a batch, answers in batches, what is trained, and the published base."""

from __future__ import annotations

import pytest
import torch
from _stack import group, papers_stack
from avtasks.avlm import (
    AudioVisualLM,
    Template,
    collate,
    convert_avlm,
    encode_conversation,
    encode_question,
    open_audio_tower,
    open_avlm,
    tiny_language_model,
    word_tokenizer,
)
from torch import Tensor

SHORT = Template(system="")
TEXTS = ["Who barks loudly in the picture?", "a dog on grass", "What?"]
ALIGNER = {"queries": 3, "aligner_layers": 2, "aligner_heads": 2, "aligner_width": 16}


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer(TEXTS)


def stack(tokenizer, family: str = "llama", **options) -> AudioVisualLM:
    language = tiny_language_model(tokenizer, width=24, layers=2, family=family)
    language.generation_config.eos_token_id = None  # random answers would end at random
    for parameter in language.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(8)  # and fresh weights are too small to tell one prompt from another
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hearing = open_audio_tower("small:none", chunk_seconds=1)
        return open_avlm(language, vision="clip:none", audio=hearing, **ALIGNER, **options)


@pytest.fixture(scope="module")
def model(tokenizer) -> AudioVisualLM:
    return stack(tokenizer)


def clip(model: AudioVisualLM, seed: int, seconds: float = 1.0, sounds: int = 1) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=draw)
    waves = [torch.randn(round(32000 * seconds), generator=draw) * 0.1 for _ in range(sounds)]
    return model.prepare(frames=frames, waveforms=waves)


def asked(model: AudioVisualLM, tokenizer) -> list[dict[str, Tensor]]:
    """Questions of different lengths, with different media."""
    texts = [
        "<video>\n<audio>\nWho barks loudly in the picture?",
        "<audio> <audio> What?",
        "Who barks?",
        "<video> What?",
    ]
    media = [clip(model, 0, 2.5), clip(model, 1, 0.5, sounds=2), {}, clip(model, 2)]
    del media[1]["video"]
    media[3] = {"video": media[3]["video"]}
    ids = [{"input_ids": encode_question(tokenizer, text, SHORT)} for text in texts]
    return [one | found for one, found in zip(ids, media, strict=True)]


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_batched_answer_is_the_one_given_alone(tokenizer, family, beams):
    model = stack(tokenizer, family)
    items = asked(model, tokenizer)
    together = model.generate(collate(items), max_new_tokens=6, num_beams=beams)
    alone = [model.generate(collate([item]), max_new_tokens=6, num_beams=beams)[0] for item in items]
    assert together == alone
    assert len({tuple(answer) for answer in alone}) > 1


def test_an_answer_is_what_the_next_token_is_said_to_be(model, tokenizer):
    item = asked(model, tokenizer)[0]
    with torch.no_grad():
        expected = model(collate([item])).logits[0, -1].argmax().item()
    assert model.generate(collate([item]), max_new_tokens=1) == [[expected]]


def test_what_a_models_own_settings_say_about_sampling_is_not_heard(tokenizer):
    model = stack(tokenizer)
    batch = collate(asked(model, tokenizer))
    greedy = model.generate(batch)
    model.language.generation_config.update(do_sample=True, temperature=9.0, repetition_penalty=5.0, num_beams=2)
    assert model.generate(batch) == greedy
    assert model.generate(batch, do_sample=True, temperature=9.0) != greedy


def test_an_answer_stops_at_its_end(tokenizer):
    model = stack(tokenizer)
    batch = collate(asked(model, tokenizer)[:1])
    answer = model.generate(batch, max_new_tokens=6)[0]
    third = answer[2]
    model.language.generation_config.eos_token_id = third
    assert model.generate(batch, max_new_tokens=6)[0] == answer[: answer.index(third)]


def test_a_batch_may_enter_at_any_stage(model, tokenizer):
    batch = collate(asked(model, tokenizer))
    prompt = {name: batch[name] for name in ("input_ids", "attention_mask")}
    sensed, perceived = model.sense(batch), model.perceive(batch)
    with torch.no_grad():
        logits = [model(prompt | media).logits for media in (batch, sensed, perceived)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    assert {name for name in perceived if name.endswith("feature")} == {"video feature", "audio feature"}
    assert not any(value.requires_grad for value in perceived.values())


def test_tokens_of_a_clip_do_not_depend_on_what_it_is_batched_with(model):
    clips = [clip(model, 0, 2.5), clip(model, 1)]
    together, alone = model.perceive(collate(clips)), [model.perceive(collate([one])) for one in clips]
    for row, one in enumerate(alone):
        length = one["audio tokens"].shape[1]
        torch.testing.assert_close(together["audio tokens"][row, :length], one["audio tokens"][0])
        torch.testing.assert_close(together["video tokens"][row], one["video tokens"][0])
        torch.testing.assert_close(together["audio feature"][row], one["audio feature"][0])


def test_padding_may_be_left_out_of_the_audio_feature(tokenizer):
    item = clip(stack(tokenizer), 0, 0.5)
    item["audio"] = torch.cat([item["audio"], torch.zeros_like(item["audio"])], 1)  # a chunk of two seconds, one heard
    hearing = open_audio_tower("small:none", chunk_seconds=2)
    features = {}
    for exclude in (False, True):
        language = tiny_language_model(tokenizer, width=24, layers=1)
        model = open_avlm(language, vision=None, audio=hearing, **ALIGNER, exclude_padding=exclude)
        sensed = model.sense(collate([{name: item[name] for name in item if name.startswith("audio")}]))
        features[exclude] = sensed["audio feature"]
    hidden = sensed["audio hidden"][0, 0]
    torch.testing.assert_close(features[False][0], hidden.mean(0))
    torch.testing.assert_close(features[True][0], hidden[:16].mean(0))


def test_images_take_the_way_of_one_frame(model, tokenizer):
    picture = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8)
    still, moving = model.prepare(image=picture), model.prepare(frames=picture[None])
    still, moving = model.perceive(collate([still])), model.perceive(collate([moving]))
    assert torch.equal(still["image tokens"], moving["video tokens"])
    assert torch.equal(still["image feature"], moving["video feature"])
    ids = encode_question(tokenizer, "<image> What?", SHORT)
    assert model.generate(collate([{"input_ids": ids}]) | still, max_new_tokens=1)


def test_sound_of_another_rate_is_resampled(model):
    wave = torch.sin(torch.arange(16000) / 16000 * 440 * 6.2832)
    assert model.prepare(waveforms=wave, sample_rate=16000)["audio lengths"].tolist() == [32000]
    assert model.prepare(waveforms=wave)["audio lengths"].tolist() == [16000]


def test_a_medium_needs_its_tower(tokenizer):
    deaf = open_avlm(tiny_language_model(tokenizer, width=24, layers=1), vision=None, audio=None)
    with pytest.raises(ValueError, match="video was given, but the model has no vision tower"):
        deaf.prepare(frames=torch.zeros(1, 4, 4, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match="audio was given, but the model has no audio tower"):
        deaf.sense({"audio": torch.zeros(1, 1, 4)})


def test_a_question_without_media_for_its_marker_is_refused(model, tokenizer):
    ids = encode_question(tokenizer, "<video> What?", SHORT)
    for run in (model, model.generate):
        with pytest.raises(ValueError, match="the prompt has 1 <video>, the media 0"):
            run(collate([{"input_ids": ids}]))


def conversation(tokenizer, model) -> dict[str, Tensor]:
    turns = [{"from": "human", "value": "<video>\n<audio>\nWhat?"}, {"from": "gpt", "value": "a dog on grass"}]
    ids, labels = encode_conversation(tokenizer, turns, SHORT)
    return collate([{"input_ids": ids, "labels": labels} | clip(model, 3)])


def test_projector_aligner_and_language_model_learn_and_towers_do_not(tokenizer):
    model = stack(tokenizer, aligner_dropout=0.0).train()
    model.language.generation_config.eos_token_id = tokenizer.eos_token_id
    batch = conversation(tokenizer, model)
    towers = {name: value.clone() for name, value in model.state_dict().items() if name.startswith(("vision", "audio"))}
    given = {name: value for name, value in batch.items() if name not in ("video", "audio")} | model.sense(batch)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    losses = []
    for _ in range(12):
        loss = model(given).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4
    assert model.projector[0].weight.grad.abs().sum() > 0
    assert model.aligner.query_tokens.grad.abs().sum() > 0
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in towers.items())
    ids = encode_question(tokenizer, "<video>\n<audio>\nWhat?", SHORT)
    answer = model.eval().generate(collate([{"input_ids": ids}]) | model.perceive(batch))
    assert tokenizer.decode(answer[0]) == "a dog on grass"


def test_what_is_frozen_stays_in_eval_mode(model):
    model.aligner.requires_grad_(False)
    model.train()
    assert model.projector.training
    assert not any(module.training for part in (model.aligner, model.vision, model.audio) for module in part.modules())
    model.aligner.requires_grad_(True)
    assert model.train().aligner.training
    model.eval()


def test_each_part_keeps_its_dtype(tokenizer):
    model = stack(tokenizer)
    model.language.to(torch.bfloat16)
    batch = conversation(tokenizer, model)
    perceived = model.perceive(batch)
    assert perceived["video tokens"].dtype == perceived["audio feature"].dtype == torch.float32
    with torch.no_grad():
        assert model(batch | perceived).logits.dtype == torch.bfloat16


BASE = "multimodal_splice"


def with_experts(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The published base routes the tokens of its even layers to several experts."""
    found = dict(state)
    for layer in (0, 2):
        for part in ("gate_proj", "up_proj", "down_proj"):
            value = found.pop(f"model.layers.{layer}.mlp.{part}.weight")
            for expert in range(3):
                found[f"model.layers.{layer}.mlp.experts.{expert}.{part}.weight"] = value + expert
        found[f"model.layers.{layer}.mlp.gate.weight"] = torch.zeros(3, 32)
    return found


@pytest.mark.parametrize(("rule", "more"), [("expert:0", 0.0), ("expert:2", 2.0), ("mean", 1.0)])
def test_experts_of_the_published_base_become_one_mlp(rule, more):
    model, base = papers_stack(BASE), group(BASE, "base")
    loaded = convert_avlm(with_experts(base), model, moe_to_mlp=rule)
    name = "model.layers.2.mlp.up_proj.weight"
    torch.testing.assert_close(loaded[f"language.{name}"], base[name] + more)
    assert torch.equal(loaded["language.model.layers.1.mlp.up_proj.weight"], base["model.layers.1.mlp.up_proj.weight"])
    model.load_state_dict(loaded)


@pytest.mark.parametrize("rule", [None, "median", "expert:3", "expert:x"])
def test_experts_need_a_rule(rule):
    with pytest.raises(ValueError, match="moe_to_mlp"):
        convert_avlm(with_experts(group(BASE, "base")), moe_to_mlp=rule)


def test_keys_that_do_not_fit_are_named():
    model, base = papers_stack(BASE), group(BASE, "base")
    base["model.mm_other.weight"] = torch.zeros(1)
    base["lm_head.weight"] = torch.zeros(2, 2)
    del base["model.norm.weight"]
    with pytest.raises(ValueError, match="not the base checkpoint") as caught:
        convert_avlm(base, model)
    said = str(caught.value)
    assert "unknown: model.mm_other.weight" in said
    assert "missing: language.model.norm.weight" in said
    assert "misshapen: language.lm_head.weight (2, 2) instead of (60, 32)" in said


def test_older_names_of_clip_and_of_buffers_are_read():
    base = group(BASE, "base")
    older = {key.replace("vision_model.", ""): value for key, value in base.items()}
    older["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    assert convert_avlm(older, papers_stack(BASE)).keys() == convert_avlm(base).keys()
    twice = base | {key.replace("vision_model.", ""): value for key, value in base.items()}
    with pytest.raises(ValueError, match="two keys of the base checkpoint would become vision"):
        convert_avlm(twice)
