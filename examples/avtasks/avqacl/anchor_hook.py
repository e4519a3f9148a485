from __future__ import annotations

from typing import Any

from avtasks.avlm import AudioVisualLM
from avtasks.training import Hook
from torch import Tensor

import avexperts as ax

from .settings import AnchorSettings
from .with_tokens import with_tokens


class AnchorHook(Hook):
    """Gather a task's anchors while it trains, in the same pass over its clips.

    Args:
        model: Gives the routing features.
        bank: Takes them; the task is open.
        settings: Which epochs count, and which words.
        counts: Gather anchors at all.

    Attributes:
        epoch: The one that goes on, from 0.

    Example:
        >>> hook = AnchorHook(None, ax.AnchorBank({"text": 2}), AnchorSettings())
        >>> hook.start_epoch(1)
        >>> hook.gathers
        False
    """

    def __init__(
        self, model: AudioVisualLM, bank: ax.AnchorBank, settings: AnchorSettings, *, counts: bool = True
    ) -> None:
        self.model, self.bank, self.settings, self.counts, self.epoch = model, bank, settings, counts, 0

    @property
    def gathers(self) -> bool:
        """Whether this epoch's clips are averaged in."""
        return self.counts and (self.epoch == 0 or self.settings.epochs == "all")

    def start_epoch(self, epoch: int) -> None:
        """Learn which epoch begins."""
        self.epoch = epoch

    def loss(self, model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average the batch's features in, and give its loss.

        Args:
            model: As :func:`fit` has it; around ``self.model`` where several processes train.
            batch: Of :class:`QuestionItems`.
        """
        batch = with_tokens(self.model, batch)
        if self.gathers:
            features, mask = routing_features(self.model, batch, self.settings)
            self.bank.update(features, mask)
        return {"answer": model(batch).loss}

    def state_dict(self) -> dict[str, Any]:
        """The anchors so far."""
        return dict(self.bank.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self.bank.load_state_dict(state)


def routing_features(
    model: AudioVisualLM, batch: dict[str, Tensor], settings: AnchorSettings
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Collect what samples are routed by.

    Args:
        model: Gives the words' embeddings.
        batch: With tokens, see :func:`with_tokens`.
        settings: Which words.

    Returns:
        Features ``(B, D)`` by modality, and which samples have them, ``(B,)``.
    """
    features = {name: batch[f"{name} feature"] for name in ("image", "audio", "video") if f"{name} feature" in batch}
    masks = {"audio": batch["audio chunks"].gt(0).any(1)} if "audio" in features else {}
    masks |= {
        name: batch[f"{name} mask"] for name in ("image", "video") if name in features and f"{name} mask" in batch
    }
    words = {"labels": batch.get("labels"), "text_span": settings.text_span, "count_pad": settings.count_pad}
    features["text"] = model.text_feature(batch["input_ids"], batch["attention_mask"], **words)
    return features, masks
