from __future__ import annotations

from collections.abc import Sequence

from avtasks.towers import Towers

import avexperts as ax

from .adapter_settings import AdapterSettings


def couple(
    towers: Towers,
    chosen: AdapterSettings,
    experts: tuple[int, int] | None,
    *,
    final_audio_norm: bool = True,
    taps: Sequence[str] = (),
) -> ax.LockStep:
    """Open both towers, and put experts between them.

    Args:
        towers: The backbones; their parameters are frozen and shared by all models built on them.
        chosen: The adapters, and where they go.
        experts: Cross-modal and unimodal experts per site and stream; ``None`` for the bare towers.
        final_audio_norm: Apply the audio tower's last norm; the papers' programs do not.
        taps: Tokens to return besides the final ones, see :class:`avexperts.LockStep`.

    Returns:
        Both streams in lock-step.

    Example:
        >>> import torch
        >>> from avtasks.towers import build_small_towers
        >>> towers = Towers(*build_small_towers(), torch.nn.Identity(), (3, 64, 64), (1, 101, 64))
        >>> len(couple(towers, AdapterSettings(), experts=(1, 1)).couplings)
        4
    """
    vision = ax.open_backbone(towers.vision, towers.frame_size, granularity=chosen.granularity)
    audio = ax.open_backbone(towers.audio, towers.audio_size, granularity="block", final_norm=final_audio_norm)
    if experts is None:
        return ax.LockStep({"vision": vision, "audio": audio}, towers=chosen.towers, taps=taps)
    return ax.methods.avmoe(
        vision,
        audio,
        cross_experts=experts[0],
        unimodal_experts=experts[1],
        num_latents=chosen.num_latents,
        reduction=chosen.reduction,
        groups=chosen.groups,
        batch_norm=chosen.batch_norm,
        post_norm=chosen.post_norm,
        gate={"vision": chosen.gate, "audio": chosen.gate and chosen.audio_gate},
        gate_init=chosen.gate_init,
        latent_gate_init=chosen.latent_gate_init,
        latent_init=chosen.latent_init,
        latent_scale=chosen.latent_scale or "sqrt",
        unimodal_activation=None if chosen.unimodal_activation == "none" else chosen.unimodal_activation,
        token_mixing=None if chosen.token_mixing == "none" else chosen.token_mixing,
        self_attention=None if chosen.self_attention == "none" else chosen.self_attention,
        frames_per_clip=chosen.frames_per_clip or None,
        resampler=chosen.resampler,
        router_hidden=chosen.router_hidden,
        router_noise=chosen.router_noise,
        balance=chosen.balance,
        pairing=chosen.pairing,
        skip_every=chosen.skip_every or None,
        stages=chosen.stages or None,
        towers=chosen.towers,
        taps=taps,
        checkpoint=None if chosen.checkpoint == "none" else chosen.checkpoint,
    )
