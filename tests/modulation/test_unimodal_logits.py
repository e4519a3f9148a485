"""What a fused head says of one modality alone."""

from __future__ import annotations

import pytest
import torch
from _close import assert_close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from avexperts.modulation import unimodal_logits


@settings(max_examples=25, deadline=None)
@given(widths=st.lists(st.integers(1, 5), min_size=2, max_size=4), bias=st.booleans(), seed=st.integers(0, 99))
def test_parts_of_a_joined_head_add_up(widths: list[int], bias: bool, seed: int) -> None:
    torch.manual_seed(seed)
    head = nn.Linear(sum(widths), 3, bias=bias)
    features = {str(index): torch.randn(4, width, requires_grad=True) for index, width in enumerate(widths)}
    found = unimodal_logits(head, features)
    assert list(found) == list(features)
    assert_close(sum(found.values()), head(torch.cat(list(features.values()), 1)).detach())
    assert not any(value.requires_grad for value in found.values())


def test_a_classifier_per_modality_keeps_its_bias() -> None:
    head = nn.ModuleDict({"audio": nn.Linear(2, 3), "vision": nn.Linear(4, 3)})
    features = {"audio": torch.randn(5, 2), "vision": torch.randn(5, 4)}
    expected = {name: head[name](value).detach() for name, value in features.items()}
    for given_head in (head, dict(head.items())):
        for name, value in unimodal_logits(given_head, features).items():
            assert torch.equal(value, expected[name])


class Product(nn.Module):
    """Not linear in both, with what must not be disturbed: dropout, statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.out = nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 2)

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        first, second = features.values()
        return self.out(self.drop(self.norm(first + 1) * (second + 1)))


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_any_head_by_ablation(baseline: str) -> None:
    head = Product()
    head.norm.eval()
    features = {"audio": torch.randn(6, 3), "vision": torch.randn(6, 3)}
    modes, state = [part.training for part in head.modules()], {k: v.clone() for k, v in head.state_dict().items()}
    before = torch.get_rng_state()
    found = unimodal_logits(head, features, baseline=baseline)
    assert torch.equal(torch.get_rng_state(), before)
    assert [part.training for part in head.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
    other = torch.zeros(6, 3) if baseline == "zero" else features["vision"].mean(0).expand(6, 3)
    head.eval()
    assert_close(found["audio"], head({"audio": features["audio"], "vision": other}).detach())


def test_a_head_that_fails_gets_its_mode_back() -> None:
    head = Product()
    with pytest.raises(RuntimeError):
        unimodal_logits(head, {"audio": torch.randn(6, 4), "vision": torch.randn(6, 3)})
    assert all(part.training for part in head.modules())


def test_a_function_is_a_head() -> None:
    features = {"audio": torch.randn(2, 3), "vision": torch.randn(2, 3), "text": torch.randn(2, 3)}
    found = unimodal_logits(lambda given: sum(given.values()), features)
    assert all(torch.equal(found[name], value) for name, value in features.items())


def test_wrappers_are_looked_through() -> None:
    head = nn.Linear(4, 3)
    features = {"audio": torch.randn(2, 1), "vision": torch.randn(2, 3)}
    expected = unimodal_logits(head, features)
    for wrapped in (nn.DataParallel(head), torch.compile(head, backend="eager")):
        found = unimodal_logits(wrapped, features)
        assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_autocast_does_not_round_them() -> None:
    head = nn.Linear(4, 3)
    features = {"audio": torch.randn(2, 1), "vision": torch.randn(2, 3)}
    expected = unimodal_logits(head, features)
    with torch.autocast("cpu", torch.bfloat16):
        found = unimodal_logits(head, features)
        halves = unimodal_logits(head, {name: value.bfloat16() for name, value in features.items()})
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert all(value.dtype == torch.float32 for value in halves.values())


def test_features_that_do_not_fit() -> None:
    features = {"audio": torch.randn(2, 1), "vision": torch.randn(2, 3)}
    with pytest.raises(ValueError, match="head takes 5 features, but audio 1, vision 3 make 4"):
        unimodal_logits(nn.Linear(5, 2), features)
    with pytest.raises(
        ValueError, match=r"classifiers for \['audio', 'image'\], the features are \['audio', 'vision'\]"
    ):
        unimodal_logits(nn.ModuleDict({"audio": nn.Linear(1, 2), "image": nn.Linear(3, 2)}), features)
    with pytest.raises(ValueError, match="baseline is"):
        unimodal_logits(nn.Linear(4, 2), features, baseline="noise")
