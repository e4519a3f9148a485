from __future__ import annotations

from pathlib import Path

from .judges import ContainsJudge, EndpointJudge, ExactJudge, Judge, NormalisedJudge
from .settings import JudgeSettings

JUDGES = {"exact": ExactJudge, "normalised": NormalisedJudge, "contains": ContainsJudge}


def open_judge(settings: JudgeSettings, folder: Path) -> Judge:
    """Make the judge that the settings name.

    Args:
        settings: Which one.
        folder: Verdicts of an endpoint are kept there, in ``verdicts.jsonl``.

    Raises:
        ValueError: An endpoint has no address or model.

    Example:
        >>> open_judge(JudgeSettings(kind="endpoint"), Path("runs"))
        Traceback (most recent call last):
        ...
        ValueError: --judge.kind endpoint needs --judge.url and --judge.model
    """
    if settings.kind != "endpoint":
        return JUDGES[settings.kind]()
    if not settings.url or not settings.model:
        raise ValueError("--judge.kind endpoint needs --judge.url and --judge.model")
    return EndpointJudge(settings.url, settings.model, key=settings.key, cache=folder / "verdicts.jsonl")
