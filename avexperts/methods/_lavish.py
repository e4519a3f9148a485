from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from avexperts.adapters import LatentCrossAdapter, TokenResampler
from avexperts.methods._assemble import assemble
from avexperts.methods._remembered import remembered
from avexperts.streams import LockStep, SiteInfo, Stream


@remembered
def lavish(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    *,
    frame_size: Sequence[int] | None = None,
    audio_size: Sequence[int] | None = None,
    num_latents: int = 2,
    latent_init: Literal["uniform", "normal", "zeros"] = "uniform",
    latent_scale: float = 1.0,
    latent_gate_init: float = 0.0,
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
    """Latent audio-visual hybrid adapters on two frozen towers (Lin et al., LAVisH, CVPR 2023).

    A :class:`LatentCrossAdapter` per stream beside attention and beside the MLP of every paired block. The other
    stream is read as it is; where the widths differ, a linear map brings its channels to the own width. The paper
    sends spectrogram images through a copy of the visual tower, so its widths agree.

    Args:
        vision: A model that :func:`open_backbone` knows, or a stream opened with an example.
        audio: The same for sound.
        frame_size: Size of one visual input; needed unless ``vision`` is a stream.
        audio_size: Size of one audio input; needed unless ``audio`` is a stream.
        num_latents: Latent tokens; the paper uses 2 on Swin, its author advises 8 on ViT-B.
        latent_init: Initialisation of the latent tokens.
        latent_scale: Factor on the latent attention's logits.
        latent_gate_init: Where the gate of the latent attention starts.
        pairing: See :func:`pair_sites`.
        skip_every: Leave out every n-th stage.
        stages: Only these stages, from 0.
        parts: Only these sites of each block, from 0.
        granularity: Per stream ``"sublayer"`` (default) or ``"block"``.
        towers: See :class:`LockStep`.
        checkpoint: See :class:`LockStep`.
        taps: See :class:`LockStep`.
        **bottleneck: Arguments of :class:`BottleneckAdapter`: ``reduction``, ``groups``, ``batch_norm``, ...

    Returns:
        The model; its towers are frozen, and a fresh model computes what they did.

    Raises:
        TypeError: A tower is unknown to :func:`open_backbone`.
        ValueError: The towers cannot be paired, or widths do not divide.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
        >>> towers = [ViTModel(ViTConfig(**size)) for _ in range(2)]
        >>> model = lavish(*towers, frame_size=(3, 32, 32), audio_size=(3, 32, 32))
        >>> len(model.couplings)
        4
    """

    def build(stream: str, own: SiteInfo, others: list[SiteInfo]) -> LatentCrossAdapter:
        (other,) = others
        bridge = TokenResampler(other.tokens, own.tokens, other.dim, own.dim, kind="identity")
        return LatentCrossAdapter(
            own.dim,
            num_latents=num_latents,
            latent_init=latent_init,
            latent_gate_init=latent_gate_init,
            scale=latent_scale,
            resampler=None if other.dim == own.dim else bridge,
            **bottleneck,
        )

    return assemble(
        build,
        {"vision": vision, "audio": audio},
        {"vision": frame_size, "audio": audio_size},
        granularity or {"vision": "sublayer", "audio": "sublayer"},
        pairing=pairing,
        skip_every=skip_every,
        stages=stages,
        parts=parts,
        towers=towers,
        checkpoint=checkpoint,
        taps=taps,
    )
