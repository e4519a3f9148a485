from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from avtasks.media import check_frames, check_waveform, load_frames, load_waveform
from torch import Tensor
from torch.utils.data import Dataset

from .question import Question
from .read_questions import read_questions
from .templates import TYPES
from .vocabulary import LENGTH, Vocabulary

SPLITS = ("train", "val", "test")
NO_ANSWER = -100  # what cross-entropy passes over


class AskedVideo(NamedTuple):
    """One video with questions about it.

    Attributes:
        video_id: Name of its media.
        frames: Folder of JPEGs.
        sound: ``.npy`` file.
        questions: What is asked.

    Example:
        >>> AskedVideo("0001", Path("frames/0001"), Path("audio_wave/0001.npy"), ()).sound.name
        '0001.npy'
    """

    video_id: str
    frames: Path
    sound: Path
    questions: tuple[Question, ...]


class MusicAVQADataset(Dataset):
    """One split of MUSIC-AVQA in the layout of the papers' programs (Li et al., CVPR 2022).

    The folder holds ``json_update/avqa-SPLIT.json`` (else ``json/avqa-SPLIT.json``), ``frames/ID/00000001.jpg``, ...
    and ``audio_wave/ID.npy`` with 320000 samples. Words and answers are those of the training file, of ``json`` where
    that is there. Everything is checked when it is built: rows, words, answers, and every media file.

    Args:
        folder: The dataset.
        split: ``"train"``, ``"val"`` or ``"test"``.
        frame_size: Height and width of the pictures.
        together: Most questions about one video in one item, which a model answers in one pass of its towers. 1 gives
            the rows of the file in their order, as in the papers' programs.
        allow_missing: Leave out questions about videos whose media are absent, and list those in :attr:`missing`;
            without it they are an error. Media that are there but damaged are always one.

    Attributes:
        vocabulary: Words and answers.
        media: The items: videos with their questions.
        missing: One line for each video that was left out.

    Raises:
        FileNotFoundError: A file or folder of the layout is absent, or no video of the split has its media.
        ValueError: A question or a media file is damaged; the message names it.

    Example:
        >>> MusicAVQADataset("no/such/folder", "train")
        Traceback (most recent call last):
        ...
        FileNotFoundError: no/such/folder: no such folder
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        frame_size: tuple[int, int] = (192, 192),
        together: int = 1,
        allow_missing: bool = True,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if together < 1:
            raise ValueError(f"together must be at least 1, got {together}")
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
        self.frame_size, self.together = frame_size, together
        self.vocabulary = Vocabulary.of(read_questions(_question_file(folder, "train", ("json", "json_update"))))
        path = _question_file(folder, split, ("json_update", "json"))
        questions = read_questions(path)
        _check_words(questions, self.vocabulary, path)
        found, self.missing = _find_media(folder, list(dict.fromkeys(question.video_id for question in questions)))
        if self.missing and (not found or not allow_missing):
            what = f"{len(self.missing)} of the {split} videos have no media in {folder}"
            raise FileNotFoundError(f"{what}: " + "; ".join(self.missing[:5]))
        groups = _group([question for question in questions if question.video_id in found], together)
        self.media = [AskedVideo(group[0].video_id, *found[group[0].video_id], tuple(group)) for group in groups]

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Read one video and its questions.

        Args:
            index: Position of the item.

        Returns:
            ``frames`` ``(10, 3, H, W)`` normalised for ImageNet towers, ``waveform`` ``(10, 32000)``, ``question``
            ``(together, 14)`` word indices and ``answer`` ``(together,)``, -100 where there is no question.
        """
        video = self.media[index]
        return {
            "frames": load_frames(video.frames, self.frame_size),
            "waveform": load_waveform(video.sound),
            "question": self._questions(video),
            "answer": self._answers(video),
        }

    def questions(self) -> Tensor:
        """Words of all questions without reading any media, ``(len, together, 14)``."""
        return torch.stack([self._questions(video) for video in self.media])

    def answers(self) -> Tensor:
        """True answers, ``(len, together)``, -100 where there is no question."""
        return torch.stack([self._answers(video) for video in self.media])

    def types(self) -> Tensor:
        """Which of ``TYPES`` each question is, ``(len, together)``, -1 where there is no question."""
        rows = [[TYPES.index(question.type) for question in video.questions] for video in self.media]
        return torch.tensor([row + [-1] * (self.together - len(row)) for row in rows])

    def _questions(self, video: AskedVideo) -> Tensor:
        asked = torch.zeros(self.together, LENGTH, dtype=torch.long)
        for row, question in zip(asked, video.questions, strict=False):
            row[:] = self.vocabulary.encode(question)
        return asked

    def _answers(self, video: AskedVideo) -> Tensor:
        labels = [self.vocabulary.label(question) for question in video.questions]
        return torch.tensor(labels + [NO_ANSWER] * (self.together - len(labels)))


def _question_file(folder: Path, split: str, places: Sequence[str]) -> Path:
    files = [folder / place / f"avqa-{split}.json" for place in places]
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder}: no {places[0]}/avqa-{split}.json and no {places[1]}/avqa-{split}.json")
    return found


def _check_words(questions: list[Question], vocabulary: Vocabulary, path: Path) -> None:
    for number, question in enumerate(questions, start=1):
        try:
            vocabulary.encode(question)
            vocabulary.label(question)
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}; both come from the training file") from None


def _find_media(folder: Path, video_ids: list[str]) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    for name in ("frames", "audio_wave"):
        if not (folder / name).is_dir():
            raise FileNotFoundError(f"{folder}: no {name}/ folder")
    found, missing, damaged = {}, [], []
    for video_id in video_ids:
        frames, sound = folder / "frames" / video_id, folder / "audio_wave" / f"{video_id}.npy"
        lacks = ["pictures"] * (not frames.is_dir()) + ["sound"] * (not sound.is_file())
        if lacks:
            missing.append(f"{video_id}: no {' and '.join(lacks)}")
            continue
        damaged += [problem for problem in (check_frames(frames), check_waveform(sound)) if problem]
        found[video_id] = (frames, sound)
    if damaged:
        first = "\n  ".join(damaged[:5])
        raise ValueError(f"{len(damaged)} damaged media files in {folder}; mend or delete them:\n  {first}")
    return found, missing


def _group(questions: list[Question], together: int) -> list[list[Question]]:
    if together == 1:
        return [[question] for question in questions]
    by_video: dict[str, list[Question]] = {}
    for question in questions:
        by_video.setdefault(question.video_id, []).append(question)
    return [rows[start : start + together] for rows in by_video.values() for start in range(0, len(rows), together)]
