from __future__ import annotations

import re

import pytest
import torch
from _close import assert_close
from _golden import Golden
from avtasks.avvp import AVVPOutput, Grouping, MGNHead, convert_head, mix_seconds

SMALL = {"dim": 16, "depths": (1, 1, 2), "motion_dim": 10}
LOSSES = {
    "clip": "loss_av",
    "audio": "loss_a",
    "visual": "loss_v",
    "audio_classes": "loss_cls_aud",
    "visual_classes": "loss_cls_vis",
}


def small_head(**options) -> MGNHead:
    torch.manual_seed(0)
    return MGNHead(20, 12, **SMALL | options).double().eval()


def clips(batch: int = 3) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    widths = {"vision": 20, "audio": 12, "motion": 10}
    drawn = {
        name: torch.randn(batch, 10, width, generator=generator, dtype=torch.float64) for name, width in widths.items()
    }
    return drawn, {"motion": drawn.pop("motion")}


def trained_head(**options) -> MGNHead:
    """A head none of whose parameters is zero."""
    head = small_head(**options)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return head


def test_values_and_gradients_of_the_papers_head():
    golden, head = Golden("avmoe", "mgn_head_soft"), small_head()

    def run(inputs):
        features = {"vision": inputs["visual_feat"], "audio": inputs["audio_feat"]}
        output = head(features, {"motion": inputs["visual_st"]})
        clip, audio, visual = output.probabilities()
        found = {
            "aud_cls_logits": output.audio_classes,
            "vis_cls_logits": output.visual_classes,
            "global_prob": clip,
            "audio_prob": output.audio.sigmoid(),
            "visual_prob": output.visual.sigmoid(),
            "audio_frame_prob": audio,
            "visual_frame_prob": visual,
        }
        return found | {LOSSES[name]: loss for name, loss in output.losses(inputs["target"].detach()).items()}

    golden.check(head, run, lambda state: convert_head(state, head.state_dict()))


def test_converter_names_what_it_does_not_know_and_what_is_missing():
    upstream, expected = Golden("avmoe", "mgn_head_soft").w, small_head().state_dict()
    wrong = {key: key.replace("grouping.assign.q_proj.bias", "grouping.assign.q_pro.bias") for key in upstream}
    misspelt = {wrong[key]: value for key, value in upstream.items()}
    with pytest.raises(KeyError, match=r"audio_cug\.grouping\.assign\.q_pro\.bias.*audio_grouping\.query\.bias"):
        convert_head(misspelt, expected)
    third = "audio_cug.han_encoder.pre_assign_attn.attn.q_proj.bias"
    incomplete = {key: value for key, value in upstream.items() if key != third}
    with pytest.raises(KeyError, match=r"unknown: .*attn\.k_proj\.bias.*missing: .*alignment\.attention\.in_proj"):
        convert_head(incomplete, expected)
    in_parallel = {f"module.{key}": value for key, value in upstream.items()}
    in_parallel["swin.norm.weight"] = in_parallel["audio_adapter_blocks_p1.0.gate"] = torch.ones(2)
    assert convert_head(in_parallel, expected).keys() == expected.keys()


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_clips_of_a_batch_do_not_mix(assignment):
    head = trained_head(assignment=assignment)
    features, batch = clips()
    together = head(features, batch)
    for index in range(3):
        alone = head(*({name: x[index : index + 1] for name, x in part.items()} for part in (features, batch)))
        for all_clips, one_clip in zip(together[:5], alone[:5], strict=True):
            assert_close(all_clips[index : index + 1], one_clip)
        assert not torch.allclose(together.clip[index], together.clip[index - 1], atol=1e-6)


def test_soft_map_lies_between_one_and_two_and_adds_up():
    output = trained_head()(*clips())
    for part in (output.audio_map, output.visual_map):
        assert part.min() > 1
        assert part.max() < 2
        assert_close(part.sum(1), torch.full_like(part[:, 0], 11.0))
    clip, audio, visual = output.probabilities()
    heard = output.audio >= 0
    assert heard.any()
    assert (audio >= 0.5).all(1)[heard].all(), "where the clip's probability suffices, every segment's does"
    assert clip.shape == (3, 25)
    assert visual.shape == (3, 10, 25)


def test_hard_map_gives_every_segment_to_one_class_and_passes_the_soft_gradient():
    torch.manual_seed(0)
    layer = Grouping(16, 25, hard=True).double().eval()
    tokens = torch.randn(2, 10, 16, dtype=torch.float64)
    _, hard, _ = layer(tokens, torch.randn(2, 25, 16, dtype=torch.float64))
    assert_close(hard.sum(1), torch.ones(2, 10, dtype=torch.float64))
    assert ((hard.detach().round() - hard.detach()).abs() < 1e-12).all()
    assert torch.autograd.grad(hard[0, 3].sum(), layer.query.weight)[0].abs().max() > 0
    layer.train()
    drawn = [layer(tokens, torch.ones(2, 25, 16, dtype=torch.float64))[1].argmax(1) for _ in range(2)]
    assert not torch.equal(*drawn), "while training the assignment is noisy"


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_every_parameter_learns(assignment):
    head = trained_head(assignment=assignment, drop_path=0.0).train()
    sum(head(*clips()).losses(torch.eye(25, dtype=torch.float64)[:3]).values()).backward()
    assert [name for name, p in head.named_parameters() if p.grad is None or not p.grad.abs().max()] == []


def test_a_clip_skips_branches_only_while_training():
    head = trained_head(drop_path=0.5)
    features, batch = clips()
    assert torch.equal(head(features, batch).clip, head(features, batch).clip)
    head.train()
    assert not torch.equal(head(features, batch).clip, head(features, batch).clip)


def test_motion_features_are_asked_for_only_where_the_head_has_them():
    features, batch = clips()
    assert small_head(motion_dim=0)(features, {}).clip.shape == (3, 25)
    with pytest.raises(KeyError, match="no 'motion' features"):
        small_head()(features, {})
    head = trained_head()
    assert not torch.equal(head(features, batch).clip, head(features, {"motion": 1 + batch["motion"]}).clip)


def test_papers_size():
    with torch.device("meta"):
        head = MGNHead(motion_dim=512)
    assert sum(p.numel() for p in head.parameters()) == pytest.approx(4.4e6, abs=0.05e6)


def test_losses_follow_the_weak_labels():
    labels = torch.eye(25)[[3, 4]]
    right, maps = 6 * (2 * labels - 1), torch.ones(2, 10, 25)
    good = AVVPOutput(right, right, right, maps, maps, 9 * torch.eye(25), 9 * torch.eye(25)).losses(labels)
    bad = AVVPOutput(-right, -right, -right, maps, maps, torch.zeros(25, 25), torch.zeros(25, 25)).losses(labels)
    assert all(good[name] < bad[name] for name in good)
    targets = 0.9 * labels + 0.05
    probability = right.sigmoid()
    expected = -(targets * probability.log() + (1 - targets) * (1 - probability).log()).mean()
    assert good["visual"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_mixup_pairs_a_second_with_its_mirror_image():
    seconds = torch.arange(10.0).view(1, 10, 1).expand(4, 10, 5)
    mixed = mix_seconds(seconds)
    low, high = torch.minimum(seconds, seconds.flip(1)), torch.maximum(seconds, seconds.flip(1))
    assert ((mixed >= low - 1e-5) & (mixed <= high + 1e-5)).all()
    assert torch.equal(mixed[..., 0], mixed[..., 1]), "one share for a whole second"
    shares = (mixed[..., 0] - seconds.flip(1)[..., 0]) / (seconds - seconds.flip(1))[..., 0]
    assert shares.std() > 0.2, "every second of every clip draws its own share"


def test_an_unknown_assignment_is_named():
    with pytest.raises(ValueError, match=re.escape("assignment must be soft or hard, got 'firm'")):
        MGNHead(assignment="firm")
