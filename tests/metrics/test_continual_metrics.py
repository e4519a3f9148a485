"""Continual metrics: the papers' vectors, small cases by hand, and what happens to gaps."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from avexperts.metrics import (
    average_forgetting,
    backward_transfer,
    final_accuracy,
    forward_transfer,
    incremental_accuracy,
    routing_confusion,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "avqacl"
NAN = math.nan
FIRST = [[0.9, NAN, NAN], [0.8, 0.7, NAN], [0.85, 0.6, 0.5]]
SECOND = [[0.5, NAN, NAN], [0.8, 0.7, NAN], [0.6, 0.75, 0.5]]


def stored(case: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safe_open(GOLDEN / f"{case}.safetensors", "numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize("case", range(4))
def test_accuracy_and_forgetting_are_the_papers(case: int) -> None:
    found, _ = stored("cl_metrics")
    matrix = found[f"in.{case}.matrix"]
    assert final_accuracy(matrix) == pytest.approx(float(found[f"out.{case}.mean_accuracy"]), abs=1e-12)
    assert average_forgetting(matrix) == pytest.approx(float(found[f"out.{case}.average_forgetting"]), abs=1e-12)


def test_routing_analysis_is_the_papers() -> None:
    found, metadata = stored("routing_analysis")
    rows = [(int(task), row) for task, rows in json.loads(metadata["selections"]).items() for row in rows]
    verdicts = [{"yes": 1.0, "no": 0.0}.get(row.get("prediction"), NAN) for _, row in rows]
    assert sum(map(math.isnan, verdicts)) == 1
    confusion = routing_confusion([row["selected_expert"] for _, row in rows], [task for task, _ in rows], verdicts)
    expected = {
        "task_expert_counts": confusion.counts,
        "task_expert_matrix": confusion.correct,
        "accuracy_matrix": confusion.accuracy,
        "proportion_matrix": confusion.proportions,
        "global_match_accuracy": confusion.matched,
        "global_mismatch_accuracy": confusion.mismatched,
        "accuracy_difference": confusion.difference,
        "match_total": confusion.matched_count,
        "mismatch_total": confusion.mismatched_count,
        "match_correct": np.trace(confusion.correct),
        "mismatch_correct": confusion.correct.sum() - np.trace(confusion.correct),
    }
    assert {f"out.{name}" for name in expected} == {name for name in found if name.startswith("out.")}
    for name, value in expected.items():
        np.testing.assert_allclose(value, found[f"out.{name}"], atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [(FIRST, (0.65, 0.0875, 0.075, 0.075)), (SECOND, (1.85 / 3, -0.1125, 0.075, -0.075))],
)
def test_small_cases(matrix: list, expected: tuple) -> None:
    found = [final_accuracy(matrix)] + [
        average_forgetting(matrix, mode) for mode in ("stage_max", "final_max", "first")
    ]
    assert found == pytest.approx(expected, abs=1e-12)
    assert backward_transfer(matrix) == pytest.approx(-found[3])


def test_incremental_accuracy_pools_tasks_by_their_samples() -> None:
    assert incremental_accuracy(FIRST) == pytest.approx(2.3 / 3)
    pooled = (0.9 + (0.8 * 3 + 0.7) / 4 + (0.85 * 3 + 0.6 + 0.5 * 4) / 8) / 3
    assert incremental_accuracy(FIRST, samples=[3, 1, 4]) == pytest.approx(pooled)
    assert incremental_accuracy(FIRST, samples=[0, 0, 4]) == pytest.approx(0.5)  # only the last stage has samples


def test_forward_transfer_reads_above_the_diagonal() -> None:
    matrix = [[0.9, 0.4, 0.0], [0.8, 0.7, 0.3], [0.85, 0.6, 0.5]]
    assert forward_transfer(matrix, [0.2, 0.1, 0.1]) == pytest.approx((0.3 + 0.2) / 2)
    assert forward_transfer(FIRST, [0.2, 0.1, 0.1]) == 0.0


def test_nothing_to_compare_gives_zero() -> None:
    for matrix in ([[0.4]], np.full((3, 3), NAN)):
        assert [average_forgetting(matrix, mode) for mode in ("stage_max", "final_max", "first")] == [0.0] * 3
        assert backward_transfer(matrix) == 0.0
    assert final_accuracy(np.full((2, 2), NAN)) == incremental_accuracy(np.full((2, 2), NAN)) == 0.0


def test_a_stage_that_was_not_evaluated_is_left_out() -> None:
    matrix = [[0.9, NAN, NAN], [NAN, NAN, NAN], [0.7, 0.6, 0.5]]
    assert average_forgetting(matrix) == pytest.approx(0.2)
    assert average_forgetting(matrix, "final_max") == pytest.approx(0.2)


def test_stages_before_a_task_count_towards_its_best() -> None:
    assert average_forgetting([[0.5, 0.9, 0.0], [0.5, 0.8, 0.0], [0.5, 0.6, 0.1]], "final_max") == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: final_accuracy([[0.1, 0.2]]), r"a stage matrix is \(T, T\).*\(1, 2\)"),
        (lambda: average_forgetting(FIRST, "last"), "'stage_max', 'final_max' or 'first', got 'last'"),
        (lambda: incremental_accuracy(FIRST, [1, 2]), r"a count per task, \(3,\)"),
        (lambda: forward_transfer(FIRST, [0.1]), r"a value per task, \(3,\), got \(1,\)"),
        (lambda: routing_confusion([0, 1], [0]), r"one expert, task and verdict per sample"),
        (lambda: routing_confusion([0.5], [0]), "whole numbers from 0"),
        (lambda: routing_confusion([-1], [0]), "whole numbers from 0"),
        (lambda: routing_confusion([], []), "per sample"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_confusion_without_verdicts_counts_routing_alone() -> None:
    found = routing_confusion([0, 0, 2], [0, 1, 1])
    assert found.counts.tolist() == [[1, 0, 0], [1, 0, 1]]
    assert found.routing_accuracy == pytest.approx(1 / 3)
    assert found.proportions.tolist() == [[1, 0, 0], [0.5, 0, 0.5]]
    assert found.correct.sum() == found.matched == 0
