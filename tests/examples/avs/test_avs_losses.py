from __future__ import annotations

import pytest
import torch
from _close import assert_close
from _golden import Golden
from avtasks.avs import AVSOutput, cosine_alignment, distribution_alignment, mask_loss

S4 = {"bce_only": "none", "bce_huge_logits": "none", "sa_avg": "cosine"}
MS3 = {
    "kl_published": {},
    "kl_norm": {"normalize": True},
    "euclid_norm_threshold": {"kind": "l2", "normalize": True, "threshold": True},
}


def read(case: dict[str, torch.Tensor]):
    """Frames of the stored case unfolded: ``(B, 5, ...)``."""
    audio = [case[key] for key in sorted(case) if key.startswith("a_fea.")]
    maps = [case[key].unflatten(0, (-1, 5)) for key in sorted(case) if key.startswith("v_map.")]
    return case["pred"].unflatten(0, (-1, 5)), maps, audio


def check(case, loss, logits, maps, audio):
    assert_close(loss, case["loss"].float(), what="loss")
    loss.backward()
    leaves = {"pred": logits} | {f"v_map.{i}": x for i, x in enumerate(maps)}
    leaves |= {f"a_fea.{i}": x for i, x in enumerate(audio)}
    stored = [key for key in case if key.startswith("grad.")]
    assert stored
    for key in stored:
        grad = leaves[key.removeprefix("grad.")].grad
        assert_close(grad.reshape(case[key].shape), case[key], gradient=True, what=key)


@pytest.mark.parametrize("tag", S4)
def test_the_papers_objective_of_s4(tag):
    case = getattr(Golden("avmoe_avqa_avs", "loss_s4"), tag)
    logits, maps, audio = read(case)
    for leaf in (logits, *maps, *audio):
        leaf.requires_grad_()
    loss = mask_loss(logits, case["gt"], capped=True)
    assert_close(loss, case["iou_loss"].float(), what="iou_loss")
    if S4[tag] == "cosine":
        loss = loss + case["lambda_1"].float() * cosine_alignment(logits, maps, audio)
    check(case, loss, logits, maps, audio)


@pytest.mark.parametrize("tag", MS3)
def test_the_papers_objective_of_ms3(tag):
    case = getattr(Golden("avmoe_avqa_avs", "loss_ms3"), tag)
    logits, maps, audio = read(case)
    for leaf in (logits, *maps, *audio):
        leaf.requires_grad_()
    alignment = distribution_alignment(logits, maps, audio, **MS3[tag])
    assert_close(alignment, case["sa_loss"].float(), what="sa_loss")
    masks = case["gt"].unflatten(0, (-1, 5))
    check(case, mask_loss(logits, masks) + case["lambda_1"].float() * alignment, logits, maps, audio)


def test_only_annotated_frames_count():
    logits = torch.zeros(2, 5, 1, 4, 4, requires_grad=True)
    mask_loss(logits, torch.ones(2, 1, 1, 4, 4)).backward()
    assert logits.grad[:, 0].abs().min() > 0
    assert logits.grad[:, 1:].abs().max() == 0


def test_sure_and_wrong_pixels_are_capped_where_the_papers_cap_them():
    logits, masks = torch.full((1, 1, 1, 1, 1), 200.0), torch.zeros(1, 1, 1, 1, 1)
    assert mask_loss(logits, masks, capped=True).item() == pytest.approx(100.0)
    assert mask_loss(logits, masks).item() == pytest.approx(200.0)


def test_cosine_alignment_of_parallel_and_of_opposite_features():
    logits, sound = torch.full((1, 5, 1, 4, 4), 9.0), torch.ones(1, 5, 3)
    features = torch.ones(1, 5, 3, 2, 2, requires_grad=True)
    assert cosine_alignment(logits, [features], [sound]).item() == pytest.approx(0.0, abs=2e-6)
    opposite = cosine_alignment(logits, [-features], [sound])
    assert opposite.item() == pytest.approx(13.8155, abs=1e-4)
    opposite.backward()
    assert features.grad.abs().max() == 0


def test_the_output_names_its_terms():
    logits, maps, audio = torch.zeros(1, 5, 1, 8, 8), (torch.rand(1, 5, 3, 4, 4),), (torch.rand(1, 5, 3),)
    output, masks = AVSOutput(logits, maps, audio), torch.ones(1, 5, 1, 8, 8)
    assert list(output.losses(masks)) == ["masks"]
    for kind in ("cosine", "kl", "l2"):
        assert list(output.losses(masks, alignment=kind)) == ["masks", "alignment"]
    assert not output.predictions().any()


def test_masks_of_another_size_are_named():
    with pytest.raises(ValueError, match=r"logits \(1, 5, 1, 8, 8\) and masks \(1, 1, 1, 4, 4\)"):
        mask_loss(torch.zeros(1, 5, 1, 8, 8), torch.zeros(1, 1, 1, 4, 4))
