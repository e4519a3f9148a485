"""How towers are recognised: by their sites, and by a sample of their numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain

import torch
from torch import nn

from avexperts.streams._stream import SiteInfo


def site_rows(sites: Sequence[SiteInfo]) -> list[str]:
    """One line per site: its name, token count and width."""
    return [f"{site.name} {site.tokens}x{site.dim}" for site in sites]


def fingerprint(rows: Sequence[str]) -> str:
    """The sha256 of a site table."""
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def weights_fingerprint(backbone: nn.Module) -> str:
    """The sha256 of up to 64 numbers of every parameter and buffer, to the last bit: one training step changes it."""
    digest = hashlib.sha256()
    for name, tensor in chain(backbone.named_parameters(), backbone.named_buffers()):
        if tensor.is_floating_point():
            count = min(64, tensor.numel())
            places = torch.arange(count, device=tensor.device) * (tensor.numel() - 1) // max(1, count - 1)
            numbers = tensor.detach().reshape(-1)[places].double().cpu()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + numbers.numpy().tobytes())
    return digest.hexdigest()
