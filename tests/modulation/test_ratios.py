"""From logits to coefficients: confidence, ratio, factor, drop probability."""

from __future__ import annotations

import math

import pytest
import torch
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st

from avexperts.modulation import (
    discrepancy_ratio,
    drop_probabilities,
    gradient_coefficients,
    target_confidence,
)

SCORES = st.lists(st.floats(0.125, 64.0, width=32), min_size=2, max_size=4)


def test_hand_vectors() -> None:
    ratio = discrepancy_ratio(torch.tensor([2.0, 1.0]))
    assert_close(ratio, torch.tensor([2.0, 0.5]))
    assert_close(gradient_coefficients(ratio, alpha=0.5), torch.tensor([0.238406, 1.0]))
    assert_close(drop_probabilities(ratio), torch.tensor([0.690399, 0.0]))
    assert_close(discrepancy_ratio(torch.tensor([3.0, 2.0, 1.0])), torch.tensor([2.25, 1.3333333, 0.4166667]))
    assert_close(discrepancy_ratio(torch.tensor([3.0, 2.0, 1.0]), reduction="min"), torch.tensor([3.0, 2.0, 1.0]))
    assert_close(discrepancy_ratio(torch.tensor([2.0, 1.0]), eps=1.0), torch.tensor([1.0, 1 / 3]))


def test_the_coefficient_jumps_where_a_modality_begins_to_lead() -> None:
    just_above = torch.tensor([1.0 + 1e-6, 1.0])
    for alpha, expected in ((0.1, 0.900332), (0.3, 0.708687), (0.8, 0.335963), (2.6, 0.010973)):
        assert_close(gradient_coefficients(just_above, alpha=alpha), torch.tensor([expected, 1.0]))
    assert_close(gradient_coefficients(just_above, alpha=0.8, offset=1.0), torch.tensor([1.0, 1.0]))
    assert_close(drop_probabilities(just_above), torch.tensor([0.5, 0.0]))
    even = torch.ones(2)
    assert torch.equal(gradient_coefficients(even, alpha=0.8), even)
    assert not drop_probabilities(even).any()


def test_boost_speeds_up_all_that_do_not_lead() -> None:
    ratio = torch.tensor([2.25, 1.0, 0.42])
    assert gradient_coefficients(ratio, mode="boost").tolist() == [1.0, 1.0, 4.0]
    assert gradient_coefficients(ratio, mode="boost", boost=2.0).tolist() == [1.0, 1.0, 2.0]


@pytest.mark.parametrize("reduction", ["pairwise", "min"])
@pytest.mark.parametrize("scores", [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
def test_nothing_that_underflowed_makes_nan(scores: list[float], reduction: str) -> None:
    ratio = discrepancy_ratio(torch.tensor(scores), reduction=reduction)
    coefficients, drop = gradient_coefficients(ratio, alpha=0.8), drop_probabilities(ratio)
    leads = scores[0] > 0
    assert math.isinf(ratio[0]) == leads
    assert coefficients[0] == (0.0 if leads else 1.0)
    assert drop[0] == (0.75 if leads else 0.0)
    assert not torch.cat([coefficients, drop]).isnan().any()


def test_a_ratio_that_is_nan_changes_nothing() -> None:
    unknown = torch.tensor([float("nan"), 1.0])
    for mode in ("suppress", "boost"):
        assert gradient_coefficients(unknown, mode=mode).tolist() == [1.0, 1.0]
    assert drop_probabilities(unknown).tolist() == [0.0, 0.0]


@settings(max_examples=40, deadline=None)
@given(scores=SCORES, alpha=st.floats(0.0, 3.0), base=st.floats(0.0, 1.0), strength=st.floats(0.0, 2.0))
def test_for_any_number_of_modalities(scores: list[float], alpha: float, base: float, strength: float) -> None:
    values = torch.tensor(scores)
    ratio = discrepancy_ratio(values)
    by_hand = [sum(s / o for k, o in enumerate(scores) if k != m) / (len(scores) - 1) for m, s in enumerate(scores)]
    assert_close(ratio, torch.tensor(by_hand))
    order = torch.randperm(len(scores))
    assert_close(discrepancy_ratio(values[order]), ratio[order])
    assert_close(discrepancy_ratio(values * 2), ratio)
    coefficients, drop = (
        gradient_coefficients(ratio, alpha=alpha),
        drop_probabilities(ratio, base=base, strength=strength),
    )
    assert ((coefficients >= 0) & (coefficients <= 1)).all()
    assert ((drop >= 0) & (drop <= 1)).all()
    weakest = int(values.argmin())
    # its ratio is at most one, up to the rounding of the mean
    assert ratio[weakest] <= 1 + 1e-6
    assert (coefficients[ratio <= 1] == 1).all()
    assert (drop[ratio <= 1] == 0).all()


@settings(max_examples=25, deadline=None)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=3), classes=st.integers(1, 6), seed=st.integers(0, 99))
def test_confidence_of_any_shape(shape: list[int], classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, classes, generator=generator)
    target = torch.randint(classes, tuple(shape), generator=generator)
    mask = torch.rand(shape, generator=generator) < 0.5
    rows = zip(logits.reshape(-1, classes), target.flatten(), mask.flatten(), strict=True)
    each = [(float(row.double().softmax(0)[label]), bool(here)) for row, label, here in rows]
    assert_close(target_confidence(logits, target), torch.tensor(sum(p for p, _ in each)))
    ignored = target.where(mask, -100)
    assert_close(target_confidence(logits, ignored, mask=mask), torch.tensor(float(sum(p for p, here in each if here))))
    # a constant on all logits of a row is no information
    assert_close(
        target_confidence(logits + torch.randn(*shape, 1, generator=generator), target),
        target_confidence(logits, target),
    )


def test_confidence_of_several_labels() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0], [3.0, 0.0, 0.0]])
    target = torch.tensor([[1, 0, 1], [0, 1, 0]])
    p = logits.sigmoid()
    assert_close(target_confidence(logits, target, kind="sigmoid"), p[0, 0] + p[0, 2] + p[1, 1])
    assert_close(target_confidence(logits, target, kind="sigmoid", mask=torch.tensor([False, True])), p[1, 1])


def test_half_precision_is_summed_in_float32() -> None:
    logits, target = torch.randn(64, 31), torch.randint(31, (64,))
    with torch.autocast("cpu", torch.bfloat16):
        score = target_confidence(logits, target)
    assert score.dtype == torch.float32
    assert torch.equal(score, target_confidence(logits, target))
    assert target_confidence(logits.bfloat16(), target).dtype == torch.float32


@pytest.mark.parametrize(
    ("target", "mask", "message"),
    [
        (torch.tensor([0, 5, 1]), None, r"label 5 at \[1\] of the target is out of range.* 5 classes, 0 to 4"),
        (torch.tensor([0, -100, 1]), None, r"label -100 at \[1\].*mask="),
        (torch.tensor([0, 1]), None, r"\(3, 5\) need a target \(3,\): \(2,\)"),
        (torch.tensor([0, 1, 1]), torch.ones(2, dtype=torch.bool), r"need a mask \(3,\): \(2,\)"),
    ],
)
def test_wrong_targets(target: torch.Tensor, mask: torch.Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        target_confidence(torch.zeros(3, 5), target, mask=mask)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="kind is 'softmax' or 'sigmoid'"):
        target_confidence(torch.zeros(3, 5), torch.zeros(3, dtype=torch.long), kind="argmax")
    with pytest.raises(ValueError, match=r"M >= 2, got \(1,\)"):
        discrepancy_ratio(torch.ones(1))
    with pytest.raises(ValueError, match="reduction is"):
        discrepancy_ratio(torch.ones(2), reduction="mean")
    with pytest.raises(ValueError, match="are there NaN in the logits"):
        discrepancy_ratio(torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match="mode is"):
        gradient_coefficients(torch.ones(2), mode="slow")
