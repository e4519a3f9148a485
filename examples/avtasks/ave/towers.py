from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from avtasks.towers import load_small_towers
from torch import Tensor, nn

import avexperts as ax


class Towers(NamedTuple):
    """Two backbones and how to feed them.

    Attributes:
        vision: The backbone that sees.
        audio: The backbone that hears.
        front_end: Maps seconds of sound at 32 kHz, ``(B, 32000)``, to what the audio backbone takes.
        frame_size: Size of one picture.
        audio_size: Size of one second after the front end.

    Example:
        >>> load_towers("small", "small").frame_size
        (3, 64, 64)
    """

    vision: nn.Module
    audio: nn.Module
    front_end: nn.Module
    frame_size: tuple[int, int, int]
    audio_size: tuple[int, int, int]


def load_towers(vision: str, audio: str, *, random: bool = False) -> Towers:
    """Load the two frozen backbones that the command line names.

    Args:
        vision: ``"small"`` or ``timm/NAME``.
        audio: ``"small"``, ``htsat:CHECKPOINT`` or ``hf:NAME``.
        random: Fresh weights instead of trained ones, except for ``"small"``.

    Returns:
        The towers.

    Raises:
        ValueError: A name has another form, or timm does not know it.
        FileNotFoundError: There is no such checkpoint.

    Example:
        >>> load_towers("resnet", "small")
        Traceback (most recent call last):
        ...
        ValueError: --vision is 'small' or timm/NAME, got 'resnet'
    """
    small_vision, small_audio = load_small_towers() if "small" in (vision, audio) else (None, None)
    seeing, frame_size = (small_vision, (3, 64, 64)) if vision == "small" else _load_vision(vision, random)
    if audio == "small":
        hearing, front_end = small_audio, ax.HTSATFrontEnd(clip_samples=None)
    else:
        hearing, front_end = _load_audio(audio, random)
    audio_size = tuple(front_end(torch.zeros(1, 32000)).shape[1:])
    return Towers(seeing, hearing, front_end, frame_size, audio_size)


def _load_vision(name: str, random: bool) -> tuple[nn.Module, tuple[int, int, int]]:
    import timm

    if not name.startswith("timm/"):
        raise ValueError(f"--vision is 'small' or timm/NAME, got {name!r}")
    name = name.removeprefix("timm/")
    if not timm.is_model(name.partition(".")[0]):
        close = timm.list_models(f"*{name[:6]}*")[:5]
        raise ValueError(f"timm has no model {name!r}" + (f"; there are {', '.join(close)}" if close else ""))
    model = timm.create_model(name, pretrained=not random)
    return model, tuple(model.pretrained_cfg["input_size"])


def _load_audio(name: str, random: bool) -> tuple[nn.Module, nn.Module]:
    from transformers import ClapAudioConfig, ClapAudioModel

    kind, _, source = name.partition(":")
    if kind == "htsat" and source:
        model = ClapAudioModel(ClapAudioConfig())
        if not random:
            model.load_state_dict(_read_htsat(Path(source)))
        return model, ax.HTSATFrontEnd()
    if kind == "hf" and source:
        model = ClapAudioModel(ClapAudioConfig()) if random else ClapAudioModel.from_pretrained(source)
        return model, nn.Sequential(
            _Resample(48000), ax.HTSATFrontEnd(sample_rate=48000, hop_length=480, clip_samples=480000)
        )
    raise ValueError(f"--audio is 'small', htsat:CHECKPOINT or hf:NAME, got {name!r}")


def _read_htsat(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such HTS-AT checkpoint; --audio htsat:FILE names one")
    state = torch.load(path, map_location="cpu", weights_only=True)
    return ax.convert.htsat(state.get("state_dict", state))


class _Resample(nn.Module):
    """Whole seconds to another sample rate, band-limited."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(waveform)
        return torch.fft.irfft(spectrum, n=self.sample_rate) * (self.sample_rate / waveform.shape[-1])
