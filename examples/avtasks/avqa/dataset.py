from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from avtasks.clips import ClipDataset
from avtasks.media import frame_numbers, load_frames, load_pictures
from torch import Tensor

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
        questions: What is asked.

    Example:
        >>> AskedVideo("00000001", ()).video_id
        '00000001'
    """

    video_id: str
    questions: tuple[Question, ...]


class MusicAVQADataset(ClipDataset):
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
        media: The items: videos with their questions, and their files.
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
        self.together = together
        self.vocabulary = Vocabulary.of(read_questions(_question_file(folder, "train", ("json", "json_update"))))
        path = _question_file(folder, split, ("json_update", "json"))
        questions = read_questions(path)
        _check_words(questions, self.vocabulary, path)
        videos = [AskedVideo(video_id, ()) for video_id in dict.fromkeys(row.video_id for row in questions)]
        super().__init__(folder, videos, frame_size=frame_size, what=split, allow_missing=allow_missing)
        files = {media.clip.video_id: media for media in self.media}
        items = _group([row for row in questions if row.video_id in files], together)
        self.media = [files[item.video_id]._replace(clip=item) for item in items]

    def truth(self, index: int) -> dict[str, Tensor]:
        """Look up what is asked about one video, and what is right.

        Args:
            index: Position of the item.

        Returns:
            ``question`` ``(together, 14)`` word indices and ``answer`` ``(together,)``, -100 where there is no
            question.
        """
        asked, answer = torch.zeros(self.together, LENGTH, dtype=torch.long), torch.full((self.together,), NO_ANSWER)
        for place, question in enumerate(self.media[index].clip.questions):
            asked[place] = self.vocabulary.encode(question)
            answer[place] = self.vocabulary.label(question)
        return {"question": asked, "answer": answer}

    def picture(self, index: int, second: int) -> Tensor:
        """Read one of the ten pictures of an item, ``(3, H, W)``.

        Args:
            index: Position of the item.
            second: Which picture, from 0.
        """
        source = self.media[index].frames
        if source.is_file():
            return load_frames(source, self.frame_size, self.segments)[second]
        number = frame_numbers(sum(1 for _ in source.glob("*.jpg")), self.segments)[second]
        return load_pictures([source / f"{number:08d}.jpg"], self.frame_size)[0]

    def answers(self) -> Tensor:
        """True answers without reading any media, ``(len, together)``, -100 where there is no question."""
        return torch.stack([self.truth(index)["answer"] for index in range(len(self))])

    def types(self) -> Tensor:
        """Which of ``TYPES`` each question is, ``(len, together)``, -1 where there is no question."""
        rows = [[TYPES.index(question.type) for question in media.clip.questions] for media in self.media]
        return torch.tensor([row + [-1] * (self.together - len(row)) for row in rows])

    def questions(self) -> list[Question]:
        """All questions, item by item."""
        return [question for media in self.media for question in media.clip.questions]


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


def _group(questions: list[Question], together: int) -> list[AskedVideo]:
    if together == 1:
        return [AskedVideo(question.video_id, (question,)) for question in questions]
    by_video: dict[str, list[Question]] = {}
    for question in questions:
        by_video.setdefault(question.video_id, []).append(question)
    return [
        AskedVideo(video_id, tuple(rows[start : start + together]))
        for video_id, rows in by_video.items()
        for start in range(0, len(rows), together)
    ]
