from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class Hook:
    """What a method does beside its loss, at four places of :func:`fit`; this one changes nothing.

    Example:
        >>> import tempfile, torch
        >>> from avtasks.training import Recipe, TensorClips, fit
        >>> class Steps(Hook):
        ...     done = 0
        ...     def attach(self, optimizer):
        ...         optimizer.register_step_post_hook(self.count)
        ...     def count(self, *_):
        ...         self.done += 1
        >>> steps, model = Steps(), torch.nn.Linear(1, 1)
        >>> fitted = fit(
        ...     model,
        ...     TensorClips(x=torch.ones(4, 1)),
        ...     loss=lambda model, batch: {"square": model(batch["x"]).square().mean()},
        ...     evaluate=lambda model: {"accuracy": 0.0},
        ...     recipe=Recipe(epochs=3, batch_size=2),
        ...     out=tempfile.mkdtemp(),
        ...     hook=steps,
        ... )
        >>> steps.done
        6
    """

    def attach(self, optimizer: Optimizer) -> None:
        """Meet the optimizer, once, before the first step.

        Args:
            optimizer: The one that steps, not a wrapper: step hooks registered on it run with clipped gradients of
                whole accumulation windows, reduced over processes.
        """

    def start_epoch(self, epoch: int) -> None:
        """Learn that an epoch begins, or goes on after an interruption.

        Args:
            epoch: From 0.
        """

    def backward(self, terms: dict[str, Tensor], weight: float, backward: Callable[..., None]) -> None:
        """Bring the gradients of one forward pass to the parameters, in addition to those that are there.

        Args:
            terms: Of the loss.
            weight: Factor on every term, that of this pass in its accumulation window.
            backward: Runs a backward pass with the loss scale of the precision; takes ``retain_graph``.
        """
        backward(sum(terms.values()) * weight)

    def state_dict(self) -> dict[str, Any]:
        """Tell what must survive an interruption: tensors, numbers, strings, lists and dictionaries."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: Of :meth:`state_dict`.
        """
