from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

from .losses import cosine_alignment, distribution_alignment, mask_loss


class AVSOutput(NamedTuple):
    """What the segmentation head says.

    Attributes:
        logits: One logit per pixel, ``(B, T, 1, H, W)``; in training of the annotated frames alone.
        maps: The rectified maps that the decoder read, fine to coarse, ``(B, T, C, h, w)`` each.
        audio: The sound beside each of them that TPAVI gave it to, ``(B, T, C)`` each; empty without audio.

    Example:
        >>> import torch
        >>> AVSOutput(torch.tensor([[[[[2.0, -1.0]]]]]), (), ()).predictions().tolist()
        [[[[[True, False]]]]]
    """

    logits: Tensor
    maps: tuple[Tensor, ...]
    audio: tuple[Tensor, ...]

    def losses(
        self,
        masks: Tensor,
        *,
        alignment: Literal["none", "cosine", "kl", "l2"] = "none",
        weight: float = 0.5,
        capped: bool = False,
    ) -> dict[str, Tensor]:
        """The trained terms.

        Args:
            masks: Truth of the first A frames, ``(B, A, 1, H, W)``.
            alignment: The term between maps and sound: ``"kl"`` in the recipe of MS3, none in that of S4.
            weight: Factor on that term.
            capped: See :func:`mask_loss`.

        Returns:
            The scalar ``masks``, and ``alignment`` where there is one.
        """
        terms = {"masks": mask_loss(self.logits, masks, capped=capped)}
        if alignment == "cosine":
            terms["alignment"] = weight * cosine_alignment(self.logits, self.maps, self.audio)
        elif alignment != "none":
            terms["alignment"] = weight * distribution_alignment(self.logits, self.maps, self.audio, kind=alignment)
        return terms

    def predictions(self) -> Tensor:
        """Predicted masks, bool ``(B, T, 1, H, W)``; a pixel at exactly one half is background."""
        return self.logits.sigmoid() > 0.5
