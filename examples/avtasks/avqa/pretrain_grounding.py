from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from avtasks.model import FeatureModel, TowerModel, couple
from avtasks.study import Bench, predict
from avtasks.training import SeededClips, fit, seed_everything
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import Dataset

from .convert import convert_grounding
from .matching_head import MatchingHead, MatchingOutput
from .negatives import with_negative_tokens
from .with_negatives import WithNegatives

PREFIX = "head.grounding."


def pretrain_grounding(bench: Bench) -> Path:
    """Train the spatial grounding to tell pictures of the same second from those of other videos.

    The papers' first stage: both towers are frozen, and no question is asked. Unlike theirs it is scored on videos it
    was not trained on.

    Args:
        bench: Of :func:`add_negatives`; ``bench.settings.ground_recipe`` says how to train.

    Returns:
        The best weights, which :func:`load_grounding` reads.
    """
    settings = bench.settings
    seed_everything(settings.seed)
    head = MatchingHead(bench.build_head().grounding)
    if bench.featured:
        model: nn.Module = FeatureModel(head)
    else:
        bare = couple(bench.towers, settings.adapters, None, final_audio_norm=settings.final_audio_norm)
        model = TowerModel(bare, bench.towers.front_end, head)
    clips = bench.featured or bench.clips
    fit(
        model,
        clips["train"],
        loss=_loss,
        evaluate=lambda model: {"accuracy": matching_accuracy(model, _fixed(bench, clips["val"]))},
        recipe=settings.ground_recipe,
        out=settings.out / "grounding",
        seed=settings.seed,
        resume=settings.resume,
        label="grounding",
    )
    return settings.out / "grounding" / "best.safetensors"


def matching_accuracy(model: nn.Module, clips: Dataset) -> float:
    """Percentage of pictures that are rightly said to belong to a sound or not; half of them do.

    Args:
        model: With a :class:`MatchingHead`.
        clips: With negatives.
    """

    def right(output: MatchingOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"right": output.right()}

    return 100 * predict(_Asked(model), clips, right)[0]["right"].double().mean().item()


def load_grounding(file: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read a grounding pre-training: an earlier run's ``grounding/best.safetensors``, or the papers' ``.pt`` file.

    Args:
        file: Names the weights.
        expected: The state of the module that will load them.

    Returns:
        Weights by the names of :class:`Grounding`.

    Raises:
        ValueError: The weights are those of something else; the message names the file.

    Example:
        >>> load_grounding(Path("no/such/file.pt"), {})
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/file.pt: no such grounding weights; --grounding names them
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such grounding weights; --grounding names them")
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
            found = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
        else:
            found = convert_grounding(torch.load(file, map_location="cpu", weights_only=True), expected)
    except Exception as error:
        raise ValueError(f"{file}: cannot be read as grounding weights ({error})") from None
    wrong = [name for name in expected if name not in found or found[name].shape != expected[name].shape]
    if wrong:
        raise ValueError(f"{file}: does not fit this head; see {', '.join(wrong[:3])}")
    return found


class _Asked(nn.Module):
    """A model whose batches get their negatives."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> tuple[MatchingOutput, None]:
        return self.model(with_negative_tokens(self.model, batch))[0], None


class _Fixed(Dataset):
    """Clips whose negatives are the same in every epoch."""

    def __init__(self, clips: Dataset) -> None:
        self.clips, self.count = SeededClips(clips, seed=0), len(clips)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.clips[0, index]


def _fixed(bench: Bench, clips: Dataset) -> Dataset:
    videos = [media.clip.video_id for media in bench.splits["val"].media]
    name = bench.clips["train"].name
    return _Fixed(WithNegatives(clips, videos, name))


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return model(with_negative_tokens(model, batch))[0].losses()
