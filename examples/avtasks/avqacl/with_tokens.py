from __future__ import annotations

from avtasks.avlm import AudioVisualLM
from torch import Tensor

MEDIA = ("video", "audio", "image")


def with_tokens(model: AudioVisualLM, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bring a batch to the stage of tokens: run what is frozen where it still holds media or hidden states.

    Args:
        model: Has towers, projector and aligner.
        batch: Of :class:`QuestionItems`.

    Returns:
        The batch with tokens and routing features; as it is where it has them.

    Example:
        >>> with_tokens(None, {"video tokens": "here"})
        {'video tokens': 'here'}
    """
    if any(name in batch for name in MEDIA):
        return {name: value for name, value in batch.items() if name not in MEDIA} | model.perceive(batch)
    hidden = [f"{name} hidden" for name in MEDIA if f"{name} hidden" in batch]
    if not hidden:
        return batch
    return {name: value for name, value in batch.items() if name not in hidden} | model.project(batch)
