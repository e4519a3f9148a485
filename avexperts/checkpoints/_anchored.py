from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._state_dict import bare_state, complain
from avexperts.experts import ExpertRouted
from avexperts.routing._published_anchors import pool_published_anchor

_EXPERT = re.compile(r"(?:.+\.)?layers\.\d{1,6}\.mlp\.(gate|up|down)_proj\.weight")
_PARTS = ("gate", "up", "down")


def expert_task(
    state: Mapping[str, Tensor], *, to: Literal["avexperts", "papers"] = "avexperts", like: ExpertRouted | None = None
) -> dict[str, Tensor]:
    """Read an expert file of AVQACL-MoE, ``expert_task_{k}.pt``, or make one: the names are the same.

    Args:
        state: ``torch.load(path, weights_only=True)``, or what :meth:`ExpertRouted.state_dict_for` gives.
        to: ``"avexperts"``, for :meth:`ExpertRouted.load_task`, or ``"papers"``.
        like: The model it shall fit.

    Returns:
        The tensors by the base model's names, such as ``model.layers.0.mlp.gate_proj.weight``.

    Raises:
        CheckpointError: A layer lacks one of its three weights, a name is no expert's, or the model needs others; the
            message lists them all.
        ValueError: If ``to`` is neither of the two.

    Example:
        >>> import torch
        >>> names = [f"model.layers.0.mlp.{part}_proj.weight" for part in ("gate", "up", "down")]
        >>> list(expert_task({name: torch.ones(2, 2) for name in names})) == names
        True
    """
    if to not in ("avexperts", "papers"):
        raise ValueError(f"to is 'avexperts' or 'papers', got {to!r}")
    bare = bare_state(state)
    places = dict.fromkeys(key.rpartition(".mlp.")[0] for key in bare if _EXPERT.fullmatch(key))
    wanted = [f"{place}.mlp.{part}_proj.weight" for place in places for part in _PARTS]
    complain(
        "not the experts of one task",
        missing=[key for key in wanted if key not in bare] if places else ["model.layers.0.mlp.gate_proj.weight"],
        unknown=[key for key in bare if key not in wanted],
    )
    if like is not None:
        try:
            like.check_tensors(bare)
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    return bare


def anchor_task(state: Mapping[str, Tensor], *, to: Literal["avexperts"] = "avexperts") -> dict[str, Tensor]:
    """Read an anchor file of AVQACL-MoE, ``anchor_task_{k}.pt``: grids of tokens, pooled to one vector per modality.

    Routing by the pooled anchors is the same. :meth:`AnchorBank.from_published` reads those of all tasks at once.

    Args:
        state: ``torch.load(path, weights_only=True)``: ``(N, D)`` or ``(D,)`` by modality.
        to: ``"avexperts"``; the tokens are gone, so there is no way back.

    Returns:
        ``(D,)`` by modality, float32.

    Raises:
        CheckpointError: Something in it is no anchor.
        ValueError: If ``to`` is anything else.

    Example:
        >>> import torch
        >>> anchor = {"video": torch.ones(9, 4), "text": torch.ones(6)}
        >>> {name: value.shape for name, value in anchor_task(anchor).items()}
        {'video': torch.Size([4]), 'text': torch.Size([6])}
    """
    if to != "avexperts":
        raise ValueError(f"to is 'avexperts', got {to!r}: the tokens of an anchor are gone once it is pooled")
    try:
        return pool_published_anchor(bare_state(state))
    except ValueError as error:
        raise CheckpointError(str(error)) from error
