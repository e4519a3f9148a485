"""One pass of a variant: forward alone, or forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .case import Mode, Setting, Variant


def make_pass(variant: Variant, mode: Mode, setting: Setting) -> Callable[[], Sequence[Tensor]]:
    """Make the function that is timed.

    Args:
        variant: Whose pass.
        mode: ``"forward"``: evaluation mode without gradients. ``"train"``: training mode, forward and backward to all
            inputs and trained parameters, with the same output gradients each time.
        setting: Gives the precision.

    Returns:
        A function that gives the outputs and leaves gradients where ``"train"`` makes them.

    Example:
        >>> layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
        >>> run = make_pass(Variant(layer, lambda: [layer(x)]), "train", Setting(torch.device("cpu")))
        >>> run()[0].shape, layer.weight.grad.shape
        (torch.Size([1, 2]), torch.Size([2, 2]))
    """
    forward = _with_precision(variant.call, setting)
    if mode == "forward":

        def evaluate() -> Sequence[Tensor]:
            variant.module.eval()
            with torch.no_grad():
                return forward()

        return evaluate
    gradients: list[Tensor] = []

    def train() -> Sequence[Tensor]:
        variant.module.train()
        for leaf in [*variant.inputs, *variant.module.parameters()]:
            leaf.grad = None
        outputs = forward()
        if not gradients:
            generator = torch.Generator().manual_seed(0)
            gradients.extend(torch.randn(out.shape, generator=generator).to(out) for out in outputs)
        torch.autograd.backward(outputs, gradients)
        return [out.detach() for out in outputs]

    return train


def _with_precision(call: Callable[[], Sequence[Tensor]], setting: Setting) -> Callable[[], Sequence[Tensor]]:
    if setting.precision == "float32":
        return call

    def cast() -> Sequence[Tensor]:
        with torch.autocast(setting.device.type, torch.bfloat16):
            return call()

    return cast
