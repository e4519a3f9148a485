"""What training changes: the trainable parameters and every buffer, not the frozen towers."""

from __future__ import annotations

from torch import Tensor, nn

from .whole_state import shard_like, whole


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Copy what training can change, on the CPU.

    Args:
        model: Frozen parameters are those that take no gradient. Where its weights are sharded over processes, all
            of them have to call this, and all get whole weights.

    Returns:
        Copies by state-dict name.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
        >>> list(trainable_state(model))
        ['1.weight', '1.bias']
    """
    frozen = _frozen(model)
    return {name: whole(value) for name, value in model.state_dict().items() if name not in frozen}


def load_trainable_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put a copy back.

    Args:
        model: Built as the one the copy was taken of; sharded or not.
        state: From :func:`trainable_state`.

    Raises:
        KeyError: Names are missing or unknown; the model was built differently.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> load_trainable_state(model, trainable_state(model))
    """
    there = model.state_dict()
    expected = there.keys() - _frozen(model)
    if expected != state.keys():
        missing, unknown = sorted(expected - state.keys()), sorted(state.keys() - expected)
        raise KeyError(f"saved with other settings; missing: {missing[:5] or 'none'}, unknown: {unknown[:5] or 'none'}")
    model.load_state_dict({name: shard_like(value, there[name]) for name, value in state.items()}, strict=False)


def _frozen(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
