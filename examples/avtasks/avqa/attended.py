from __future__ import annotations

import torch
from avtasks.media.frames import IMAGENET_MEAN, IMAGENET_STD
from avtasks.report import Attended
from torch import Tensor

from .dataset import MusicAVQADataset


def attended(dataset: MusicAVQADataset, answers: dict[str, Tensor], count: int) -> list[Attended]:
    """Pick questions of all types, and what a model attended to when it answered them.

    Args:
        dataset: The split that was answered.
        answers: Of a trained row, see :func:`read_answers`.
        count: How many questions.

    Returns:
        What :func:`draw_attention` draws: at most one question about a clip, the types taking turns.
    """
    types, found = dataset.types(), []
    for item in range(0, len(dataset), max(len(dataset) // count, 1)):
        wanted = (types[item] + len(found)) % 9  # another type comes first for each picture
        place = int(torch.where(types[item] >= 0, wanted, 9).argmin())
        found.append(_attended(dataset, answers, item, place))
    return found[:count]


def _attended(dataset: MusicAVQADataset, answers: dict[str, Tensor], item: int, place: int) -> Attended:
    question = dataset.media[item].clip.questions[place]
    said = dataset.vocabulary.answers[answers["predictions"][item, place]]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return Attended(
        f"{question.type}: {question.text}? {question.answer} (said: {said})",
        dataset[item]["frames"] * std + mean,
        answers["space"][item],
        {"vision": answers["vision_time"][item, place], "audio": answers["audio_time"][item, place]},
    )
