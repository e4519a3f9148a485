"""The frozen prefix, stored: adapters from the third stage on, in the papers' model, and from files in a small one."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import avexperts as ax

from ..case import Setting, Variant, case
from .steps import Towers, adapted, final_tokens, paper_towers, random_inputs, towers_of

_THIRD = {"skip_every": 1, "stages": (2,)}
_CLIPS, _SECONDS, _PIXELS, _RATE = 4, 10, 224, 16000
Entry = Callable[[], tuple[Mapping[str, Tensor], Mapping[str, Tensor] | None]]


def _folder_of(owner: object) -> Path:
    """A folder that goes when its owner does."""
    folder = tempfile.mkdtemp(prefix="benchmarks-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _stored(model: ax.LockStep, inputs: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> ax.PrefixCache:
    count = len(inputs["vision"])
    cache = ax.PrefixCache(_folder_of(model) / "prefix", model, [str(row) for row in range(count)], dtype=dtype)
    cache.write(range(count), model.entry_tokens(inputs))
    return cache


def _read(cache: ax.PrefixCache, device: torch.device) -> dict[str, Tensor]:
    return {name: tokens.to(device) for name, tokens in cache.read(range(len(cache))).items()}


def _variants(model: ax.LockStep, sources: Mapping[str, Entry]) -> dict[str, Variant]:
    def run(source: Entry) -> list[Tensor]:
        inputs, entry = source()
        return final_tokens(model(inputs, entry=entry))

    return {
        name: Variant(model, partial(run, source), equal="bfloat16" not in name, whole=len(sources) == 2)
        for name, source in sources.items()
    }


@case("prefix", {"papers' towers": None}, precisions=("float32",), parts=("forward", "train"))
def prefix_large(setting: Setting, _: None) -> dict[str, Variant]:
    """Without reading media: towers run whole, or entered with stored tokens."""
    towers = paper_towers(setting)
    model = adapted(towers, **_THIRD).to(setting.device)
    inputs = random_inputs(setting, towers, 20 if setting.device.type == "cuda" else 1 if setting.quick else 2)
    cache = _stored(model, inputs)
    sources: dict[str, Entry] = {
        "towers run whole": lambda: (inputs, None),
        "stored": lambda: (inputs, _read(cache, setting.device)),
    }
    return _variants(model, sources)


@case("prefix", {"miniature towers, from files": None}, precisions=("float32",), parts=("train",))
def prefix_small(setting: Setting, _: None) -> dict[str, Variant]:
    """A training step of clips of ten seconds, pictures and sounds read from files or kept."""
    towers = towers_of("miniature")
    model = adapted(towers, **_THIRD).to(setting.device)
    clips = Clips(_folder_of(model), 1 if setting.quick else _CLIPS, towers)
    inputs = clips.read(setting.device)
    kept = model.entry_tokens(inputs)
    exact, rounded = (_stored(model, inputs, dtype) for dtype in (torch.float32, torch.bfloat16))
    sources: dict[str, Entry] = {
        "from files": lambda: (clips.read(setting.device), None),
        "decoded in memory": lambda: (inputs, None),
        "prefix in memory": lambda: (inputs, kept),
        "stored": lambda: (inputs, _read(exact, setting.device)),
        "stored in bfloat16": lambda: (inputs, _read(rounded, setting.device)),
    }
    return _variants(model, sources)


class Clips:
    """Clips as the official datasets hold them: a JPEG a second and a waveform in a ``.npy`` file.

    Args:
        folder: Where they are written.
        count: How many.
        towers: They are read as these take them.
    """

    def __init__(self, folder: Path, count: int, towers: Towers) -> None:
        from PIL import Image

        self.folder, self.count, self.size = folder, count, towers.frame_size[1:]
        self.front_end = ax.HTSATFrontEnd(sample_rate=_RATE, hop_length=_RATE // 100, f_max=8000, clip_samples=None)
        coarse = torch.rand(count * _SECONDS, 3, 8, 8)
        pictures = (255 * F.interpolate(coarse, _PIXELS, mode="bicubic").clamp(0, 1)).byte().permute(0, 2, 3, 1)
        for number, picture in enumerate(pictures.numpy()):
            Image.fromarray(picture).save(folder / f"{number}.jpg")
        for number in range(count):
            np.save(folder / f"{number}.npy", np.random.default_rng(number).normal(0, 0.1, _SECONDS * _RATE))

    def read(self, device: torch.device) -> dict[str, Tensor]:
        """Decode all of them.

        Args:
            device: Where the tensors go.
        """
        from PIL import Image

        frames = []
        for number in range(self.count * _SECONDS):
            with Image.open(self.folder / f"{number}.jpg") as picture:
                frame = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
            frames.append(F.interpolate(frame, self.size, mode="bicubic", antialias=True))
        waves = [torch.from_numpy(np.load(self.folder / f"{number}.npy")).float() for number in range(self.count)]
        mels = self.front_end(torch.cat(waves).view(-1, _RATE))
        return {"vision": torch.cat(frames).to(device), "audio": mels.to(device)}
