"""Dropping features: OPM, and dropout with a constant probability."""

from __future__ import annotations

import pytest
import torch
from _close import assert_close
from torch import Tensor, nn

from avexperts.modulation import (
    ModalityDropout,
    OnTheFlyPredictionModulation,
    discrepancy_ratio,
    target_confidence,
    unimodal_logits,
)

DIMS = {"audio": 4, "vision": 6}
LEADS = torch.tensor([2.0, 0.5])


def features_of(batch: int = 5) -> dict[str, Tensor]:
    return {name: torch.randn(batch, dim, requires_grad=True) for name, dim in DIMS.items()}


def exact(**options) -> OnTheFlyPredictionModulation:
    return OnTheFlyPredictionModulation(DIMS, **{"execute": 1.0} | options)


@pytest.mark.parametrize(("dims", "factor"), [((512, 512), 1.527183), ((512, 128), 2.233733)])
def test_the_rescaling_counts_widths(dims: tuple[int, int], factor: float) -> None:
    modulate = OnTheFlyPredictionModulation(dict(zip("ab", dims, strict=True)), execute=1.0)
    features = {name: torch.ones(3, dim) for name, dim in modulate.dims.items()}
    out, _ = modulate(features, LEADS)
    assert_close(out["b"], torch.full((3, dims[1]), factor))


def test_rows_are_kept_or_dropped_whole() -> None:
    features, draws = features_of(), torch.tensor([[0.9, 0.9], [0.0, 0.5], [0.31, 0.0], [0.30, 0.99], [0.5, 0.5]])
    out, keep = exact()(features, LEADS, draws=draws)
    theta = 4 * exact_q() / 10
    kept = torch.tensor([False, True, False, True, False])
    assert torch.equal(out["audio"][kept], features["audio"][kept] / (1 - theta))
    assert not out["audio"][~kept].any()
    assert torch.equal(out["vision"], features["vision"] / (1 - theta))
    assert torch.equal(keep, torch.ones(5))
    weights = torch.randn(5, 4)
    (out["audio"] * weights).sum().backward()
    assert not features["audio"].grad[~kept].any()
    assert_close(features["audio"].grad[kept], weights[kept] / (1 - theta), gradient=True)


def exact_q() -> Tensor:
    return 0.5 * (1 + 0.5 * torch.tanh(torch.tensor(1.0)))


def test_without_rescaling_what_is_kept_stays_as_it_is() -> None:
    features = features_of()
    out, _ = exact(rescale=False)(features, LEADS)
    assert torch.equal(out["vision"], features["vision"])


def test_a_dropped_feature_that_is_not_finite_does_no_harm() -> None:
    features = {"audio": torch.full((2, 4), float("inf")), "vision": torch.ones(2, 6)}
    out, _ = exact(base=1.0)(features, LEADS)
    assert not out["audio"].any()
    assert_close(out["vision"], torch.full((2, 6), 1 / 0.6))


def test_samples_of_which_nothing_is_left_weigh_nothing() -> None:
    features, head = features_of(), nn.Linear(10, 3)
    draws = torch.tensor([[0.9, 0.9], [0.9, 0.0], [0.0, 0.0], [0.9, 0.9], [0.0, 0.9]])
    out, keep = exact()(features, torch.tensor([2.0, 2.0]), draws=draws)
    assert keep.tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]
    target = torch.randint(3, (5,))
    logits = head(torch.cat(list(out.values()), 1))
    losses = nn.functional.cross_entropy(logits, target, reduction="none")
    weighted = (keep * losses).sum() / keep.sum().clamp_min(1)
    assert_close(weighted, nn.functional.cross_entropy(logits[keep.bool()], target[keep.bool()]))
    everything, nothing = exact(base=1.0)(features, torch.tensor([2.0, 2.0]))
    assert not nothing.any()
    assert not any(value.any() for value in everything.values())


def test_a_draw_below_the_threshold_changes_no_bit() -> None:
    features = features_of()
    modulate = exact(execute=0.7)
    out, keep = modulate(features, LEADS, execute_draw=torch.tensor(0.29))
    assert all(torch.equal(out[name], value) for name, value in features.items())
    assert keep.all()
    assert_close(modulate.drop_probabilities, torch.tensor([0.690399, 0.0]))
    out, _ = modulate(features, LEADS, execute_draw=torch.tensor(0.3001))
    assert not torch.equal(out["vision"], features["vision"])


def test_identity_where_it_does_not_act() -> None:
    features, modulate = features_of(), exact(start=1, end=2)
    assert modulate(features, LEADS)[0] is features  # epoch 0
    assert modulate.drop_probabilities.tolist() == [0.0, 0.0]
    acting = []
    for epoch in range(4):
        modulate.set_epoch(epoch)
        acting.append(modulate(features, LEADS)[0] is not features)
    assert acting == [False, True, True, False]
    modulate.set_epoch(1)
    assert modulate(features)[0] is features  # no ratio, as in a step without labels
    assert modulate.eval()(features, LEADS)[0] is features
    late = exact(warmup=6)
    late.set_epoch(5)
    assert late(features, LEADS)[0] is features
    late.set_epoch(6)
    assert late(features, LEADS)[0] is not features


def test_draws_are_those_of_the_random_state_and_have_their_probability() -> None:
    features, modulate = {name: torch.ones(4000, dim) for name, dim in DIMS.items()}, exact()
    torch.manual_seed(3)
    first, _ = modulate(features, LEADS)
    torch.manual_seed(3)
    again, _ = modulate(features, LEADS)
    assert torch.equal(first["audio"], again["audio"])
    share = (first["audio"][:, 0] == 0).float().mean().item()
    assert abs(share - float(exact_q())) < 4 * (0.25 / 4000) ** 0.5  # four standard errors, from a fixed seed
    own = [exact(generator=torch.Generator().manual_seed(5))(features, LEADS)[0]["audio"] for _ in range(2)]
    state = torch.get_rng_state()
    assert torch.equal(*own)
    assert torch.equal(torch.get_rng_state(), state)


def test_ratio_is_a_constant_unless_the_published_gradient_is_asked_for() -> None:
    found = []
    for published in (False, True):
        ratio = LEADS.clone().requires_grad_()
        out, _ = exact(published_gradient=published)(features_of(), ratio)
        out["vision"].square().sum().backward()
        found.append(ratio.grad)
    assert found[0] is None
    # theta itself is handed down as the gradient of theta, whatever the loss
    q, t = exact_q(), torch.tanh(torch.tensor(1.0))
    expected = (0.4 * q) * 0.4 * 0.5 * 0.5 * (1 - t**2)
    assert_close(found[1], torch.stack([expected, torch.tensor(0.0)]), gradient=True)


def test_one_graph_with_scores_and_head() -> None:
    modulate, head = exact(), nn.Linear(10, 3)

    def loss(features: dict[str, Tensor], target: Tensor, draws: Tensor) -> Tensor:
        scores = [target_confidence(each, target) for each in unimodal_logits(head, features).values()]
        out, keep = modulate(features, discrepancy_ratio(torch.stack(scores)), draws=draws)
        losses = nn.functional.cross_entropy(head(torch.cat(list(out.values()), 1)), target, reduction="none")
        return (keep * losses).sum() / keep.sum().clamp_min(1)

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    gradients = []
    for run in (loss, compiled):
        torch.manual_seed(1)
        features, target, draws = features_of(), torch.randint(3, (5,)), torch.rand(5, 2)
        for epoch in (0, 1, 2):  # no graph per epoch
            modulate.set_epoch(epoch)
            value = run(features, target, draws)
        value.backward()
        gradients.append([features[name].grad for name in DIMS])
    for eager, ours in zip(*gradients, strict=True):
        assert_close(ours, eager, gradient=True)
    assert modulate.drop_probabilities.shape == (2,)


def test_constant_dropout() -> None:
    features = features_of()
    drop = ModalityDropout(DIMS, probability={"audio": 0.5, "vision": 0.25})
    draws = torch.tensor([[0.4, 0.9], [0.6, 0.7], [0.6, 0.8], [0.0, 0.0], [0.49, 0.74]])
    out, keep = drop(features, draws=draws)
    share = 1 - (4 * 0.5 + 6 * 0.25) / 10
    assert_close(out["audio"].detach(), torch.tensor([1.0, 0, 0, 1, 1])[:, None] * features["audio"].detach() / share)
    assert_close(out["vision"].detach(), torch.tensor([0.0, 1, 0, 1, 1])[:, None] * features["vision"].detach() / share)
    assert keep.tolist() == [1.0, 1.0, 0.0, 1.0, 1.0]
    assert drop.eval()(features)[0] is features
    assert not drop.state_dict()
    assert len(list(exact().parameters())) == len(exact().state_dict()) == 0


def test_errors() -> None:
    modulate = exact()
    with pytest.raises(ValueError, match=r"features of \['audio', 'vision'\] are expected, got \['audio'\]"):
        modulate({"audio": torch.ones(2, 4)}, LEADS)
    with pytest.raises(ValueError, match=r"features of 'vision' must be \(2, 6\), got \(2, 5\)"):
        modulate({"audio": torch.ones(2, 4), "vision": torch.ones(2, 5)}, LEADS)
    with pytest.raises(ValueError, match=r"ratio must be \(M,\).*got \(3,\)"):
        modulate(features_of(), torch.ones(3))
    with pytest.raises(ValueError, match=r"draws must be \(B, M\).*got \(5, 3\)"):
        modulate(features_of(), LEADS, draws=torch.rand(5, 3))
    with pytest.raises(ValueError, match="two or more modalities"):
        OnTheFlyPredictionModulation({"audio": 4})
    with pytest.raises(ValueError, match="widths must be positive"):
        OnTheFlyPredictionModulation({"audio": 4, "vision": 0})
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        OnTheFlyPredictionModulation(DIMS, execute=1.5)
    with pytest.raises(ValueError, match="no epoch is inside the window: start=3, end=2"):
        OnTheFlyPredictionModulation(DIMS, start=3, end=2)
    with pytest.raises(ValueError, match="epochs count from 0"):
        OnTheFlyPredictionModulation(DIMS, start=-1)
    for wrong in (1.0, {"audio": 0.5}):
        with pytest.raises(ValueError, match=r"probability must be in \[0, 1\)"):
            ModalityDropout(DIMS, probability=wrong)
