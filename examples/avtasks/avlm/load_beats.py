from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .beats_config import BeatsConfig
from .beats_encoder import BeatsEncoder

_TABLE = "self_attn.relative_attention_bias.weight"


def load_beats(path: str | Path) -> BeatsEncoder:
    """Load a published BEATs checkpoint, ``{"cfg": ..., "model": ...}``; nothing in it is executed.

    Args:
        path: Such as ``BEATs_iter3_plus_AS2M.pt``; the classifier of a fine-tuned one is left out.

    Returns:
        The encoder in eval mode, float32.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such checkpoint; missing, unknown and misshapen keys are named.

    Example:
        >>> load_beats("no/such.pt")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such.pt: no such BEATs checkpoint
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such BEATs checkpoint")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: cannot be read as a checkpoint ({str(error).splitlines()[0]})") from None
    if not isinstance(stored, Mapping) or not {"cfg", "model"} <= stored.keys():
        raise ValueError(f"{path}: a BEATs checkpoint holds 'cfg' and 'model'")
    try:
        encoder = BeatsEncoder(BeatsConfig.of(stored["cfg"]))
        encoder.load_state_dict(own_table_once(stored["model"]))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return encoder.float().eval()


def own_table_once(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Leave out what a BEATs checkpoint holds beside the encoder: copies of the position table, the classifier.

    Args:
        state: As stored.
        prefix: Of the encoder's keys.

    Returns:
        What :class:`BeatsEncoder` loads, under the same prefix; other keys pass through.

    Raises:
        ValueError: A copy is not equal to the first layer's table.

    Example:
        >>> table = torch.zeros(4, 2)
        >>> len(own_table_once({f"encoder.layers.{i}.{_TABLE}": table for i in range(3)}))
        1
    """
    first = f"{prefix}encoder.layers.0.{_TABLE}"
    kept = {}
    for key, value in state.items():
        if key.startswith(f"{prefix}predictor."):
            continue
        if key.startswith(f"{prefix}encoder.layers.") and key.endswith(_TABLE) and key != first:
            if first not in state or not torch.equal(value, state[first]):
                raise ValueError(f"{key} is not the table of the first layer, which all layers share")
            continue
        kept[key] = value
    return kept
