from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from avexperts.checkpoints._state_dict import bare_state
from avexperts.checkpoints._tower_names import TRANSFORMERS_BLOCK, TowerNames, weights_and_biases

_DROPPED = r"layers\.\d+\.blocks\.\d+\.(attn_mask|attn\.relative_(coords_table|position_index))|head\..+"
_POSITION_MLP = ("0.weight", "0.bias", "2.weight")
_TIMM_TOP = ("patch_embed.proj", "patch_embed.norm", "norm")
_TIMM_BLOCK = ("norm1", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
_TIMM_ATTENTION = ("qkv.weight", "q_bias", "v_bias", "logit_scale")

_TARGETS = {
    "transformers": TowerNames(
        top=weights_and_biases(
            {
                "patch_embed.proj": "embeddings.patch_embeddings.projection",
                "patch_embed.norm": "embeddings.norm",
                "norm": "layernorm",
            }
        ),
        block=TRANSFORMERS_BLOCK
        | {
            "attn.q_bias": ("attention.self.query.bias",),
            "attn.v_bias": ("attention.self.value.bias",),
            "attn.logit_scale": ("attention.self.logit_scale",),
        }
        | {f"attn.cpb_mlp.{name}": (f"attention.self.continuous_position_bias_mlp.{name}",) for name in _POSITION_MLP},
        stage="encoder.layers.{}",
        shift=0,
        dropped=_DROPPED,
    ),
    "timm": TowerNames(
        top=weights_and_biases({name: name for name in _TIMM_TOP}),
        block=weights_and_biases({name: name for name in _TIMM_BLOCK})
        | {f"attn.{name}": (f"attn.{name}",) for name in _TIMM_ATTENTION}
        | {f"attn.cpb_mlp.{name}": (f"attn.cpb_mlp.{name}",) for name in _POSITION_MLP},
        stage="layers.{}",
        shift=1,
        dropped=_DROPPED,
    ),
}


def swinv2(
    state: Mapping[str, Tensor], *, to: Literal["transformers", "timm", "papers"] = "transformers"
) -> dict[str, Tensor]:
    """Translate the names of timm 0.6's Swin-V2, which the papers' checkpoints hold, to those of today, or back.

    Liu et al., "Swin Transformer V2" (https://arxiv.org/abs/2111.09883). Since timm 0.9 the patch merging
    between two stages belongs to the later one. The classifier and all that follows from sizes are dropped,
    and not made up on the way back.

    Args:
        state: The tower's state dict, names without prefix.
        to: ``"transformers"`` for ``Swinv2Model``, ``"timm"`` for ``SwinTransformerV2(num_classes=0)``; ``"papers"``
            from either of the two.

    Returns:
        The state dict, to be loaded strictly.

    Raises:
        CheckpointError: Names are missing or unknown; the message lists them all.
        ValueError: If ``to`` is none of the three.

    Example:
        >>> import torch
        >>> try:
        ...     swinv2({"layers.0.blocks.0.norm1.weight": torch.ones(8)}, to="timm")
        ... except ValueError as error:
        ...     print(str(error)[:73])
        not a whole state dict of this tower; missing keys: layers.0.blocks.0.att
    """
    if to not in (*_TARGETS, "papers"):
        raise ValueError(f"to must be one of {', '.join(_TARGETS)}, papers, got {to!r}")
    bare = bare_state(state)
    if to == "papers":
        source = "transformers" if any(key.startswith("encoder.") for key in bare) else "timm"
        return _TARGETS[source].restore(bare)
    return _TARGETS[to].rename(bare)
