"""What training changes: the trainable parameters and every buffer, not the frozen towers."""

from __future__ import annotations

from torch import Tensor, nn


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Copy what training can change, on the CPU.

    Args:
        model: Frozen parameters are those that take no gradient.

    Returns:
        Copies by state-dict name.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2))
        >>> list(trainable_state(model))
        ['1.weight', '1.bias']
    """
    frozen = _frozen(model)
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items() if name not in frozen}


def load_trainable_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put a copy back.

    Args:
        model: Built as the one the copy was taken of.
        state: From :func:`trainable_state`.

    Raises:
        KeyError: Names are missing or unknown; the model was built differently.

    Example:
        >>> model = nn.Linear(2, 2)
        >>> load_trainable_state(model, trainable_state(model))
    """
    expected = model.state_dict().keys() - _frozen(model)
    if expected != state.keys():
        missing, unknown = sorted(expected - state.keys()), sorted(state.keys() - expected)
        raise KeyError(f"saved with other settings; missing: {missing[:5] or 'none'}, unknown: {unknown[:5] or 'none'}")
    model.load_state_dict(state, strict=False)


def _frozen(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
