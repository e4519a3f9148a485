from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from avexperts.checkpoints._state_dict import bare_state
from avexperts.checkpoints._tower_names import TRANSFORMERS_BLOCK, TowerNames, weights_and_biases

_QKV_BIAS = tuple(f"attention.self.{name}.bias" for name in ("query", "key", "value"))
_POSITION = ("relative_position_bias_table", "relative_position_index")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

_HTSAT = TowerNames(
    top=weights_and_biases(
        {
            "bn0": "batch_norm",
            "patch_embed.proj": "patch_embed.proj",
            "patch_embed.norm": "patch_embed.norm",
            "norm": "norm",
        }
    )
    | {f"bn0.{name}": (f"batch_norm.{name}",) for name in _STATISTICS},
    block=TRANSFORMERS_BLOCK
    | {"attn.qkv.bias": _QKV_BIAS}
    | {f"attn.{name}": (f"attention.self.{name}",) for name in _POSITION},
    stage="layers.{}",
    shift=0,
    dropped=r"layers\.\d+\.blocks\.\d+\.attn_mask|(tscam_conv|head|spectrogram_extractor|logmel_extractor)\..+",
)


def htsat(
    state: Mapping[str, Tensor],
    *,
    to: Literal["transformers", "papers"] = "transformers",
    prefix: str = "audio_encoder.",
) -> dict[str, Tensor]:
    """Translate HTS-AT's names to those of transformers' CLAP audio tower, which is the same network, or back.

    Chen et al., "HTS-AT" (https://arxiv.org/abs/2202.00874). The classifier, the shift masks and the filters
    of the front end (:class:`HTSATFrontEnd` computes them) are dropped, and not made up on the way back. The
    papers' checkpoints fit ``ClapAudioConfig(hidden_dropout_prob=0.0, drop_path_rate=0.1)``; the rates matter in
    training mode only.

    Args:
        state: ``["state_dict"]`` of a Lightning checkpoint, names with or without the prefix ``sed_model.``; for
            ``to="papers"`` the state of the CLAP tower.
        to: ``"transformers"`` or ``"papers"``, whose names come without ``sed_model.``.
        prefix: Before each of transformers' names: ``"audio_encoder."`` for ``ClapAudioModel``, ``""`` for
            ``ClapAudioEncoder``.

    Returns:
        The state dict, to be loaded strictly.

    Raises:
        CheckpointError: Names are missing or unknown; the message lists them all.
        ValueError: If ``to`` is neither of the two.

    Example:
        >>> import torch
        >>> try:
        ...     htsat({"sed_model.norm.weight": torch.ones(768)})
        ... except ValueError as error:
        ...     print(str(error)[:56])
        not a whole state dict of this tower; missing keys: bn0.
    """
    if to not in ("transformers", "papers"):
        raise ValueError(f"to is 'transformers' or 'papers', got {to!r}")
    if to == "papers":
        return _HTSAT.restore(bare_state(state, prefix))
    bare = bare_state(state, "sed_model.")
    return {prefix + key: tensor for key, tensor in _HTSAT.rename(bare).items()}
