"""Heads, losses, scores and compositions of the published program, against its stored vectors."""

from __future__ import annotations

import _figures
import pytest
import torch
import torch.nn.functional as F
from _golden import Golden
from avtasks.avmtil import overlaid
from avtasks.avmtil.paper import AnswerHead, ClassText, ClipContrast, EventHead, EventOutput, MaskHead, llp_top1
from avtasks.avs import cosine_alignment, frame_iou, mask_loss
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from avexperts.prompts import ContextPromptLearner, PrefixPromptPool


class Case(Golden):
    """A case of PHP: cotangents lie among the inputs, and results among ``grad`` by ``in`` and ``w``."""

    def __init__(self, name: str) -> None:
        super().__init__("php", name)
        self.name = name
        self.inputs = {
            key: value.double() if value.is_floating_point() else value for key, value in self.__getattr__("in").items()
        }

    def leaf(self, name: str) -> Tensor:
        value = self.inputs[name].clone().requires_grad_()
        self.inputs[name] = value
        return value

    def weights(self, names: dict[str, str]) -> dict[str, Tensor]:
        """Weights by our names; ``names`` maps starts of ours to starts of theirs."""
        found = {}
        for ours, theirs in names.items():
            found |= {ours + key.removeprefix(theirs): self.w[key] for key in self.w if key.startswith(theirs)}
        return {key: value.double() if value.is_floating_point() else value for key, value in found.items()}

    def close(self, what: str, actual: Tensor, expected: Tensor | None = None) -> None:
        expected = self.tensors[what] if expected is None else expected
        worst = ((actual - expected.double()).abs().max() / (1 + expected.double().abs().max())).item()
        _figures.record("papers' vectors of PHP's heads and losses, largest relative deviation", worst)
        assert worst < 2e-6, f"{self.name}: {what} is {worst:.1e} off"


def test_the_heads_of_the_question_answering_task_agree() -> None:
    case = Case("avqa_head")
    head = AnswerHead(20, 7, dim=16).double().eval()
    names = {
        "question.words.": "question_encoder.word2vec.",
        "question.lstm.": "question_encoder.lstm.",
        "question.project.": "question_encoder.fc.",
        "audio_in.0.": "fc_a1.",
        "audio_in.2.": "fc_a2.",
        "vision_in.0.": "fc_v1.",
        "vision_in.2.": "fc_v2.",
        "merge.": "fc_gl.",
        "audio_read.attention.": "attn_a.",
        "vision_read.attention.": "attn_v.",
        "audio_read.widen.": "linear21.",
        "audio_read.narrow.": "linear22.",
        "vision_read.widen.": "linear11.",
        "vision_read.narrow.": "linear12.",
        "vision_read.norm.": "norm1.",
        "audio_read.norm.": "norm2.",
        "fusion.": "fc_fusion.",
        "answer.": "fc_ans.",
    }
    head.load_state_dict(case.weights(names))
    seconds = {name: case.leaf(name).unflatten(0, (2, 3)) for name in ("audio", "visual")}
    question = case.inputs["question"].long()[:, None]
    out = head({"vision": seconds["visual"], "audio": seconds["audio"]}, {"question": question}).answer[:, 0]
    case.close("out.question_feature", head.question(question)[:, 0])
    case.close("out.logits", out)
    (out * case.inputs["cotangent"]).sum().backward()
    case.close("grad.in.audio", case.inputs["audio"].grad)
    case.close("grad.in.visual", case.inputs["visual"].grad)
    case.close("grad.w.fc_gl.weight", head.merge.weight.grad)
    case.close("grad.w.question_encoder.word2vec.weight", head.question.words.weight.grad)


def test_the_segmentation_head_agrees_and_its_two_products_are_the_published_filter() -> None:
    case = Case("avs_head_eval")
    head = MaskHead(16, 16, channels=16, least=4).double().eval()
    names = {
        "decoder.narrow.": "visual_decoder.spatial_projection.",
        "decoder.widen.": "visual_decoder.feat_adapter.",
        "audio_in.": "audio_proj.",
        "query.": "cross_attn.W_q.",
        "key_value.": "cross_attn.W_kv.",
        "out.": "cross_attn.proj.",
        "mask.": "fusion_conv.",
    }
    names |= {
        f"decoder.doublings.{n}.{k + 1}.": f"visual_decoder.up_blocks.{n}.conv.{k}." for n in range(5) for k in (0, 1)
    }
    head.load_state_dict(case.weights(names))
    visual, audio = case.leaf("visual_LND"), case.leaf("audio")
    out = head({"vision": visual.transpose(0, 1)[None], "audio": audio[None]}).logits[0]
    case.close("out.mask_logits", out)
    (out * case.inputs["cotangent"]).mean().backward()
    case.close("grad.in.visual", visual.grad)
    case.close("grad.in.audio", audio.grad)
    case.close("grad.w.fusion_conv.weight", head.mask.weight.grad)


def test_contrast_of_clips_agrees() -> None:
    case = Case("av_contrastive")
    contrast = ClipContrast(512, scale=case.inputs["logit_scale_exp"].item()).double()
    weight = case.inputs["fc_U"] @ case.inputs["fc_V"] / 40
    contrast.project.load_state_dict({"weight": weight, "bias": case.w["fc_a1.bias"].double()})
    video, audio = case.leaf("video"), case.leaf("audio")
    logits = contrast(video.unflatten(0, (3, 10)), audio.unflatten(0, (3, 10)))
    case.close("out.logits_audio_image", logits)
    case.close("out.logits_image_audio", logits.T)
    own = torch.arange(3)
    sound, picture = F.cross_entropy(logits, own), F.cross_entropy(logits.T, own)
    case.close("out.loss_audio_image", sound)
    case.close("out.loss_image_audio", picture)
    (2 * sound + 1.5 * picture).backward()
    case.close("grad.w.fc_a1.bias", contrast.project.bias.grad)
    case.close("grad.in.video_mean_abs", video.grad.abs().mean())


@pytest.mark.parametrize("name", ["loss_ave", "loss_llp_multihot"])
def test_losses_of_the_event_tasks_agree(name: str) -> None:
    case = Case(name)
    scores, sound, picture = (case.leaf(key) for key in ("event_scores", "logits_audio_image", "logits_image_audio"))
    clips = len(sound)
    half = scores.unflatten(0, (clips, 10)) / 4
    terms = EventOutput(half, half, sound).losses(case.inputs["labels"])
    turned = EventOutput(half, half, picture.T).losses(case.inputs["labels"])
    case.close("out.ce", terms["events"] / 5)
    total = terms["events"] + terms["sound_to_picture"] + turned["picture_to_sound"]
    case.close("out.total", total)
    total.backward()
    for key in [key for key in case.tensors if key.startswith("grad.in.")]:
        case.close(key, case.inputs[key.removeprefix("grad.in.")].grad)


def test_losses_and_scores_of_segmentation_are_those_the_library_of_tasks_has() -> None:
    case = Case("loss_avs")
    prediction = case.leaf("pred")
    masks = case.inputs["gt"]
    logits = prediction.unflatten(0, (2, 5))
    loss = mask_loss(logits, masks, capped=True)
    case.close("out.f1_bce", loss)
    loss.backward()
    case.close("grad.in.pred", prediction.grad)
    maps = [case.leaf(f"v{stage}") for stage in (0, 1)]
    sounds = [case.leaf(f"a{stage}") for stage in (0, 1)]
    similarity = cosine_alignment(logits.detach(), [m.unflatten(0, (2, 5)) for m in maps], sounds)
    torch.testing.assert_close(similarity.float(), case.out["sa"], rtol=4.5e-5, atol=0)
    torch.testing.assert_close((loss + 0.7 * similarity).float(), case.out["total_lambda0.7"], rtol=4.5e-5, atol=0)
    case = Case("mask_iou")
    scores = frame_iou(case.inputs["pred_logits"], case.inputs["target"])
    case.close("out.per_image", scores.double())
    case.close("out.miou", scores.double().mean())


def test_an_old_task_is_evaluated_with_what_the_published_program_would_compose() -> None:
    tensors = Case("checkpoint_composition").tensors

    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}

    def same(made: dict[str, Tensor], name: str) -> None:
        assert made.keys() == part(name).keys()
        assert all(torch.equal(made[key], value) for key, value in part(name).items())

    for old, new in ((0, 1), (0, 2), (1, 2)):
        same(overlaid(part(f"task{old}"), part(f"task{new}")), f"eval_task{old}_after_task{new}")
    blank = {key: torch.full_like(value, 9) for key, value in part("warmstart_task1_from_task0").items()}
    same(overlaid(blank, part("task0")), "warmstart_task1_from_task0")


def test_video_parsing_is_scored_as_published_by_the_first_label() -> None:
    labels = torch.zeros(2, 9)
    labels[:, [3, 7]] = 1
    assert llp_top1(torch.tensor([3, 7]), labels) == 50.0


def test_scores_of_seconds_add_both_streams_twice() -> None:
    ones = torch.ones(1, 10, 3)
    assert (EventOutput(ones, ones, torch.zeros(1, 1)).scores() == 4).all()


def text_tower(case: Case) -> nn.Module:
    """A text tower of transformers with the weights of CLIP's own code."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = CLIPTextConfig(
        vocab_size=8, projection_dim=16, max_position_embeddings=14, bos_token_id=1, eos_token_id=2, **sizes
    )
    tower = CLIPTextModelWithProjection(config).double()
    names = {"final_layer_norm.": "text_encoder.ln_final."}
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    parts |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for layer in range(2):
        theirs = f"text_encoder.transformer.resblocks.{layer}."
        names |= {f"encoder.layers.{layer}.{own}.": f"{theirs}{other}." for own, other in parts.items()}
    state = case.weights(names) | {"embeddings.position_embedding.weight": case.w["text_encoder.positional_embedding"]}
    for layer in range(2):
        start = f"text_encoder.transformer.resblocks.{layer}.attn.in_proj_"
        for kind in ("weight", "bias"):
            for name, rows in zip("qkv", case.w[start + kind].double().chunk(3), strict=True):
                state[f"encoder.layers.{layer}.self_attn.{name}_proj.{kind}"] = rows
    state["embeddings.token_embedding.weight"] = tower.text_model.embeddings.token_embedding.weight.detach()
    missing, unknown = tower.text_model.load_state_dict(state, strict=False)
    assert not unknown
    assert all("position_ids" in name for name in missing)
    tower.text_projection.weight.data = case.w["text_encoder.text_projection"].double().T.contiguous()
    return tower


def test_matching_with_names_agrees_and_leaves_out_what_follows_the_last_name() -> None:
    case = Case("text_matching_end")
    blank = torch.zeros(4, 4, 16, dtype=torch.float64)
    prefix, suffix = (case.w[f"prompt_learner.token_{part}"].double() for part in ("prefix", "suffix"))
    learned = ContextPromptLearner(4, torch.cat([prefix, blank, suffix], 1)).double()
    learned.context.data = case.w["prompt_learner.ctx"].double()
    case.close("out.prompts", learned())
    tower = text_tower(case)
    text = ClassText(learned, tower.text_model, tower.text_projection, case.inputs["tokenized_prompts"].argmax(-1))
    assert text.length < learned().shape[1]
    case.close("out.text_features", text())
    head = EventHead(
        text,
        case.inputs["clap_text_features"],
        vision_scale=case.inputs["logit_scale"].exp().item(),
        audio_scale=case.inputs["logit_scale_a"].item(),
    ).double()
    adapters = {"vision_adapter": "clip_adapter", "text_adapter": "clip_adapter_text"}
    layers = {"down": 0, "up": 2}
    names = {f"{own}.{layer}.": f"{other}.fc.{n}." for own, other in adapters.items() for layer, n in layers.items()}
    head.load_state_dict(case.weights(names), strict=False)
    out = head({"vision": case.leaf("v")[None], "audio": case.leaf("a")[None]})
    case.close("out.logits_v", out.vision[0])
    case.close("out.logits_a", out.audio[0])
    case.close("out.event_scores", out.scores()[0])
    (out.scores()[0] * case.inputs["cotangent"]).sum().backward()
    case.close("grad.in.v", case.inputs["v"].grad)
    case.close("grad.in.a", case.inputs["a"].grad)
    case.close("grad.w.clip_adapter_text.fc.0.weight", head.text_adapter.down.weight.grad)
    case.close("grad.w.prompt_learner.ctx", learned.context.grad)


def test_coupled_decay_shrinks_the_prompts_that_nobody_chooses() -> None:
    case = Case("deep_prompt_adam_steps")
    pool = PrefixPromptPool(2, 3, 2, 8, batchwise=True, legacy_layout=True)
    pool.load_state_dict({"prompts": case.w["prompt"], "keys": case.w["prompt_key"]})
    optimizer = torch.optim.Adam(pool.parameters(), lr=3e-4, weight_decay=1e-5)
    tokens, cotangent = case.inputs["x"].float(), case.inputs["cotangent"].float()
    for _ in range(3):
        optimizer.zero_grad(set_to_none=False)
        found = pool(tokens)
        (found.prompts * cotangent).sum().backward()
        norm = nn.utils.clip_grad_norm_(pool.parameters(), 0.5)
        optimizer.step()
    case.close("out.prompt_idx", found.indices.double())
    case.close("out.grad_norm_last", norm.double())
    case.close("after.prompt", pool.prompts.double())
    case.close("after.prompt_key", pool.keys.double())
    rest = [entry for entry in range(3) if entry not in found.indices]
    before, after = case.w["prompt"][:, :, rest].abs(), pool.prompts[:, :, rest].abs()
    large = before > 0.1  # of smaller ones the gradient, which is the decay alone, is not far above Adam's epsilon
    torch.testing.assert_close((before - after)[large], torch.full((int(large.sum()),), 9e-4), rtol=2e-2, atol=0)
