from __future__ import annotations

from torch import Tensor, nn


class TokenGridPrompt(nn.Module):
    """Lay a prompt over a grid of tokens and add it to their first channels (PHP's prompts for sound, ICCV 2025).

    ``(B, P, D)``, read row by row, becomes ``c = P D / N`` channels for each of the ``N`` tokens.

    Raises:
        ValueError: The prompt has no whole number of channels for each token, or more than these have.

    Example:
        >>> import torch
        >>> TokenGridPrompt()(torch.zeros(1, 4, 4), torch.arange(8.0).view(1, 2, 4))[0, 1]
        tensor([2., 3., 0., 0.])
    """

    def forward(self, tokens: Tensor, prompt: Tensor) -> Tensor:
        """Add.

        Args:
            tokens: ``(B, N, C)``, row by row of a grid; not changed.
            prompt: ``(B, P, D)``, or ``(B, 2, P / 2, D)``.

        Returns:
            ``(B, N, C)``.
        """
        _, count, dim = tokens.shape
        width = grid_width(prompt[0].numel(), count, dim)
        grid = prompt.reshape(len(prompt), count, width)
        return tokens + nn.functional.pad(grid, (0, dim - width)).to(tokens.dtype)


def grid_width(numbers: int, count: int, dim: int) -> int:
    """How many channels of each of ``count`` tokens a prompt of ``numbers`` values fills; a ``ValueError`` if none."""
    width = numbers // count
    if width * count != numbers or not 1 <= width <= dim:
        raise ValueError(
            f"a prompt of {numbers} numbers does not fit a grid of {count} tokens of {dim} channels: it needs a whole "
            f"number of channels per token, at most {dim}"
        )
    return width
