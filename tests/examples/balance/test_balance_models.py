from __future__ import annotations

import math

import pytest
import torch
from _close import assert_close
from _golden import Golden
from avtasks.balance import (
    BranchClassifier,
    FiLMFusion,
    GatedFusion,
    LowRankFusion,
    ResidualEncoder,
    SeparateEncoders,
    build_head,
    fuse,
    linear_probe,
)
from torch import nn

from avexperts.modulation import unimodal_logits

DIMS = {"x": 6, "y": 6}
HEADS = {
    "fusion_concat": lambda: build_head("concat", DIMS, 5),
    "fusion_sum": lambda: build_head("sum", DIMS, 5),
    "fusion_film_x_conditions_y": lambda: FiLMFusion(DIMS, 5),
    "fusion_gated_x_gates_y": lambda: GatedFusion(DIMS, 5),
}
NAMES = {"fusion_concat": {"fc_out": ""}, "fusion_sum": {"fc_x": "x", "fc_y": "y"}}


def own_names(case: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    changed = NAMES.get(case, {})
    parts = {key: key.rsplit(".", 1) for key in state}
    return {
        ".".join(filter(None, (changed.get(layer, layer), kind))): state[key] for key, (layer, kind) in parts.items()
    }


@pytest.mark.parametrize("case", HEADS)
def test_fusion_heads_compute_what_the_published_ones_do(case):
    golden, head = Golden("modulation", case), HEADS[case]()
    head.load_state_dict(own_names(case, golden.state))
    features = {name: golden.tensors[f"in.{name}"].clone().requires_grad_() for name in "xy"}
    logits = fuse(head, features)
    assert_close(logits, golden.out["logits"], what=case)
    (logits * torch.linspace(-1, 1, 5)).square().sum().backward()
    found = {name: parameter.grad for name, parameter in head.named_parameters()}
    expected = own_names(case, {name: value for name, value in golden.grad.items() if "." in name})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, gradient=True, what=f"{case}, {name}")
    for name in "xy":
        assert_close(features[name].grad, golden.grad[name], gradient=True, what=f"{case}, {name}")
        without = features | {name: torch.zeros_like(features[name])}
        assert_close(fuse(head, without), golden.out[f"logits_{name}_zeroed"], what=f"{case} without {name}")


@pytest.mark.parametrize("case", ["fusion_film_x_conditions_y", "fusion_gated_x_gates_y"])
def test_what_heads_that_cannot_be_split_say_of_each_branch_alone(case):
    golden, head = Golden("modulation", case), HEADS[case]()
    head.load_state_dict(golden.state)
    found = unimodal_logits(head, {name: golden.tensors[f"in.{name}"] for name in "xy"})
    assert_close(found["x"], golden.out["logits_y_zeroed"])
    assert_close(found["y"], golden.out["logits_x_zeroed"])


def test_low_rank_fusion_multiplies_with_a_one_beside_each_feature():
    head = LowRankFusion({"x": 2, "y": 3}, 4, rank=3).double()
    nn.init.normal_(head.bias)
    x, y = torch.randn(5, 2).double(), torch.randn(5, 3).double()
    one = torch.ones(5, 1).double()
    expected = head.bias + sum(
        w * (torch.cat([one, x], 1) @ p) * (torch.cat([one, y], 1) @ q)
        for w, p, q in zip(head.weights, *head.factors.values(), strict=True)
    )
    assert_close(head({"x": x, "y": y}), expected)


def test_heads_that_do_not_exist_or_need_two_features():
    with pytest.raises(ValueError, match=r"the fusions are concat, sum, .*, got 'bilinear'"):
        build_head("bilinear", DIMS, 5)
    for kind in ("film", "gated"):
        with pytest.raises(ValueError, match="fusion joins two features, got x, y, z"):
            build_head(kind, DIMS | {"z": 3}, 5)


def test_the_published_encoder():
    encoder = ResidualEncoder(3)
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512
    keys = set(encoder.state_dict())
    for key in ("conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer4.1.bn2.bias"):
        assert key in keys
    assert {key for key in keys if ".downsample.0." in key} == {f"layer{n}.0.downsample.0.weight" for n in (2, 3, 4)}
    weight = encoder.layer3[1].conv1.weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)
    assert [ResidualEncoder(count).conv1.weight.shape[1] for count in (1, 2)] == [1, 2]


def test_an_encoder_means_over_frames():
    encoder = ResidualEncoder(2, (4, 8), depth=1, stem=7).eval()
    clip = torch.randn(3, 2, 4, 33, 40)
    frames = torch.stack([encoder(clip[:, :, time]) for time in range(4)])
    torch.testing.assert_close(encoder(clip), frames.mean(0))


def test_a_classifier_in_evaluation_drops_nothing_and_needs_no_label():
    from avexperts.modulation import ModalityDropout

    encoders = SeparateEncoders({"audio": 1, "image": 1}, small=True)
    drop = ModalityDropout(encoders.dims, probability=0.9)
    model = BranchClassifier(encoders, 10, drop=drop, own_heads=True)
    batch = {"audio": torch.randn(32, 1, 24, 31), "image": torch.randn(32, 1, 16, 16)}
    assert (model(batch).keep == 0).any()
    answer = model.eval()(batch)
    assert answer.keep.eq(1).all()
    assert answer.ratio is None
    torch.testing.assert_close(answer.logits, answer.unimodal["audio"] + answer.unimodal["image"])
    assert answer.own["audio"].requires_grad
    assert not answer.unimodal["audio"].requires_grad


def test_the_probe_finds_what_is_there_whatever_its_scale():
    labels = {split: torch.arange(3).repeat(40) for split in ("train", "val", "test")}
    informed = {split: torch.eye(3)[label] * 1e-3 + 7 + 1e-4 * torch.randn(120, 3) for split, label in labels.items()}
    assert linear_probe(informed, labels) == {"val": 100.0, "test": 100.0}
    blind = {split: torch.randn(120, 3) for split in labels}
    assert linear_probe(blind, labels)["test"] < 60
