from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

_ONLY = {"activation_fn": "gelu", "layer_norm_first": False, "relative_position_embedding": True}


@dataclass(frozen=True)
class BeatsConfig:
    """Sizes of a BEATs encoder, under the names of its checkpoints; by default those of iteration 3.

    Attributes:
        input_patch_size: Side of a patch, in frames and in mel bands.
        embed_dim: Width of the patch embedding.
        conv_bias: Whether the patch embedding has a bias.
        encoder_layers: How many.
        encoder_embed_dim: Width D of the tokens.
        encoder_ffn_embed_dim: Width inside the feed-forward networks.
        encoder_attention_heads: How many.
        deep_norm: Scale residuals by ``(2 * layers) ** 0.25``.
        conv_pos: Kernel of the positional convolution, in patches.
        conv_pos_groups: Its groups.
        num_buckets: Of relative positions.
        max_distance: Offset from which all share the last bucket.
        gru_rel_pos: Gate the relative position bias by head and query.

    Example:
        >>> BeatsConfig().encoder_embed_dim
        768
    """

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    deep_norm: bool = True
    conv_pos: int = 128
    conv_pos_groups: int = 16
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True

    @classmethod
    def of(cls, cfg: Mapping[str, Any]) -> BeatsConfig:
        """Take the sizes out of a checkpoint's ``cfg``; what concerns training only is passed over.

        Args:
            cfg: As stored.

        Raises:
            ValueError: A setting that this encoder does not have, or a size is missing; it is named.
        """
        for name, value in _ONLY.items():
            if cfg.get(name, value) != value:
                raise ValueError(f"cfg: {name} is {cfg[name]!r}; only BEATs with {name}={value!r} can be read")
        missing = [field.name for field in fields(cls) if field.name not in cfg]
        if missing:
            raise ValueError(f"cfg: lacks {', '.join(missing)}: not the configuration of a BEATs encoder")
        return cls(**{field.name: cfg[field.name] for field in fields(cls)})
