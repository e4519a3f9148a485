from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avtasks.avlm import collate
from avtasks.clips import progress
from avtasks.training import write_atomically
from torch.utils.data import default_collate

from .open_model import TEMPLATES
from .open_run import Run
from .question_items import encode_prompts


class AnswerBook:
    """What every expert of a method says to test questions, generated once and kept on disk.

    Args:
        run: Has the model and the questions.
        folder: Of the method; answers lie in ``answers/EXPERT.json``, made anew where the expert's file has changed.
        experts: Their names, in the order of their positions.

    Attributes:
        generated: How many answers were not yet on disk.

    Raises:
        ValueError: Files of experts are missing or do not fit.
    """

    def __init__(self, run: Run, folder: Path, experts: Sequence[str]) -> None:
        self.run, self.folder, self.experts, self.generated = run, folder, list(experts), 0
        self.places = [(task, index) for task in run.tasks for index in range(len(run.items["test"][task]))]
        self.answers = {expert: self._read(expert) for expert in experts}
        run.routed.open_tasks(folder / "experts", experts, resident=1)

    def close(self) -> None:
        """Take the experts out of the model."""
        for expert in self.experts:
            self.run.routed.remove_task(expert)

    def ask(self, wanted: Mapping[str, Sequence[int]]) -> None:
        """Let experts answer what they have not yet: one after the other, so that one is in memory at a time.

        Args:
            wanted: Numbers of test questions by expert.
        """
        for expert, numbers in wanted.items():
            absent = sorted(number for number in set(numbers) if self._key(number) not in self.answers[expert])
            if absent:
                self._generate(expert, absent)
                content = {"expert": self._stamp(expert), "answers": self.answers[expert]}
                file = self._file(expert)
                write_atomically(file, lambda path, content=content: path.write_text(json.dumps(content, indent=1)))

    def said(self, expert: str, number: int) -> str:
        """Look up one answer.

        Args:
            expert: Its name.
            number: Of the test question.
        """
        return self.answers[expert][self._key(number)]

    def _generate(self, expert: str, numbers: Sequence[int]) -> None:
        run, size = self.run, self.run.settings.batch_size
        starts = range(0, len(numbers), size)
        with run.routed.route(expert):
            for start in progress(starts, f"{self.folder.name}: {expert} answers"):
                some = numbers[start : start + size]
                for number, text in zip(some, self._batch(some), strict=True):
                    self.answers[expert][self._key(number)] = text
        self.generated += len(numbers)

    def _batch(self, numbers: Sequence[int]) -> list[str]:
        model, tokenizer = self.run.model, self.run.tokenizer
        places = [self.places[number] for number in numbers]
        pairs = [(self.run.items["test"][task], index) for task, index in places]
        media = [items.media(index) for items, index in pairs]
        batch = (collate if pairs[0][0].clips is None else default_collate)(media)
        template = TEMPLATES[self.run.settings.model.template]
        batch |= encode_prompts([items.samples[index] for items, index in pairs], tokenizer, template)
        device = next(model.parameters()).device
        batch = {name: value.to(device) for name, value in batch.items()}
        said = model.generate(batch, max_new_tokens=self.run.settings.max_new_tokens)
        return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in said]

    def _key(self, number: int) -> str:
        task, index = self.places[number]
        return f"{task}/{self.run.items['test'][task].samples[index].id}"

    def _file(self, expert: str) -> Path:
        return self.folder / "answers" / f"{expert}.json"

    def _stamp(self, expert: str) -> str:
        state = (self.folder / "experts" / f"expert_{expert}.safetensors").stat()
        return f"{state.st_size} bytes of {state.st_mtime_ns}, {self.run.settings.max_new_tokens} tokens"

    def _read(self, expert: str) -> dict[str, str]:
        file = self._file(expert)
        if not file.is_file() or not (self.folder / "experts" / f"expert_{expert}.safetensors").is_file():
            return {}
        content: dict[str, Any] = json.loads(file.read_text())
        return content["answers"] if content["expert"] == self._stamp(expert) else {}
