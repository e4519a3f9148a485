"""Scores of audio-visual video parsing (Tian et al., ECCV 2020), per clip and for a dataset.

Shapes: B clips, T one-second segments, C classes; predictions and truth are 0 or 1, ``(B, T, C)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCORES = ("audio", "visual", "av", "event")


def parsing_predictions(
    clip_prob: Tensor, audio_prob: Tensor, visual_prob: Tensor, *, threshold: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Turn probabilities into events: a segment has one where its own and the clip's probability suffice.

    Args:
        clip_prob: Probability that the clip holds the event in either stream, ``(B, C)``.
        audio_prob: Probability that a segment sounds like it, ``(B, T, C)``.
        visual_prob: Probability that a segment looks like it, ``(B, T, C)``.
        threshold: Probabilities from here on are positive.

    Returns:
        Audio and visual events, boolean ``(B, T, C)`` each.

    Example:
        >>> audio, visual = parsing_predictions(
        ...     torch.tensor([[0.5, 0.4]]), torch.tensor([[[0.5, 0.9]]]), torch.tensor([[[0.4, 0.9]]])
        ... )
        >>> audio.tolist(), visual.tolist()
        ([[[True, False]]], [[[False, False]]])
    """
    holds = (clip_prob >= threshold).unsqueeze(1)
    return (audio_prob >= threshold) & holds, (visual_prob >= threshold) & holds


def segment_scores(audio: Tensor, visual: Tensor, true_audio: Tensor, true_visual: Tensor) -> Tensor:
    """Segment-level F-scores of every clip.

    Per class, true and false positives and negatives are counted over the segments, and the F-scores of the
    classes that are predicted or true are averaged; a clip without any scores 1. The audio-visual score
    compares what is in both streams; "event" adds both streams' counts before the F-score.

    Args:
        audio: Predicted audio events, ``(B, T, C)``.
        visual: Predicted visual events, ``(B, T, C)``.
        true_audio: True audio events, ``(B, T, C)``.
        true_visual: True visual events, ``(B, T, C)``.

    Returns:
        Fractions, ``(B, 4)`` float64: audio, visual, audio-visual, event.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> heard, nothing = torch.ones(1, 10, 1), torch.zeros(1, 10, 1)
        >>> [round(score, 3) for score in segment_scores(heard, nothing, heard, heard)[0].tolist()]
        [1.0, 0.0, 0.0, 0.667]
    """
    return _scores(_segment_counts, audio, visual, true_audio, true_visual)


def event_scores(audio: Tensor, visual: Tensor, true_audio: Tensor, true_visual: Tensor) -> Tensor:
    """Event-level F-scores of every clip.

    An event is an unbroken run of segments. A predicted one is right if it covers at least half of its union
    with some true one; a true one that no prediction meets in this way is missed. The means are those of
    :func:`segment_scores`.

    Args:
        audio: Predicted audio events, ``(B, T, C)``.
        visual: Predicted visual events, ``(B, T, C)``.
        true_audio: True audio events, ``(B, T, C)``.
        true_visual: True visual events, ``(B, T, C)``.

    Returns:
        Fractions, ``(B, 4)`` float64: audio, visual, audio-visual, event.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> first_four = (torch.arange(10) < 4).view(1, 10, 1)
        >>> first_two, nothing = (torch.arange(10) < 2).view(1, 10, 1), torch.zeros(1, 10, 1)
        >>> event_scores(first_two, nothing, first_four, nothing)[0].tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    return _scores(_event_counts, audio, visual, true_audio, true_visual)


def parsing_scores(audio: Tensor, visual: Tensor, true_audio: Tensor, true_visual: Tensor) -> dict[str, float]:
    """The ten numbers of the papers' tables, in percent.

    Args:
        audio: Predicted audio events, ``(B, T, C)``.
        visual: Predicted visual events, ``(B, T, C)``.
        true_audio: True audio events, ``(B, T, C)``.
        true_visual: True visual events, ``(B, T, C)``.

    Returns:
        ``segment_audio``, ``segment_visual``, ``segment_av``, ``segment_type`` (Type@AV: their mean) and
        ``segment_event`` (Event@AV), and the same five as ``event_...``.

    Raises:
        ValueError: The shapes differ, or there is no clip.

    Example:
        >>> heard, nothing = torch.ones(1, 10, 1), torch.zeros(1, 10, 1)
        >>> round(parsing_scores(heard, nothing, heard, heard)["segment_type"], 1)
        33.3
    """
    if not len(audio):
        raise ValueError("there is no clip to score")
    table = {}
    for level, scores in (("segment", segment_scores), ("event", event_scores)):
        means = dict(zip(SCORES, (100 * scores(audio, visual, true_audio, true_visual).mean(0)).tolist(), strict=True))
        event = means.pop("event")
        table |= {f"{level}_{name}": value for name, value in means.items()}
        table |= {f"{level}_type": sum(means.values()) / 3, f"{level}_event": event}
    return table


def _scores(counts, audio: Tensor, visual: Tensor, true_audio: Tensor, true_visual: Tensor) -> Tensor:
    shapes = [tuple(part.shape) for part in (audio, visual, true_audio, true_visual)]
    if len(set(shapes)) > 1 or len(shapes[0]) != 3:
        raise ValueError(f"expected predictions and truth of one shape (B, T, C), got {', '.join(map(str, shapes))}")
    audio, visual, true_audio, true_visual = (part.bool() for part in (audio, visual, true_audio, true_visual))
    of_audio, of_visual = counts(audio, true_audio), counts(visual, true_visual)
    of_both = counts(audio & visual, true_audio & true_visual)
    return torch.stack([_mean_f(part) for part in (of_audio, of_visual, of_both, of_audio + of_visual)], dim=-1)


def _mean_f(counts: Tensor) -> Tensor:
    """Mean F-score over the classes that occur, from right and wrong ones ``(B, C, 2)``."""
    right, wrong = counts.double().unbind(-1)
    occurs = right + wrong > 0
    score = torch.where(occurs, 2 * right / (2 * right + wrong).clamp(min=1), 0)
    number = occurs.sum(-1)
    return torch.where(number > 0, score.sum(-1) / number.clamp(min=1), 1)


def _segment_counts(predicted: Tensor, true: Tensor) -> Tensor:
    """True positives, and false positives and negatives together: ``(B, C, 2)``."""
    return torch.stack([(predicted & true).sum(1), (predicted ^ true).sum(1)], dim=-1)


def _event_counts(predicted: Tensor, true: Tensor) -> Tensor:
    predicted, true = _runs(predicted), _runs(true)
    common = predicted @ true.mT
    lengths, true_lengths = predicted.sum(-1), true.sum(-1)
    union = lengths.unsqueeze(-1) + true_lengths.unsqueeze(-2) - common
    meets = (2 * common >= union) & (common > 0)
    right = meets.any(-1).sum(-1)
    false = (lengths > 0).sum(-1) - right
    missed = (true_lengths > 0).sum(-1) - meets.any(-2).sum(-1)
    return torch.stack([right, false + missed], dim=-1)


def _runs(events: Tensor) -> Tensor:
    """Mask of every unbroken run, ``(B, C, (T + 1) // 2, T)``: more runs than that do not fit."""
    events = events.transpose(1, 2)
    starts = events & ~torch.nn.functional.pad(events, (1, 0))[..., :-1]
    number = starts.cumsum(-1) * events
    wanted = torch.arange(1, (events.shape[-1] + 1) // 2 + 1, device=events.device)
    return (number.unsqueeze(-2) == wanted.unsqueeze(-1)).float()
