from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avtasks.ave import ave_accuracy, ave_predictions, majority_accuracy
from safetensors.torch import load_file

GOLDEN = Path(__file__).parents[2] / "golden" / "avmoe" / "ave_metric.safetensors"


def test_papers_accuracy_exactly():
    golden = load_file(GOLDEN)
    predictions = ave_predictions(golden["in.is_event_scores"], golden["in.event_scores"])
    labels = golden["in.labels"]
    one_rounding = {"rel": 3e-16, "abs": 0}
    pooled = golden["out.pooled_accuracy"].item()
    assert ave_accuracy(predictions, labels) == pytest.approx(pooled, **one_rounding)
    batches = zip(predictions.split(8), labels.split(8), strict=True)
    per_batch = golden["out.per_batch_accuracy"].tolist()
    assert [ave_accuracy(*batch) for batch in batches] == pytest.approx(per_batch, **one_rounding)
    mean = ave_accuracy(predictions, labels, batch_size=8)
    assert mean == pytest.approx(golden["out.mean_of_batches"].item(), abs=1e-5)  # upstream adds in float32


def test_gate_at_one_half_is_closed_and_silence_can_be_perfect():
    background = torch.eye(29)[torch.full((2, 10), 28)]
    event = torch.randn(2, 28)
    assert ave_accuracy(ave_predictions(torch.zeros(2, 10), event), background) == 100
    assert ave_accuracy(ave_predictions(torch.full((2, 10), -3.0), event), background) == 100
    assert ave_accuracy(ave_predictions(torch.ones(2, 10), event), background) == 0


def test_ties_take_the_lowest_class():
    assert ave_predictions(torch.ones(1, 2), torch.zeros(1, 28)).tolist() == [[0, 0]]


def test_short_last_batch_weighs_as_much():
    labels = torch.eye(3)[torch.zeros(3, 2, dtype=torch.long)]
    predictions = torch.tensor([[0, 0], [0, 0], [1, 1]])
    assert ave_accuracy(predictions, labels) == pytest.approx(200 / 3)
    assert ave_accuracy(predictions, labels, batch_size=2) == 50


def test_majority_class_comes_from_training():
    train = torch.eye(3)[torch.tensor([[2, 2, 1]])]
    assert majority_accuracy(train, torch.eye(3)[torch.tensor([[1, 1, 1, 2]])]) == 25


@pytest.mark.parametrize(("clips", "seconds"), [(0, 10), (2, 9)])
def test_shapes_that_do_not_belong_together(clips, seconds):
    with pytest.raises(ValueError, match="expected predictions"):
        ave_accuracy(torch.zeros(clips, 10, dtype=torch.long), torch.zeros(clips, seconds, 29))
