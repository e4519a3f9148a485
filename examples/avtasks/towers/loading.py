from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor, nn

import avexperts as ax

from .small_towers import load_small_towers
from .towers import Towers


def load_towers(vision: str, audio: str, *, random: bool = False, clip_seconds: int = 10) -> Towers:
    """Load the two frozen backbones that the command line names.

    Args:
        vision: ``"small"`` or ``timm/NAME``.
        audio: ``"small"``, ``htsat:CHECKPOINT`` or ``hf:NAME``.
        random: Fresh weights instead of trained ones, except for ``"small"``.
        clip_seconds: How long HTS-AT's front end makes a second by repeating it.

    Returns:
        The towers.

    Raises:
        ValueError: A name has another form, timm does not know it, or a checkpoint holds something else.
        FileNotFoundError: There is no such checkpoint.

    Example:
        >>> load_towers("resnet", "small")
        Traceback (most recent call last):
        ...
        ValueError: --vision is 'small' or timm/NAME, got 'resnet'
    """
    if vision != "small" and not vision.startswith("timm/"):
        raise ValueError(f"--vision is 'small' or timm/NAME, got {vision!r}")
    if audio != "small" and not re.fullmatch(r"(htsat|hf):.+", audio):
        raise ValueError(f"--audio is 'small', htsat:CHECKPOINT or hf:NAME, got {audio!r}")
    seeing, frame_size = _load_vision(vision, random)
    hearing, front_end = _load_audio(audio, random, clip_seconds)
    audio_size = tuple(front_end(torch.zeros(1, 32000)).shape[1:])
    return Towers(seeing, hearing, front_end, frame_size, audio_size)


def _load_vision(name: str, random: bool) -> tuple[nn.Module, tuple[int, int, int]]:
    import timm

    if name == "small":
        return load_small_towers()[0], (3, 64, 64)
    name = name.removeprefix("timm/")
    if not timm.is_model(name.partition(".")[0]):
        close = timm.list_models(f"*{name[:6]}*")[:5]
        raise ValueError(f"timm has no model {name!r}" + (f"; there are {', '.join(close)}" if close else ""))
    model = timm.create_model(name, pretrained=not random)
    return model, tuple(model.pretrained_cfg["input_size"])


def _load_audio(name: str, random: bool, clip_seconds: int) -> tuple[nn.Module, nn.Module]:
    from transformers import ClapAudioConfig, ClapAudioModel

    if name == "small":
        return load_small_towers()[1], ax.HTSATFrontEnd(clip_samples=None)
    kind, _, source = name.partition(":")
    if kind == "hf":
        model = ClapAudioModel(ClapAudioConfig()) if random else ClapAudioModel.from_pretrained(source)
        front_end = ax.HTSATFrontEnd(sample_rate=48000, hop_length=480, clip_samples=480000)
        return model, nn.Sequential(_Resample(48000), front_end)
    model = ClapAudioModel(ClapAudioConfig(hidden_dropout_prob=0.0, drop_path_rate=0.1))
    if not random:
        model.load_state_dict(_read_htsat(Path(source)))
    return model, ax.HTSATFrontEnd(clip_samples=clip_seconds * 32000)


def _read_htsat(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return ax.convert.htsat(state.get("state_dict", state))
    except (ax.CheckpointError, RuntimeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path}: not a checkpoint of HTS-AT ({error.args[0]})") from None


class _Resample(nn.Module):
    """Whole seconds to another sample rate, band-limited."""

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate

    def forward(self, waveform: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(waveform)
        return torch.fft.irfft(spectrum, n=self.sample_rate) * (self.sample_rate / waveform.shape[-1])
