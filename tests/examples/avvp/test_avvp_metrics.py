from __future__ import annotations

from pathlib import Path

import _figures
import pytest
import torch
from _golden import Golden
from avtasks.avvp import event_scores, parsing_predictions, parsing_scores, read_split, read_truth, segment_scores

LLP = Path(__file__).parents[3].parent / "shared" / "data" / "llp"
official = pytest.mark.skipif(not LLP.is_dir(), reason=f"the official annotation files are not in {LLP}")
TOTALS = [f"{level}_{name}" for level in ("segment", "event") for name in ("audio", "visual", "av", "type", "event")]


def span(start: int, end: int) -> torch.Tensor:
    seconds = torch.arange(10)
    return ((seconds >= start) & (seconds < end)).view(1, 10, 1)


NOTHING = span(0, 0)


def runs(row: list[int]) -> list[set[int]]:
    found: list[set[int]] = []
    for second, on in enumerate(row):
        if on and second and row[second - 1]:
            found[-1].add(second)
        elif on:
            found.append({second})
    return found


def slow_segment(predicted: list[int], true: list[int]) -> tuple[int, int, int]:
    pairs = list(zip(predicted, true, strict=True))
    return pairs.count((1, 1)), pairs.count((1, 0)), pairs.count((0, 1))


def slow_event(predicted: list[int], true: list[int]) -> tuple[int, int, int]:
    found, wanted = runs(predicted), runs(true)

    def meet(one: set[int], other: set[int]) -> bool:
        return len(one & other) / len(one | other) >= 0.5

    right = sum(any(meet(run, other) for other in wanted) for run in found)
    return right, len(found) - right, sum(not any(meet(run, other) for run in found) for other in wanted)


def slow_scores(count, audio, visual, true_audio, true_visual) -> list[float]:
    """Scores of one clip, written down as the text says them."""

    def counts(predicted, true):
        return [count(p, t) for p, t in zip(predicted.T.int().tolist(), true.T.int().tolist(), strict=True)]

    def mean_f(table):
        scores = [2 * tp / (2 * tp + fp + fn) for tp, fp, fn in table if tp + fp + fn]
        return sum(scores) / len(scores) if scores else 1.0

    a, v, av = counts(audio, true_audio), counts(visual, true_visual), counts(audio & visual, true_audio & true_visual)
    added = [tuple(map(sum, zip(one, other, strict=True))) for one, other in zip(a, v, strict=True)]
    return [mean_f(table) for table in (a, v, av, added)]


@pytest.mark.parametrize(("scores", "count"), [(segment_scores, slow_segment), (event_scores, slow_event)])
@pytest.mark.parametrize("density", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("segments", [1, 9, 10])
def test_against_a_slow_reference(scores, count, density, segments):
    generator = torch.Generator().manual_seed(segments)
    parts = [torch.rand(12, segments, 7, generator=generator) < density for _ in range(4)]
    expected = [slow_scores(count, *(part[clip] for part in parts)) for clip in range(12)]
    assert scores(*parts).tolist() == [pytest.approx(row, abs=1e-12) for row in expected]


def test_by_hand():
    assert segment_scores(NOTHING, NOTHING, NOTHING, NOTHING).tolist() == [[1, 1, 1, 1]]
    assert event_scores(NOTHING, NOTHING, NOTHING, NOTHING).tolist() == [[1, 1, 1, 1]]
    half, quarter, truth = span(0, 2), span(0, 1), span(0, 4)
    assert segment_scores(half, NOTHING, truth, NOTHING)[0].tolist() == pytest.approx([2 / 3, 1, 1, 2 / 3])
    assert event_scores(half, NOTHING, truth, NOTHING)[0].tolist() == [1, 1, 1, 1]
    assert segment_scores(quarter, NOTHING, truth, NOTHING)[0].tolist() == pytest.approx([0.4, 1, 1, 0.4])
    assert event_scores(quarter, NOTHING, truth, NOTHING)[0].tolist() == [0, 1, 1, 0]
    always = span(0, 10)
    assert segment_scores(always, NOTHING, always, always)[0].tolist() == pytest.approx([1, 0, 0, 2 / 3])


def test_a_threshold_is_reached_when_met_and_segments_need_the_clip():
    clip, segments = torch.tensor([[0.5, 0.49, 1.0]]), torch.tensor([[[0.5, 1.8, 0.49]]])
    audio, visual = parsing_predictions(clip, segments, segments)
    assert audio.tolist() == visual.tolist() == [[[True, False, False]]]


@pytest.mark.parametrize("shape", [(2, 10, 24), (10, 25), (2, 25, 10)])
def test_shapes_that_do_not_belong_together_are_named(shape):
    whole = torch.zeros(2, 10, 25)
    with pytest.raises(ValueError, match=r"one shape \(B, T, C\), got \(2, 10, 25\).*" + str(shape[-1])):
        parsing_scores(whole, torch.zeros(shape), whole, whole)
    with pytest.raises(ValueError, match="no clip to score"):
        parsing_scores(*[torch.zeros(0, 10, 25)] * 4)


@official
@pytest.mark.parametrize(("repair", "stored"), [(True, "fixed"), (False, "shipped")])
def test_scores_of_the_papers_code_on_the_validation_split(repair, stored):
    golden = Golden("avmoe", "avvp_metric_val")
    predicted = [getattr(golden, "in")[f"pred_{part}"].mT for part in ("audio", "visual")]
    truth = read_truth(LLP, read_split(LLP, "val"), repair=repair)
    scores = parsing_scores(*predicted, *truth)
    expected = dict(zip(TOTALS, golden.out[f"totals_{stored}_csv"].tolist(), strict=True))
    assert scores == pytest.approx(expected, abs=1e-9)
    empty = parsing_scores(*[torch.zeros_like(part) for part in predicted], *truth)
    expected = dict(zip(TOTALS, golden.out["totals_all_zero_prediction"].tolist(), strict=True))
    assert empty == pytest.approx(expected, abs=1e-9)
    per_clip = torch.cat([segment_scores(*predicted, *truth), event_scores(*predicted, *truth)], dim=1)
    stored_per_clip = golden.out["per_video"][:, [0, 1, 3, 2, 4, 5, 7, 6]]  # there "event" comes before "av"
    worst = (per_clip - stored_per_clip).abs().max().item()
    assert worst < 6e-8  # they are stored in single precision
    _figures.record("papers' vectors, AVVP scores per clip, largest deviation", worst)


@official
def test_predictions_of_the_papers_code_from_probabilities():
    golden = Golden("avmoe", "avvp_metric_from_probabilities")
    given = getattr(golden, "in")
    found = parsing_predictions(given["global_prob"], given["audio_frame_prob"], given["visual_frame_prob"])
    for part, stored in zip(found, ("pred_audio", "pred_visual"), strict=True):
        assert torch.equal(part.mT.long(), golden.out[stored].long())
    truth = read_truth(LLP, read_split(LLP, "val")[:40], repair=False)
    expected = dict(zip(TOTALS, golden.out["totals_shipped_csv"].tolist(), strict=True))
    assert parsing_scores(*found, *truth) == pytest.approx(expected, abs=1e-9)


@official
def test_an_empty_prediction_is_paid_for_empty_clips():
    truth = read_truth(LLP, read_split(LLP, "test"))
    scores = parsing_scores(*[torch.zeros(1200, 10, 25)] * 2, *truth)
    rounded = {name: round(scores[f"segment_{name}"], 1) for name in ("audio", "visual", "av", "type", "event")}
    assert rounded == {"audio": 0.5, "visual": 10.1, "av": 14.5, "type": 8.4, "event": 0.0}
