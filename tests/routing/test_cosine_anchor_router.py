"""Routing by cosine to anchors: the papers' vectors, small cases by hand, missing modalities, shares."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from _close import assert_close
from _figures import record
from safetensors import safe_open
from torch import Tensor

from avexperts.routing import AnchorBank, AnchorRouting, CosineAnchorRouter

GOLDEN = Path(__file__).parents[1] / "golden" / "avqacl" / "router_cosine.safetensors"
DIMS = {"video": 8, "audio": 6, "text": 12}


def bank_of(anchors: list[dict[str, Tensor]], dims: dict[str, int]) -> AnchorBank:
    bank = AnchorBank(dims)
    for position, anchor in enumerate(anchors):
        bank.begin(f"task_{position}")
        bank.update({name: value[None] for name, value in anchor.items()})
        bank.end()
    return bank


def small_bank(*anchors: dict[str, list[float]]) -> AnchorBank:
    tensors = [{name: torch.tensor(value) for name, value in anchor.items()} for anchor in anchors]
    return bank_of(tensors, {"text": 2, "audio": 2})


def route(bank: AnchorBank, features: dict[str, list[float]], limit: int | None = None, **options) -> AnchorRouting:
    router = CosineAnchorRouter(**options)
    return router({name: torch.tensor([value]) for name, value in features.items()}, bank, limit=limit)


def test_every_combination_is_the_papers() -> None:
    with safe_open(GOLDEN, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        combinations = json.loads(file.metadata()["combinations"])
    bank = bank_of([{name: found[f"anchor.{task}.{name}"] for name in DIMS} for task in range(3)], DIMS)
    features = {name: torch.stack([found[f"in.{row}.{name}"] for row in range(10)]) for name in DIMS}
    worst = 0.0
    for combination in combinations:
        names = None if combination == "all" else combination.split("_")
        routing = CosineAnchorRouter(names)(features, bank)
        for row in range(10):
            start = f"out.{row}.{combination}"
            assert routing.index[row] == found[f"{start}.selected"]
            assert_close(routing.similarity[row], found[f"{start}.similarity"], what=start)
            worst = max(worst, (routing.similarity[row] - found[f"{start}.similarity"]).abs().max().item())
            for name in (*DIMS, "image"):
                expected = found[f"{start}.per_modality.{name}"]
                if name in routing.modalities:
                    own = routing.per_modality[row, :, routing.modalities.index(name)]
                    assert_close(own, expected, what=f"{start} {name}")
                else:
                    assert not expected.any()
    record("routing against the papers' vectors, largest deviation of a similarity", worst)


def test_small_cases() -> None:
    bank = small_bank({"text": [1.0, 1.0], "audio": [1.0, 0.0]}, {"text": [0.0, 1.0], "audio": [0.0, 2.0]})
    alone = route(bank, {"text": [1.0, 0.0]})
    assert alone.similarity[0].tolist() == pytest.approx([0.5**0.5, 0])
    assert alone.names == ["task_0"]
    both = route(bank, {"text": [1.0, 0.0], "audio": [0.0, 1.0]})
    assert both.similarity[0].tolist() == pytest.approx([0.5**0.5 / 2, 0.5])
    assert both.names == ["task_1"]
    scaled = route(bank, {"text": [1e-3, 0.0], "audio": [0.0, 1e4]})
    torch.testing.assert_close(scaled.similarity, both.similarity)
    nothing = route(bank, {"text": [0.0, 0.0]})
    assert nothing.similarity.tolist() == [[0, 0]]
    assert nothing.index.tolist() == [0]


def test_tokens_and_their_mean_route_alike() -> None:
    bank = small_bank({"text": [1.0, 1.0]}, {"text": [0.0, 1.0]})
    tokens = torch.randn(5, 7, 2)
    routings = [CosineAnchorRouter()({"text": value}, bank) for value in (tokens, tokens.mean(1))]
    torch.testing.assert_close(routings[0].similarity, routings[1].similarity, rtol=0, atol=1e-6)
    assert routings[0].index.tolist() == routings[1].index.tolist()


def test_what_a_missing_modality_does() -> None:
    bank = small_bank({"text": [-1.0, 0.3]}, {"audio": [1.0, 0.0]}, {"text": [1.0, 1.0], "audio": [0.0, 1.0]})
    features = {"text": [1.0, -0.9]}
    skipped = route(bank, features)
    assert skipped.similarity[0, 1] == 0
    assert skipped.names == ["task_2"]
    assert route(bank, {"text": [-1.0, -9.0]}).names == ["task_1"]  # 0 of nothing beats negative cosines, as published
    assert route(bank, {"text": [-1.0, -9.0]}, missing="exclude").names == ["task_0"]
    zero = route(bank, features, missing="zero")
    torch.testing.assert_close(zero.similarity, skipped.similarity / 2)
    with pytest.raises(ValueError, match="sample 0 or task 0 lacks 'audio'"):
        route(bank, features, missing="error")
    with pytest.raises(ValueError, match="sample 0 has nothing in common with any task"):
        route(small_bank({"audio": [1.0, 0.0]}), features, missing="exclude")


def test_samples_of_one_batch_may_lack_different_modalities() -> None:
    bank = small_bank({"text": [1.0, 0.2], "audio": [1.0, 0.0]}, {"text": [0.0, 1.0], "audio": [0.3, 2.0]})
    text, audio = torch.randn(3, 2), torch.randn(3, 4, 2)
    mask = {"text": torch.tensor([1, 0, 1]).bool(), "audio": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])}
    together = CosineAnchorRouter()({"text": text, "audio": audio}, bank, mask=mask)
    alone = [
        CosineAnchorRouter()({"text": text[:1], "audio": audio[:1, :2]}, bank),
        CosineAnchorRouter()({"audio": audio[1:2]}, bank),
        CosineAnchorRouter()({"text": text[2:]}, bank),
    ]
    torch.testing.assert_close(together.similarity, torch.cat([each.similarity for each in alone]))


def test_a_prefix_of_the_tasks_is_what_the_shorter_bank_gives() -> None:
    bank = small_bank({"text": [1.0, 0.0]}, {"text": [0.6, 0.8]}, {"text": [0.0, 1.0]})
    first = route(bank, {"text": [0.1, 1.0]}, limit=2)
    assert first.names == ["task_1"]
    assert first.tasks == ("task_0", "task_1")
    assert route(bank, {"text": [0.1, 1.0]}).names == ["task_2"]
    with pytest.raises(ValueError, match="4 of 3 tasks"):
        route(bank, {"text": [0.1, 1.0]}, limit=4)


def test_weights_of_modalities_and_shares_of_tasks() -> None:
    bank = small_bank({"text": [1.0, 0.0], "audio": [0.0, 1.0]}, {"text": [0.0, 1.0], "audio": [1.0, 0.0]})
    features = {"text": [1.0, 0.0], "audio": [1.0, 0.0]}
    assert route(bank, features).similarity.tolist() == [[0.5, 0.5]]
    weighed = route(bank, features, weights={"text": 3.0})
    assert weighed.similarity.tolist() == [[0.75, 0.25]]
    assert weighed.weights is None
    shared = route(bank, features, weights={"text": 3.0}, temperature=0.5, top_k=2)
    torch.testing.assert_close(shared.weights, torch.tensor([[0.75, 0.25]]).div(0.5).softmax(1))
    assert route(bank, features, weights={"text": 3.0}, temperature=0.5).weights.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda bank: route(bank, {"smell": [1.0]}), "unknown modality 'smell'; there are"),
        (lambda bank: route(bank, {"text": [1.0, 2.0, 3.0]}), r"text is \(B, 2\).*got \(1, 3\)"),
        (lambda bank: route(bank, {"text": [1.0, 2.0]}, modalities=["smell"]), "unknown modality 'smell'"),
        (lambda bank: route(bank, {"text": [1.0, 2.0]}, weights={"smell": 1.0}), "unknown modality 'smell'"),
        (lambda bank: route(bank, {}), "nothing to route by"),
        (lambda bank: route(AnchorBank({"text": 2}), {"text": [1.0, 2.0]}), "0 of 0 tasks"),
        (lambda bank: CosineAnchorRouter(top_k=2), "or more with a temperature"),
        (lambda bank: CosineAnchorRouter(temperature=0.0), "temperature must be above 0"),
        (lambda bank: CosineAnchorRouter(missing="guess"), "got 'guess'"),
        (lambda bank: CosineAnchorRouter(weights={"text": -1.0}), "must not be negative"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(small_bank({"text": [1.0, 0.0]}))
