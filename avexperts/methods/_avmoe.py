from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from avexperts.adapters import BottleneckAdapter, LatentCrossAdapter, LatentExchange, TokenResampler
from avexperts.experts import AdapterMoE
from avexperts.methods._assemble import assemble, gate_of_each
from avexperts.methods._remembered import remembered
from avexperts.routing import SoftRouter
from avexperts.streams import LockStep, SiteInfo, Stream


@remembered
def avmoe(
    vision: nn.Module | Stream,
    audio: nn.Module | Stream,
    *,
    frame_size: Sequence[int] | None = None,
    audio_size: Sequence[int] | None = None,
    cross_experts: int = 1,
    unimodal_experts: int = 1,
    num_latents: int = 32,
    reduction: int = 8,
    groups: int = 2,
    batch_norm: bool = False,
    pre_norm: bool = True,
    post_norm: bool = True,
    gate: bool | Mapping[str, bool] = True,
    gate_init: float = 0.0,
    latent_gate_init: float = 0.0,
    latent_init: Literal["uniform", "normal", "zeros"] = "uniform",
    latent_scale: float | Literal["sqrt"] = 1.0,
    unimodal_activation: Literal["relu", "gelu", "silu"] | None = "relu",
    token_mixing: Literal["gather", "scatter"] | None = None,
    self_attention: Literal["tokens", "frames", "batch", "latents"] | None = None,
    frames_per_clip: int | None = None,
    resampler: Literal["dense", "lowrank", "interpolate", "bicubic", "identity"] = "dense",
    router_hidden: Sequence[int] = (128, 32),
    router_noise: float = 0.0,
    balance: Literal["kl", "upstream"] = "kl",
    pairing: Literal["last_of_group", "even"] | Sequence[Mapping[str, str]] = "last_of_group",
    skip_every: int | None = None,
    stages: Sequence[int] | None = None,
    parts: Sequence[int] | None = None,
    granularity: Mapping[str, str] | None = None,
    **lockstep: Any,
) -> LockStep:
    """Mixture of audio-visual adapter experts on two frozen towers (Cheng et al., AVMoE, NeurIPS 2024).

    At every paired site each stream gets an :class:`AdapterMoE`: cross-modal experts read the other stream through
    latent tokens, unimodal ones do not, and a soft router weighs them per frame. As published, visual adapters sit
    beside attention and beside the MLP, audio adapters beside and after the whole block.

    The paper's event-localisation recipe on Swin-V2-L and HTS-AT is ``skip_every=2, batch_norm=True,
    unimodal_activation=None``; its parsing recipe ``token_mixing="scatter", unimodal_activation=None``. The others have
    ``unimodal_activation=None, gate={"vision": True, "audio": False}`` and

    - question answering: ``unimodal_experts=2, num_latents=2, groups=4``;
    - single-source segmentation: ``num_latents=87, self_attention="batch", router_noise=0.01``;
    - multi-source segmentation: ``cross_experts=2, unimodal_experts=2, skip_every=2, num_latents=87, reduction=2,
      self_attention="latents", router_noise=0.01, balance="upstream"``.

    Args:
        vision: A model that :func:`open_backbone` knows, or a stream opened with an example.
        audio: The same for sound.
        frame_size: Size of one visual input, e.g. ``(3, 192, 192)``; needed unless ``vision`` is a stream.
        audio_size: Size of one audio input, e.g. ``(1, 1001, 64)``; needed unless ``audio`` is a stream.
        cross_experts: Cross-modal experts per mixture.
        unimodal_experts: Unimodal experts per mixture.
        num_latents: Latent tokens per cross-modal expert.
        reduction: Bottleneck reduction.
        groups: Channel groups of the bottleneck.
        batch_norm: Batch norm in the bottlenecks.
        pre_norm: Layer norm before the bottleneck.
        post_norm: Layer norm after it.
        gate: Learned output scale per expert, for both streams or by stream, ``{"vision": True, "audio": False}``.
        gate_init: Where that scale starts; 0 leaves the towers' output unchanged.
        latent_gate_init: Where the gate of the latent attention starts; the paper uses 0.
        latent_init: Initialisation of the latent tokens.
        latent_scale: Factor on the latent attention's logits; the paper uses 1, ``"sqrt"`` is ``D ** -0.5``.
        unimodal_activation: Of the unimodal experts; the paper has none.
        token_mixing: See :class:`BottleneckAdapter`; for the unimodal experts.
        self_attention: See :class:`BottleneckAdapter`; for the unimodal experts. With ``"latents"`` they have
            latent tokens of their own, ``num_latents`` each.
        frames_per_clip: For ``self_attention="frames"``.
        resampler: Kind of :class:`TokenResampler`. Dense token weights are most of the parameters.
        router_hidden: Hidden widths of the router.
        router_noise: Standard deviation of the noise on the router's logits while training.
        balance: What ``out.aux_loss`` sums: the mode of :func:`load_balance`.
        pairing: See :func:`pair_sites`.
        skip_every: Leave out every n-th stage.
        stages: Only these stages, from 0.
        parts: Only these sites of each block, from 0.
        granularity: Per stream ``"sublayer"`` or ``"block"``; by default as published.
        **lockstep: ``taps``, ``towers``, ``checkpoint`` of :class:`LockStep`.

    Returns:
        The model; its towers are frozen, and as long as ``gate_init`` is 0 they compute what they did.

    Raises:
        TypeError: A tower is unknown to :func:`open_backbone`.
        ValueError: The towers cannot be paired, widths do not divide, or ``gate`` names other streams.

    Example:
        >>> from transformers import ASTConfig, ASTModel, ViTConfig, ViTModel
        >>> import torch
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        >>> vit = ViTModel(ViTConfig(image_size=32, **size))
        >>> ast = ASTModel(ASTConfig(max_length=32, num_mel_bins=32, **size))
        >>> model = avmoe(vit, ast, frame_size=(3, 32, 32), audio_size=(32, 32), router_hidden=(8,))
        >>> out = model(vision=torch.randn(2, 3, 32, 32), audio=torch.randn(2, 32, 32))
        >>> out.vision.shape, len(out.routing)
        (torch.Size([2, 5, 16]), 8)
    """
    bottleneck: dict[str, Any] = {
        "reduction": reduction,
        "groups": groups,
        "batch_norm": batch_norm,
        "pre_norm": pre_norm,
        "post_norm": post_norm,
        "gate_init": gate_init,
    }
    gates = gate_of_each(gate)

    def build(stream: str, own: SiteInfo, others: list[SiteInfo]) -> AdapterMoE:
        scale = own.dim**-0.5 if latent_scale == "sqrt" else latent_scale
        latents: dict[str, Any] = {"num_latents": num_latents, "latent_init": latent_init, "scale": scale}
        over = None if self_attention == "latents" else self_attention
        queries = cross_experts * num_latents
        return AdapterMoE(
            [
                TokenResampler(row.tokens, own.tokens, row.dim, own.dim, kind=resampler, num_queries=queries)
                for row in others
            ],
            [
                LatentCrossAdapter(
                    own.dim, latent_gate_init=latent_gate_init, gate=gates[stream], **latents, **bottleneck
                )
                for _ in others
                for _ in range(cross_experts)
            ],
            [
                BottleneckAdapter(
                    own.dim,
                    activation=unimodal_activation,
                    token_mixing=token_mixing,
                    self_attention=over,
                    frames_per_clip=frames_per_clip,
                    exchange=LatentExchange(own.dim, gate_init=latent_gate_init, **latents)
                    if self_attention == "latents"
                    else None,
                    gate=gates[stream],
                    **bottleneck,
                )
                for _ in range(unimodal_experts)
            ],
            SoftRouter(
                [own.dim] * (1 + len(others)),
                cross_experts * len(others) + unimodal_experts,
                hidden=router_hidden,
                noise_std=router_noise,
            ),
            balance=balance,
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
        **lockstep,
    )
