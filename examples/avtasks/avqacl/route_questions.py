from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import avexperts as ax

from .anchor_hook import routing_features
from .open_model import TEMPLATES
from .open_run import Run
from .question_items import QuestionItems, encode_prompts
from .with_tokens import with_tokens

ORDER = ("image", "text", "video", "audio")  # of the published names of combinations


class RouteTable(NamedTuple):
    """How much each question resembles each task, for every way of choosing an expert.

    Attributes:
        tasks: The K tasks.
        truth: Position of each question's own task, ``(N,)``.
        similarity: By way of choosing, ``(N, K)``; of the first s tasks alone it is the first s columns.
        cosines: Of each modality, ``(N, K)``.

    Example:
        >>> table = RouteTable(("a", "b"), torch.tensor([1]), {"text": torch.tensor([[0.9, 0.1]])}, {})
        >>> table.choose("text").tolist(), table.choose("oracle").tolist()
        ([0], [1])
    """

    tasks: tuple[str, ...]
    truth: Tensor
    similarity: dict[str, Tensor]
    cosines: dict[str, Tensor]

    def choose(self, way: str, limit: int | None = None, seed: int = 0) -> Tensor:
        """Choose an expert for each question, among the first tasks.

        Args:
            way: Key of ``similarity``, ``"oracle"`` or ``"random"``.
            limit: How many tasks there are yet; all by default.
            seed: Of the random choice.

        Returns:
            Positions ``(N,)``.
        """
        count = len(self.tasks) if limit is None else limit
        if way == "oracle":
            return self.truth.clamp(max=count - 1)
        if way == "random":
            numbers = torch.Generator().manual_seed(1000 * seed + count)
            return torch.randint(count, (len(self.truth),), generator=numbers)
        return self.similarity[way][:, :count].argmax(1)


def route_table(run: Run, bank: ax.AnchorBank) -> RouteTable:
    """Compare all test questions with all anchors, and with all questions of training, once.

    Args:
        run: Has the questions.
        bank: Anchors of the run's tasks.

    Raises:
        ValueError: The anchors are not those of the tasks.
    """
    if tuple(bank.names) != tuple(run.tasks):
        raise ValueError(f"anchors of {', '.join(bank.names)}, but the tasks are {', '.join(run.tasks)}")
    test = [run.items["test"][task] for task in run.tasks]
    found = _features(run)
    masks = {name.removesuffix(" there"): found.pop(name) for name in list(found) if name.endswith(" there")}
    present = [name for name in ORDER if name in found and masks.get(name, torch.ones(1)).any()]
    router = ax.CosineAnchorRouter(present)
    routing = router(found, bank, mask=masks)
    cosines = {name: routing.per_modality[..., place] for place, name in enumerate(routing.modalities)}
    similarity = {"all": routing.similarity}
    for size in range(1, len(present)):
        for names in combinations(present, size):
            similarity["_".join(names)] = ax.CosineAnchorRouter(names)(found, bank, mask=masks).similarity
    similarity["nearest question"] = _nearest(run, found["text"])
    truth = torch.cat([torch.full((len(items),), number) for number, items in enumerate(test)])
    return RouteTable(run.tasks, truth, similarity, cosines)


class _Prompts(Dataset):
    """Test questions without their answers, filled to one length."""

    def __init__(self, run: Run, items: QuestionItems) -> None:
        self.items = items
        self.words = encode_prompts(items.samples, run.tokenizer, TEMPLATES[run.settings.model.template])

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.items.media(index) | {name: value[index] for name, value in self.words.items()}


def _features(run: Run) -> dict[str, Tensor]:
    """Routing features of all test questions by modality, and as ``"MODALITY there"`` which of them have it."""
    # not over all processes: the main one evaluates alone
    prompts = [_Prompts(run, run.items["test"][task]) for task in run.tasks]
    found = [_one_batch(run, batch) for part in prompts for batch in DataLoader(part, run.settings.batch_size)]
    return {name: torch.cat([part[name] for part in found]).cpu() for name in found[0]}


def _one_batch(run: Run, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    # the published program counts padding while anchors are gathered, and never in a test question
    words, device = replace(run.settings.anchors, count_pad=False), next(run.model.parameters()).device
    batch = {name: value.to(device) for name, value in batch.items()}
    features, masks = routing_features(run.model, with_tokens(run.model, batch), words)
    return features | {f"{name} there": mask for name, mask in masks.items()}


def _nearest(run: Run, asked: Tensor) -> Tensor:
    """Cosine to the nearest training question of each task; among equal ones, the task that asks it more often."""
    columns, device = [], next(run.model.parameters()).device
    for task in run.tasks:
        samples = run.items["train"][task].samples
        counts = Counter(sample.question for sample in samples)
        firsts = {sample.question: sample for sample in reversed(samples)}
        words = encode_prompts(list(firsts.values()), run.tokenizer, TEMPLATES[run.settings.model.template])
        words = {name: value.to(device) for name, value in words.items()}
        known = run.model.text_feature(**words, text_span=run.settings.anchors.text_span).cpu()
        shares = torch.tensor([counts[question] / len(samples) for question in firsts])
        cosines = F.normalize(asked, dim=1) @ F.normalize(known, dim=1).T
        columns.append((cosines + 1e-4 * shares).max(1).values)
    return torch.stack(columns, 1)
