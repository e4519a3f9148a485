from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from avexperts.adapters import DualGuidedAdapter, TokenResampler
from avexperts.methods._assemble import assemble, gate_of_each
from avexperts.methods._remembered import remembered
from avexperts.streams import LockStep, SiteInfo, Stream


@remembered
def dg_sct(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    *,
    frame_size: Sequence[int] | None = None,
    audio_size: Sequence[int] | None = None,
    num_latents: int = 32,
    latent_init: Literal["uniform", "normal", "zeros"] = "uniform",
    latent_scale: float = 1.0,
    latent_gate_init: float = 0.0,
    channel_weight: float = 0.3,
    spatial_weight: float = 0.05,
    gate: bool | Mapping[str, bool] = True,
    resampler: Literal["dense", "lowrank", "interpolate", "bicubic", "identity"] = "dense",
    pairing: Literal["last_of_group", "even"] | Sequence[Mapping[str, str]] = "last_of_group",
    skip_every: int | None = None,
    stages: Sequence[int] | None = None,
    parts: Sequence[int] | None = None,
    granularity: Mapping[str, str] | None = None,
    towers: Literal["frozen", "frozen-train", "trainable"] = "frozen",
    checkpoint: Literal["towers", "couplings", "all"] | None = None,
    taps: Sequence[str] = (),
    **bottleneck: Any,
) -> LockStep:
    """Dual-guided spatial and channel adapters on two frozen towers (Duan et al., DG-SCT, NeurIPS 2023).

    A :class:`DualGuidedAdapter` per stream at every paired site, placed as in :func:`avmoe`. The spatial maps are
    read at ``out.readings["spatial_map"]``; the paper pools the final tokens with the last of each stream.

    The recipes of its other programs, all with ``latent_init="zeros"``:

    - question answering: ``num_latents=2, groups=4``;
    - single-source segmentation: ``resampler="bicubic", pre_norm=False, gate_first=True``;
    - multi-source segmentation: ``reduction=2, channel_weight=0.2, spatial_weight=0.1, pre_norm=False,
      gate_first=True``.

    Args:
        vision: A model that :func:`open_backbone` knows, or a stream opened with an example.
        audio: The same for sound.
        frame_size: Size of one visual input; needed unless ``vision`` is a stream.
        audio_size: Size of one audio input; needed unless ``audio`` is a stream.
        num_latents: Latent tokens.
        latent_init: Initialisation of the latent tokens.
        latent_scale: Factor on the latent attention's logits.
        latent_gate_init: Where the gate of the latent attention starts.
        channel_weight: See :class:`DualGuidedAdapter`.
        spatial_weight: See :class:`DualGuidedAdapter`.
        gate: Learned output scale, for both streams or by stream, ``{"vision": True, "audio": False}``.
        resampler: Kind of :class:`TokenResampler`.
        pairing: See :func:`pair_sites`.
        skip_every: Leave out every n-th stage.
        stages: Only these stages, from 0.
        parts: Only these sites of each block, from 0.
        granularity: Per stream ``"sublayer"`` or ``"block"``; by default as published.
        towers: See :class:`LockStep`.
        checkpoint: See :class:`LockStep`.
        taps: See :class:`LockStep`.
        **bottleneck: Arguments of :class:`BottleneckAdapter`.

    Returns:
        The model; its towers are frozen, and a fresh model computes what they did.

    Raises:
        TypeError: A tower is unknown to :func:`open_backbone`.
        ValueError: The towers cannot be paired, or widths do not divide.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
        >>> towers = [ViTModel(ViTConfig(**size)) for _ in range(2)]
        >>> model = dg_sct(*towers, frame_size=(3, 32, 32), audio_size=(3, 32, 32))
        >>> len(model.couplings)
        4
    """
    gates = gate_of_each(gate)

    def build(stream: str, own: SiteInfo, others: list[SiteInfo]) -> DualGuidedAdapter:
        (other,) = others
        return DualGuidedAdapter(
            own.dim,
            resampler=TokenResampler(
                other.tokens, own.tokens, other.dim, own.dim, kind=resampler, num_queries=num_latents
            ),
            num_latents=num_latents,
            latent_init=latent_init,
            latent_gate_init=latent_gate_init,
            scale=latent_scale,
            channel_weight=channel_weight,
            spatial_weight=spatial_weight,
            gate=gates[stream],
            **bottleneck,
        )

    return assemble(
        build,
        {"vision": vision, "audio": audio},
        {"vision": frame_size, "audio": audio_size},
        granularity or {"vision": "sublayer", "audio": "block"},
        pairing=pairing,
        skip_every=skip_every,
        stages=stages,
        parts=parts,
        towers=towers,
        checkpoint=checkpoint,
        taps=taps,
    )
