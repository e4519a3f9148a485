from __future__ import annotations

import numpy as np
import pytest
from avtasks.forge.timetable import SECONDS, draw_timetable


def _plans(count: int, objects: int = 4, sounds: int = 2, classes: int = 12):
    rng = np.random.default_rng(0)
    return [
        draw_timetable(rng, classes, event=index % classes, objects=objects, sounds=sounds) for index in range(count)
    ]


@pytest.mark.parametrize(("objects", "sounds"), [(1, 1), (4, 2), (6, 3)])
def test_one_class_is_seen_and_heard_at_event_seconds_and_none_elsewhere(objects, sounds):
    for plan in _plans(60, objects, sounds):
        for second in range(SECONDS):
            both = set(plan.seen[second]) & set(plan.heard[second])
            assert both == ({plan.event} if plan.start <= second < plan.end else set())


def test_every_place_is_taken_by_a_class_of_its_own():
    for plan in _plans(60):
        for table in (plan.seen, plan.heard):
            assert table.min() >= 0
            assert all(len(set(row)) == table.shape[1] for row in table)


@pytest.mark.parametrize("stream", ["seen", "heard"])
def test_the_longest_stay_of_one_stream_does_not_give_the_event_away(stream):
    """Who always names the class that stays longest in one stream must stay far from naming all events."""
    plans = _plans(400)
    guesses = [np.bincount(getattr(plan, stream).ravel()).argmax() for plan in plans]
    right = np.mean([guess == plan.event for guess, plan in zip(guesses, plans, strict=True)])
    assert right < 0.8


def test_the_place_of_the_event_says_nothing():
    places = [int(np.flatnonzero(plan.seen[plan.start] == plan.event)[0]) for plan in _plans(400)]
    assert np.bincount(places, minlength=4).min() > 60


def test_too_few_classes_to_keep_the_streams_apart():
    with pytest.raises(ValueError, match="4 objects and 2 sounds at a time need 8 classes"):
        draw_timetable(np.random.default_rng(0), 7, event=0, objects=4, sounds=2)


def test_clutter_is_no_event_and_is_never_both_seen_and_heard() -> None:
    plan = draw_timetable(np.random.default_rng(0), 10, event=4, objects=3, sounds=2, clutter=4, murmur=2, others=7)
    assert plan.seen.shape == (10, 7)
    assert plan.heard.shape == (10, 4)
    for second, (seen, heard) in enumerate(zip(plan.seen, plan.heard, strict=True)):
        assert (seen >= 10).sum() == 4
        assert (heard >= 10).sum() == 2
        both = set(seen) & set(heard)
        assert both == ({4} if plan.start <= second < plan.end else set())


def test_too_little_clutter_to_draw_from_is_named() -> None:
    with pytest.raises(ValueError, match="4 cluttering and 2 murmuring things at a time, but only 5"):
        draw_timetable(np.random.default_rng(0), 10, event=4, objects=3, sounds=2, clutter=4, murmur=2, others=5)
