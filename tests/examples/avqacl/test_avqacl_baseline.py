"""The benchmark's own network, losses and scores against vectors of its code."""

from __future__ import annotations

import json
import math

import _figures
import numpy as np
import pytest
import torch
from _close import assert_close
from _golden import GOLDEN, Golden
from avtasks.avqacl.baseline import (
    BaselineNetwork,
    StepScores,
    difference_loss,
    exemplar_loss,
    question_consistency,
    step_distillation,
)
from safetensors import safe_open
from torch.nn import functional as F


def metadata(case: str) -> dict[str, str]:
    with safe_open(GOLDEN / "avqacl" / f"{case}.safetensors", "pt") as file:
        return file.metadata()


def filled(name: str, shape: list[int]) -> torch.Tensor:
    """The weights that the vectors were made with, by the formula stored beside them."""
    shift = sum((place + 1) * ord(letter) for place, letter in enumerate(name)) % 1000
    numbers = torch.arange(math.prod(shape), dtype=torch.float64)
    values = 0.05 * torch.sin(0.37 * numbers + 0.11 * shift) + ("norm" in name and name.endswith("weight"))
    return values.float().view(shape)


def test_the_network_is_the_papers():
    case, told = Golden("avqacl", "baseline_network"), metadata("baseline_network")
    network = BaselineNetwork(int(told["vocab"]), int(told["answers"])).eval()
    shapes = json.loads(told["parameter_shapes"])
    network.load_published({name: filled(name, shape) for name, shape in shapes.items()})
    inputs, worst = getattr(case, "in"), 0.0
    out = network(inputs["audio"], inputs["visual"], inputs["question"])
    names = {"logits": "logits", "audio_feature": "audio", "visual_feature": "visual"}
    names |= {"question_feature": "question", "fused_feature": "fused"}
    for key, name in names.items():
        assert_close(getattr(out, name), case.out[key], what=key)
        worst = max(worst, (getattr(out, name) - case.out[key]).abs().max().item())
    _figures.record("papers' vectors, float32 outputs, largest deviation", worst)


def test_a_grown_network_says_the_same_of_what_it_knew():
    network = BaselineNetwork(9, 5).eval()
    inputs = torch.randn(2, 10, 128), torch.randn(2, 10, 512), torch.randint(9, (2, 16))
    before = network(*inputs).logits
    network.grow(12, 8)
    assert_close(network(*inputs).logits[:, :5], before)
    assert network.fc_ans.bias[5:].eq(0).all()
    with pytest.raises(ValueError, match="12 words and 8 answers are known already"):
        network.grow(12, 7)


def test_a_grown_classifier_is_taken_from_its_own_name():
    state = BaselineNetwork(9, 5).state_dict()
    grown = {"classifier.weight": torch.ones(7, 512), "classifier.bias": torch.ones(7)}
    network = BaselineNetwork(9, 7)
    network.load_published(state | grown)
    assert network.fc_ans.weight.eq(1).all()


def test_the_losses_are_the_papers():
    case, told = Golden("avqacl", "baseline_losses"), metadata("baseline_losses")
    given = getattr(case, "in")
    logits = given["logits"].clone().requires_grad_()
    cross_entropy = F.cross_entropy(logits, given["labels"])
    assert_close(cross_entropy, case.out["cross_entropy"])
    parts = step_distillation(logits, given["old_logits"], json.loads(told["step_ends"]), float(told["temperature"]))
    assert_close(torch.stack(parts), case.out["kd_per_step"])
    (cross_entropy + sum(parts)).backward()
    assert_close(logits.grad, case.grad["logits"], gradient=True)
    consistency = question_consistency(given["question_new"], given["question_old"])
    assert_close(consistency, case.out["question_consistency"])
    pair = given["features_new"], given["features_old"]
    assert_close(difference_loss(*pair, dim=0), case.out["diff_loss_dim0"])
    assert_close(difference_loss(*pair, dim=-1), case.out["diff_loss_dim_last"])


def test_exemplars_are_classified_among_old_answers_only():
    logits = torch.randn(4, 6)
    loss = exemplar_loss(logits, torch.tensor([4, 5, 0, 1]), current=2, known=4)
    changed = logits.clone()
    changed[:2, :4] += 9.0
    changed[2:, 4:] -= 9.0
    assert_close(exemplar_loss(changed, torch.tensor([4, 5, 0, 1]), current=2, known=4), loss)
    changed[2, 1] += 9.0
    assert exemplar_loss(changed, torch.tensor([4, 5, 0, 1]), current=2, known=4) > loss


def test_accuracy_and_forgetting_are_the_papers():
    case, scores = Golden("avqacl", "baseline_forgetting"), StepScores(window="published")
    for step in range(3):
        given = {name: case.tensors[f"in.{step}.{name}"] for name in ("logits", "answers", "labels")}
        right = given["logits"].argmax(1) == given["answers"]
        scores.add(right.numpy(), given["labels"].numpy())
        assert scores.accuracies[step] == pytest.approx(case.out[f"{step}.accuracy"].item(), abs=1e-6)
        np.testing.assert_allclose(scores.best, case.out[f"{step}.best_list"].numpy(), atol=1e-6)
        if step:
            assert scores.forgetting[-1] == pytest.approx(case.out[f"{step}.forgetting"].item(), abs=1e-6)
    assert scores.mean_accuracy == pytest.approx(case.out["mean_accuracy"].item(), abs=1e-6)
    assert scores.mean_forgetting == pytest.approx(case.out["mean_forgetting"].item(), abs=1e-6)


def test_the_own_window_does_not_reach_into_later_steps():
    labels, found = np.arange(60), {}
    right = labels >= 40
    for window in ("own", "published"):
        scores = StepScores(window)
        for step in (20, 40, 60):
            scores.add(right[:step], labels[:step])
        found[window] = scores.best
    assert found == {"own": [0.0, 0.0, 1.0], "published": [0.0, 0.5, 1.0]}
    with pytest.raises(ValueError, match="after step 3 there is no question of the classes 60 to"):
        scores.add(right, labels)
