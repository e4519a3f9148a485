"""Every question of MUSIC-AVQA's templates that can be asked about a stage, with its answer.

Five of the 33 templates are left out: three about rhythm and one about the room, which the stage does not know, and
one about two alike of which only one plays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from .stage import MOST_HEARD, PLACES, Stage
from .timetable import SECONDS

NUMBERS = ("zero", "one", "two", "three")
ORDINALS = ("first", "second")
YES_NO = ("yes", "no")
LONGER = 2  # seconds by which a sound must be longer to be asked about


class Asked(NamedTuple):
    """A question about a stage.

    Attributes:
        type: Modality and kind.
        content: The template, as the dataset spells it.
        values: What fills its slots.
        answer: The true answer.
        options: The answers that the same words may have about another stage.

    Example:
        >>> Asked(("Audio", "Counting"), "Is there a <Object> sound?", ("tuba",), "yes", YES_NO).text
        ('Is there a <Object> sound?', 'tuba')
    """

    type: tuple[str, str]
    content: str
    values: tuple[str, ...]
    answer: str
    options: tuple[str, ...]

    @property
    def text(self) -> tuple[str, ...]:
        """What the words depend on."""
        return (self.content, *self.values)


def ask_everything(stage: Stage, names: Sequence[str]) -> list[Asked]:
    """Ask everything that has one answer.

    Args:
        stage: Who is where, and who plays when.
        names: Of the classes.

    Returns:
        Questions in a fixed order.

    Example:
        >>> stage = Stage((0, -1, -1), {1: (0, 10)}, {1: 0.0}, (0, 1, 2))
        >>> [asked.answer for asked in ask_everything(stage, "abc") if "voiceover" in asked.content]
        ['yes']
    """
    kinds = (_heard, _compared_by_ear, _counted_by_eye, _placed_by_eye, _existing, _counted, _placed, _compared, _timed)
    return [asked for kind in kinds for asked in kind(stage, tuple(names))]


def _yes(truth: bool) -> tuple[str, tuple[str, ...]]:
    return ("yes" if truth else "no"), YES_NO


def _heard(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Audio", "Counting")
    for one, name in enumerate(names):
        yield Asked(kind, "Is there a <Object> sound?", (name,), *_yes(one in stage.heard))
    for one, two in permutations(range(len(names)), 2):
        both = one in stage.heard and two in stage.heard
        yield Asked(kind, "Are there <Object> and <Object> sound? ", (names[one], names[two]), *_yes(both))
    count = NUMBERS[len(stage.heard)]
    yield Asked(
        kind, "How many musical instruments were heard throughout the video?", (), count, NUMBERS[1 : MOST_HEARD + 1]
    )


def _compared_by_ear(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Audio", "Comparative")
    for one, two in permutations(stage.heard, 2):
        pair = (names[one], names[two])
        yield Asked(kind, "Is the <Object> louder than the <Object>?", pair, *_yes(_louder(stage, one, two)))
        longer = _length(stage, one) - _length(stage, two)
        if abs(longer) >= LONGER:
            yield Asked(kind, "Is the <Object> playing longer than the <Object>?", pair, *_yes(longer > 0))


def _counted_by_eye(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Visual", "Counting")
    for one, name in enumerate(names):
        yield Asked(kind, "Is there a <Object> in the entire video?", (name,), *_yes(one in stage.seen))
        count = NUMBERS[len(stage.places_of(one))]
        yield Asked(kind, "How many <Object> are in the entire video?", (name,), count, NUMBERS[:3])
    for one, two in permutations(range(len(names)), 2):
        both = one in stage.seen and two in stage.seen
        pair = (names[one], names[two])
        yield Asked(kind, "Are there <Object> and <Object> instruments in the video?", pair, *_yes(both))
    types = NUMBERS[len(set(stage.seen) - {-1})]
    yield Asked(kind, "How many types of musical instruments appeared in the entire video?", (), types, NUMBERS[1:])


def _placed_by_eye(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Visual", "Location")
    there = [label for label in stage.seen if label >= 0]
    if len(there) == 1:
        yield Asked(kind, "What kind of musical instrument is it?", (), names[there[0]], names)
        return
    for side, label in (("leftest", there[0]), ("rightest", there[-1])):
        yield Asked(kind, "What kind of instrument is the <LRer> instrument? ", (side,), names[label], names)
    for label in dict.fromkeys(there):
        for side, neighbour in _neighbours(stage, label):
            values, options = (side, names[label]), tuple(name for name in names if name != names[label])
            if neighbour != label:
                yield Asked(kind, "What is the instrument on the <LR> of <Object>?", values, names[neighbour], options)


def _existing(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Audio-Visual", "Existential")
    for label in sorted(set(stage.seen) - {-1}):
        always = stage.heard.get(label) == (0, SECONDS)
        yield Asked(kind, "Is the <Object> in the video always playing?", (names[label],), *_yes(always))
    strangers = set(stage.heard) - set(stage.seen)
    yield Asked(kind, "Is there a voiceover?", (), *_yes(bool(strangers)))
    if len(stage.heard) == 1:
        yield Asked(kind, "Is this sound from the instrument in the video?", (), *_yes(not strangers))


def _counted(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Audio-Visual", "Counting")
    playing = [label for label in stage.seen if label in stage.heard]
    silent = [label for label in stage.seen if label >= 0 and label not in stage.heard]
    for content, number, most in (
        ("How many instruments are sounding in the video?", len(playing), 3),
        ("How many instruments in the video did not sound from beginning to end?", len(silent), 3),
        ("How many types of musical instruments sound in the video?", len(set(playing)), MOST_HEARD),
    ):
        yield Asked(kind, content, (), NUMBERS[number], NUMBERS[: most + 1])
    for label, name in enumerate(names):
        content = "How many sounding <Object> in the video？"
        yield Asked(kind, content, (name,), NUMBERS[playing.count(label)], NUMBERS[:3])


def _placed(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Audio-Visual", "Location")
    if len(stage.heard) < 2:
        return
    for which, label in (("first", stage.entries()[0]), ("last", stage.entries()[-1])):
        for place, there in enumerate(stage.seen):
            if there >= 0:
                values = (which, PLACES[place])
                truth = _yes(label == there)
                yield Asked(kind, "Is the <FL> sound coming from the <LR> instrument?", values, *truth)
        for side, neighbour in _neighbours(stage, label):
            content = "What is the <LR> instrument of the <FL> sounding instrument?"
            yield Asked(kind, content, (side, which), names[neighbour], names)
    by_level = sorted(stage.heard, key=stage.levels.__getitem__)
    for which, label in (("loudest", by_level[-1]), ("lowest", by_level[0])):
        if len(stage.places_of(label)) == 1:
            place = PLACES[stage.places_of(label)[0]]
            yield Asked(kind, "Where is the <LL> instrument?", (which,), place, PLACES)
    for label in stage.heard:
        beside = [other for other in stage.heard if other != label and _overlap(stage, label, other)]
        if len(beside) == 1:
            content = "Which is the musical instrument that sounds at the same time as the <Object>?"
            options = tuple(name for name in names if name != names[label])
            yield Asked(kind, content, (names[label],), names[beside[0]], options)


def _compared(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Audio-Visual", "Comparative")
    playing = [place for place, label in enumerate(stage.seen) if label in stage.heard]
    for one, two in permutations(playing, 2):
        first, second = stage.seen[one], stage.seen[two]
        if first == second:
            continue
        truth, places = _yes(_louder(stage, first, second)), (PLACES[one], PLACES[two])
        content = "Is the instrument on the <LR> louder than the instrument on the <LR>?"
        yield Asked(kind, content, places, *truth)
        content = "Is the <Object> on the <LR> louder than the <Object> on the <LR>?"
        yield Asked(kind, content, (names[first], places[0], names[second], places[1]), *truth)


def _timed(stage: Stage, names: tuple[str, ...]) -> Iterator[Asked]:
    kind = ("Audio-Visual", "Temporal")
    entries = stage.entries()
    if len(entries) < 2:
        return
    for which, label in zip(ORDINALS, entries, strict=False):
        yield Asked(kind, "What is the <TH> instrument that comes in?", (which,), names[label], names)
    for which, label in (("first", entries[0]), ("last", entries[-1])):
        if len(stage.places_of(label)) == 1:
            place = PLACES[stage.places_of(label)[0]]
            yield Asked(kind, "Where is the <FL> sounding instrument?", (which,), place, PLACES)
    if len(entries) == 2:
        for which, asked, answer in (("before", entries[1], entries[0]), ("after", entries[0], entries[1])):
            options = tuple(name for name in names if name != names[asked])
            values = (which, names[asked])
            yield Asked(kind, "Which instrument makes sounds <BA> the <Object>?", values, names[answer], options)


def _neighbours(stage: Stage, label: int) -> Iterator[tuple[str, int]]:
    """Who stands next to a class that stands at one place only, and on which side."""
    places = stage.places_of(label)
    if len(places) != 1:
        return
    left = [there for there in stage.seen[: places[0]] if there >= 0]
    right = [there for there in stage.seen[places[0] + 1 :] if there >= 0]
    if left:
        yield "left", left[-1]
    if right:
        yield "right", right[0]


def _louder(stage: Stage, one: int, two: int) -> bool:
    return stage.levels[one] > stage.levels[two]


def _length(stage: Stage, label: int) -> int:
    start, end = stage.heard[label]
    return end - start


def _overlap(stage: Stage, one: int, two: int) -> bool:
    return max(stage.heard[one][0], stage.heard[two][0]) < min(stage.heard[one][1], stage.heard[two][1])
