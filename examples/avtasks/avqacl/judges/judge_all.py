from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from .verdict import Answered, Judge, Verdict

Judged = dict[str, list[dict[str, Any]]]


def judge_all(
    judge: Judge, answers: Iterable[Answered], *, empty: Literal["wrong", "drop"] = "wrong", rounds: int = 10
) -> Judged:
    """Judge answers; rounds are repeated for those that have no verdict yet.

    Args:
        judge: One of this folder's, or any other.
        answers: What was answered; of two with the same id the last one counts.
        empty: An empty answer is wrong, or not counted, as in the papers' program.
        rounds: At most so many.

    Returns:
        The content of the papers' judged file: by id the verdict, and what was judged. What the judge gave no verdict
        on is left out.

    Example:
        >>> from avtasks.avqacl.judges import ExactJudge
        >>> answers = [Answered("7", "Where?", "street", "street"), Answered("8", "Where?", "sea", "")]
        >>> judge_all(ExactJudge(), answers)["8"][0]
        {'score': 1, 'pred': 'no', 'reason': 'empty'}
    """
    waiting = {answered.id: answered for answered in answers}
    if empty == "drop":
        waiting = {name: answered for name, answered in waiting.items() if answered.predicted.strip()}
    order, judged = list(waiting), {}
    for _ in range(rounds):
        for name, answered in list(waiting.items()):
            verdict = judge(answered) if answered.predicted.strip() else Verdict(1, "no", "empty")
            if verdict:
                about = {"question": answered.question, "answer": answered.answer, "predicted": answered.predicted}
                judged[name] = [verdict._asdict(), about]
                del waiting[name]
        if not waiting:
            break
    return {name: judged[name] for name in order if name in judged}


def judged_accuracy(judged: dict[str, Any]) -> float:
    """Share of right answers of a judged file, as the stage matrix has it.

    Args:
        judged: See :func:`judge_all`; entries that are no list, or an empty one, do not count.

    Returns:
        From 0 to 1; 0 where nothing counts. Only ``"yes"`` in small letters is right.

    Example:
        >>> judged_accuracy({"1": [{"pred": "yes"}, {}], "2": [{"pred": "Yes"}, {}], "3": []})
        0.5
    """
    entries = [entry for entry in judged.values() if isinstance(entry, list) and entry]
    right = sum(isinstance(entry[0], dict) and entry[0].get("pred") == "yes" for entry in entries)
    return right / len(entries) if entries else 0.0


def yes_share(judged: dict[str, Any]) -> float:
    """Share of yes among yes and no, capitals or not: the second accuracy that the papers' program prints.

    Args:
        judged: See :func:`judge_all`.

    Example:
        >>> yes_share({"1": [{"pred": "Yes"}, {}], "2": [{"pred": "perhaps"}, {}]})
        1.0
    """
    said = [str(entry[0].get("pred", "")).lower() for entry in judged.values() if isinstance(entry, list) and entry]
    return said.count("yes") / max(said.count("yes") + said.count("no"), 1)
