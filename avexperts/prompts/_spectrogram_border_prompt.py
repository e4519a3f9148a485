from __future__ import annotations

from torch import Tensor


def spectrogram_border_prompt(spectrogram: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Replace the border of a square spectrogram by prompts; corners are those of the columns.

    Args:
        spectrogram: ``(B, 1, S, S)``; not changed.
        rows: Half of them come first, half last, ``(L, S)`` or ``(B, L, S)``; ``L`` is even.
        columns: The same for columns, as rows.

    Returns:
        ``(B, 1, S, S)``.

    Raises:
        ValueError: The prompts do not fit.

    Example:
        >>> import torch
        >>> out = spectrogram_border_prompt(torch.zeros(1, 1, 4, 4), torch.ones(2, 4), 2 * torch.ones(2, 4))
        >>> out[0, 0, :2]
        tensor([[2., 1., 1., 2.],
                [2., 0., 0., 2.]])
    """
    side, length = spectrogram.shape[-1], rows.shape[-2]
    if spectrogram.shape[-2] != side or length % 2 or length > side:
        raise ValueError(f"{length} border rows, an even number, do not fit a spectrogram {tuple(spectrogram.shape)}")
    if rows.shape != columns.shape or rows.shape[-1] != side:
        raise ValueError(f"border prompts must be (L, {side}), got {tuple(rows.shape)} and {tuple(columns.shape)}")
    out, half = spectrogram.clone(), length // 2
    top, bottom = rows.unsqueeze(-3).split(half, -2)
    left, right = columns.mT.unsqueeze(-3).split(half, -1)
    out[..., :half, :], out[..., side - half :, :] = top, bottom
    out[..., :half], out[..., side - half :] = left, right
    return out
