from __future__ import annotations

import pytest
import torch
from _close import assert_close
from _golden import Golden
from avtasks.avs import f_curves, f_measure, frame_iou, score_histograms
from torch import Tensor

CASES = (
    "no_empty",
    "video5_two_empty",
    "all_empty",
    "batch10_one_empty",
    "full_gt_nothing_predicted",
    "perfect_saturated",
)


def slow_curves(logits: Tensor, masks: Tensor) -> Tensor:
    """One threshold after the other, as the papers write it."""
    curves = []
    for score, mask in zip(logits.sigmoid(), masks, strict=True):
        values = []
        for threshold in torch.linspace(0, 1 - 1e-10, 255):
            predicted = (score >= threshold).float()
            hits = (predicted * mask).sum()
            precision, recall = hits / (predicted.sum() + 1e-20), hits / (mask.sum() + 1e-20)
            value = 1.3 * precision * recall / (0.3 * precision + recall)
            values.append(value.nan_to_num(0.0))
        curves.append(torch.stack(values))
    return torch.stack(curves)


@pytest.mark.parametrize("tag", CASES)
def test_the_papers_values(tag):
    case = getattr(Golden("avmoe_avqa_avs", "metrics_iou_fmeasure"), tag)
    logits, masks = case["pred_logits"], case["gt"].float()
    iou, histograms = frame_iou(logits, masks), score_histograms(logits, masks)
    assert_close(iou, case["iou_per_frame"], what="iou_per_frame")
    assert_close(iou.mean(), case["miou"], what="miou")
    annotated = masks.flatten(1).any(1)
    assert_close(f_curves(histograms)[annotated], case["f_curve"][annotated], what="f_curve")
    assert f_measure(histograms[None]) == pytest.approx(case["fscore"].item(), abs=1e-6)
    alone = [f_measure(frame[None, None]) for frame in histograms]
    assert alone == pytest.approx(case["fscore_frame_alone"].tolist(), abs=1e-6)


def test_the_papers_data_set_averages():
    golden = Golden("avmoe_avqa_avs", "metrics_dataset_average")
    videos = [getattr(golden, f"video{index}") for index in range(4)]
    logits = torch.stack([video["pred_logits"] for video in videos])
    masks = torch.stack([video["gt"].float() for video in videos])
    histograms = score_histograms(logits, masks)
    assert frame_iou(logits, masks).mean().item() == pytest.approx(golden.dataset["miou"].item(), abs=1e-6)
    assert f_measure(histograms) == pytest.approx(golden.dataset["fscore"].item(), abs=1e-6)
    for reduce in (4, "dataset", 9):
        assert f_measure(histograms, reduce) == pytest.approx(golden.single_batch_of_4["fscore"].item(), abs=1e-6)


def test_counting_once_equals_counting_at_every_threshold():
    logits = 4 * torch.randn(7, 9, 11)
    logits[0] = 0
    logits[1] = (torch.arange(99).view(9, 11) / 254).logit()  # scores on the thresholds
    masks = (torch.rand(7, 9, 11) > 0.6).float()
    masks[2] = 1
    assert_close(f_curves(score_histograms(logits, masks)), slow_curves(logits, masks))


def test_the_mean_of_the_best_is_at_least_the_best_of_the_mean():
    masks = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).expand(2, 1, 1, 2)
    logits = torch.tensor([[0.9, 0.6], [0.5, 0.2]]).logit().view(2, 1, 1, 2)
    histograms = score_histograms(logits, masks)
    assert f_measure(histograms) == 1.0
    assert f_measure(histograms, "dataset") < 1.0


def test_empty_frames():
    logits = torch.tensor([[-9.0, -9.0], [-9.0, 9.0]])
    empty = torch.zeros(2, 2)
    assert frame_iou(logits, empty).item() == pytest.approx(0.75)
    assert frame_iou(torch.full((2, 2), -9.0), empty).item() == pytest.approx(1.0)
    assert frame_iou(torch.full((2, 2), 9.0), empty).item() == 0.0
    assert f_measure(score_histograms(logits, empty)[None, None]) == 0.0


def test_one_half_is_background_for_mj_and_positive_for_mf():
    assert frame_iou(torch.zeros(1, 1), torch.ones(1, 1)).item() == 0.0
    curve = f_curves(score_histograms(torch.zeros(1, 1), torch.ones(1, 1)))
    assert curve.nonzero().flatten().tolist() == list(range(128))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"one shape .* got \(2, 2\) and \(2, 3\)"):
        frame_iou(torch.zeros(2, 2), torch.zeros(2, 3))
    histograms = score_histograms(torch.zeros(1, 5, 2, 2), torch.zeros(1, 5, 2, 2))
    for reduce in ("clip", 0, True):
        with pytest.raises(ValueError, match="expected 'per_clip', 'dataset' or a number of clips"):
            f_measure(histograms, reduce)
    with pytest.raises(ValueError, match="some clips"):
        f_measure(histograms[:0], "dataset")
