"""Miniatures of the papers' backbones: a Swin-V2 for 64 x 64 pixels and an HTS-AT for one second of sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

if TYPE_CHECKING:
    from timm.models.swin_transformer_v2 import SwinTransformerV2
    from transformers import ClapAudioModel

HERE = Path(__file__).parent
FRAME_SIZE = (3, 64, 64)
AUDIO_SIZE = (1, 101, 64)  # log-mel of one second
VISION = {
    "img_size": 64,
    "patch_size": 4,
    "embed_dim": 32,
    "depths": [1, 2, 2],
    "num_heads": [2, 4, 8],
    "window_size": 4,
}
AUDIO = {
    "spec_size": 128,
    "num_mel_bins": 64,
    "patch_size": 8,
    "patch_stride": [8, 8],
    "patch_embeds_hidden_size": 32,
    "depths": [1, 2, 2],
    "num_attention_heads": [2, 4, 8],
    "window_size": 4,
    "hidden_size": 128,
    "drop_path_rate": 0.0,
    "enable_fusion": False,
}


def build_small_towers(
    vision: dict[str, Any] | None = None, audio: dict[str, Any] | None = None
) -> tuple[SwinTransformerV2, ClapAudioModel]:
    """Make the two towers with fresh weights: stages of 256, 64 and 16 tokens, 32, 64 and 128 wide.

    Args:
        vision: Arguments of timm's ``SwinTransformerV2``; those of the shipped tower by default.
        audio: Arguments of transformers' ``ClapAudioConfig``; those of the shipped tower by default.

    Returns:
        The tower that sees frames ``(B, 3, 64, 64)`` and the one that hears log-mels ``(B, 1, 101, 64)``.

    Example:
        >>> vision, audio = build_small_towers()
        >>> vision(torch.zeros(1, *FRAME_SIZE)).shape, audio(torch.zeros(1, *AUDIO_SIZE)).pooler_output.shape
        (torch.Size([1, 128]), torch.Size([1, 128]))
    """
    from timm.models.swin_transformer_v2 import SwinTransformerV2
    from transformers import ClapAudioConfig, ClapAudioModel

    seeing = SwinTransformerV2(num_classes=0, drop_path_rate=0.0, **(vision or VISION))
    hearing = ClapAudioModel(ClapAudioConfig(**(audio or AUDIO)))
    return seeing.eval(), hearing.eval()


def save_small_towers(
    vision: nn.Module, audio: nn.Module, folder: str | Path, training: dict[str, Any] | None = None
) -> None:
    """Write both towers, weights in half precision, and ``small_towers.json`` saying how they were trained.

    Args:
        vision: The tower that sees.
        audio: The tower that hears.
        folder: Where to; made if absent.
        training: What made the weights, stored as it is.

    Example:
        >>> import tempfile
        >>> save_small_towers(*build_small_towers(), tempfile.mkdtemp())
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, tower in (("vision", vision), ("audio", audio)):
        weights = {key: _halved(value) for key, value in tower.state_dict().items()}
        save_file(weights, folder / f"small_{name}.safetensors", {"format": "pt"})
    card = {"vision": VISION, "audio": AUDIO, "training": training or {}}
    (folder / "small_towers.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def load_small_towers(folder: str | Path = HERE) -> tuple[SwinTransformerV2, ClapAudioModel]:
    """Load the shipped towers: pre-trained on unimodal labels of procedural things, in a clean domain.

    Each learnt to name 356 things, and what they are made of, from single pictures or single sounds; none of
    them is among the 28 that the forged datasets hold. ``towers_train.py`` is the program and
    ``small_towers.json`` states its settings.

    Args:
        folder: Where ``small_towers.json`` and the two weight files are.

    Returns:
        The tower that sees and the one that hears, float32, in eval mode.

    Raises:
        FileNotFoundError: A file is missing; the message names it.
        ValueError: The weights do not belong to these towers; the message names the file and the keys.

    Example:
        >>> vision, audio = load_small_towers()
        >>> vision.num_features, audio.config.hidden_size
        (128, 128)
    """
    folder = Path(folder)
    names = ("small_towers.json", "small_vision.safetensors", "small_audio.safetensors")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: no {', '.join(missing)}; `towers_train.py --out {folder}` makes them")
    card = json.loads((folder / names[0]).read_text(encoding="utf-8"))
    vision, audio = build_small_towers(card["vision"], card["audio"])
    _load(vision, folder / names[1])
    _load(audio, folder / names[2])
    return vision, audio


def _load(tower: nn.Module, path: Path) -> None:
    wanted, given = tower.state_dict(), load_file(path)
    wrong = sorted(wanted.keys() ^ given.keys())
    wrong += [key for key in wanted.keys() & given.keys() if wanted[key].shape != given[key].shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path}: not the weights of this tower; see {', '.join(wrong[:3])}{more}")
    tower.load_state_dict(given)


def _halved(value: torch.Tensor) -> torch.Tensor:
    return value.half().contiguous() if value.is_floating_point() else value.contiguous()
