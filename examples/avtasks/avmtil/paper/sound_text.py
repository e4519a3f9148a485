from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from avtasks.training import write_atomically
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

START = "The sounds of "


@torch.no_grad()
def sound_text(
    names: Sequence[str],
    tower: nn.Module,
    projection: nn.Module,
    tokenize: Callable[[list[str]], dict[str, Tensor]],
    cache: Path | None = None,
) -> Tensor:
    """Features of the classes' names from CLAP's frozen text tower; computed once, and kept in a file.

    Args:
        names: Of the classes, as the dataset writes them.
        tower: The ``text_model`` of transformers' CLAP.
        projection: Its ``text_projection``.
        tokenize: Maps texts to ``input_ids`` and ``attention_mask``.
        cache: Folder to keep the features in; the file's name tells names and tower apart.

    Returns:
        ``(C, E)``.

    Example:
        >>> from transformers import ClapTextConfig, ClapTextModel
        >>> size = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
        >>> tower = ClapTextModel(ClapTextConfig(vocab_size=50, **size))
        >>> ids = lambda texts: {"input_ids": torch.tensor([[3 + len(text) % 9] * 4 for text in texts])}
        >>> sound_text(["Bark", "Church bell"], tower, nn.Linear(16, 8), ids).shape
        torch.Size([2, 8])
    """
    texts = [START + name for name in names]
    file = cache / f"sound-text-{_key(texts, nn.ModuleList([tower, projection]))}.safetensors" if cache else None
    if file and file.is_file():
        return load_file(file)["features"]
    features = projection(tower.eval()(**tokenize(texts)).pooler_output).contiguous()
    if file:
        write_atomically(file, lambda path: save_file({"features": features}, path))
    return features


def _key(texts: list[str], tower: nn.Module) -> str:
    found = hashlib.sha256("\n".join(texts).encode())
    for name, value in tower.state_dict().items():
        found.update(name.encode() + value.cpu().numpy().tobytes())
    return found.hexdigest()[:16]
