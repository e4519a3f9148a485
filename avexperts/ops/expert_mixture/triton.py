from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from avexperts.ops._precision import no_autocast, widen
from avexperts.ops.expert_mixture._expert import Expert
from avexperts.ops.expert_mixture._fold import fold
from avexperts.ops.expert_mixture._folded import mix_folded
from avexperts.ops.expert_mixture.fused import widened

_LARGEST = {"hidden channels of all experts": 512, "latent tokens of all experts": 128}


def mix_by_triton(x: Tensor, probs: Tensor, experts: Sequence[Expert], *, wide: bool = False) -> Tensor:
    """Compute :func:`mix_experts` in one kernel, and return it in the dtype of ``x`` or, if ``wide``, in float32.

    What :func:`why_not_triton` names is left to other forms.

    Example:
        >>> import torch
        >>> why_not_triton(torch.ones(1, 3, 4), [Expert(torch.ones(2, 4), torch.ones(4, 2))]) is None
        True
    """
    with no_autocast(x):
        ordered = sorted(range(len(experts)), key=lambda index: experts[index].read is None)
        probs = widen(probs if ordered == list(range(len(experts))) else probs[:, ordered])
        experts = [widened(experts[index]) for index in ordered]
        first = experts[0]
        eps = [-1.0 if norm is None else norm.eps for norm in (first.pre_norm, first.post_norm)]
        activations = [expert.activation or "none" for expert in experts]
        cross = sum(expert.read is not None for expert in experts)
        return mix_folded(x, list(fold(x, probs, experts)), activations, cross, first.scale, *eps, wide)


def why_not_triton(x: Tensor, experts: Sequence[Expert]) -> str | None:
    """Say what about these experts the kernel does not know, or ``None``.

    Example:
        >>> import torch
        >>> expert = Expert(torch.ones(2, 4), torch.ones(4, 2))
        >>> why_not_triton(torch.ones(1, 3, 4), [expert, expert._replace(down=torch.ones(4, 4), up=torch.ones(4, 4))])
        'the experts differ in hidden channels'
    """
    cross = [expert for expert in experts if expert.read is not None]
    norms = [norm for expert in experts for norm in (expert.down_norm, expert.up_norm)]
    if any(norm is not None and norm.training for norm in norms):
        return "batch norms that train need the statistics of all tokens first"
    alike: dict[str, set[Any]] = {
        "hidden channels": {len(expert.down) for expert in experts},
        "latent tokens": {expert.read.shape[1] for expert in cross if expert.read is not None},
        "scale": {expert.scale for expert in cross},
        "the layer norm on the tokens": {expert.pre_norm and expert.pre_norm.eps for expert in experts},
        "the layer norm on the output": {expert.post_norm and expert.post_norm.eps for expert in experts},
    }
    for what, values in alike.items():
        if len(values) > 1:
            return f"the experts differ in {what}"
    hidden = sum(len(expert.down) for expert in experts)
    latents = sum(expert.read.shape[1] for expert in cross if expert.read is not None)
    for (what, most), size in zip(_LARGEST.items(), (hidden, latents), strict=True):
        if size > most:
            return f"{size} {what}: the kernel holds at most {most}"
    return None
