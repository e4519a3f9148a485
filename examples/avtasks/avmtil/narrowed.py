# Shapes: B clips, T seconds, C classes, S of them that take part.
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from avtasks.ave import AVEOutput, SegmentOutput
from avtasks.avvp import AVVPOutput
from avtasks.study import Task
from torch import Tensor

from .class_part import columns_of
from .paper import EventOutput


def narrowed(task: Task, classes: Sequence[int]) -> Task:
    """Let only some classes take part: in the loss those of one group, at test those learned so far.

    The head keeps a row for every class; those left out compete with nothing and get no gradient.

    Args:
        task: AVE's or LLP's.
        classes: Class indices.

    Returns:
        The same task; its answers and truth are numbered as ``classes``, AVE's background after them.

    Example:
        >>> import torch
        >>> from avtasks import ave
        >>> task = narrowed(ave.TASK, (2, 4))
        >>> task.answer(SegmentOutput(torch.eye(6)[[4, 5]][None]), {})["predictions"]
        tensor([[1, 2]])
    """

    def loss(model: Callable, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        def run(inputs: dict[str, Tensor]) -> tuple[Any, Any]:
            output, towers = model(inputs)
            return _narrow(output, classes), towers

        return task.loss(run, batch | {"labels": batch["labels"][..., _columns(batch["labels"], classes)]})

    return replace(
        task,
        loss=loss,
        answer=lambda output, batch: task.answer(_narrow(output, classes), batch),
        score=lambda answers, part: task.score(answers, part.of(classes)),
    )


def _columns(labels: Tensor, classes: Sequence[int]) -> list[int]:
    return columns_of(classes, labels.shape[-1] if labels.ndim == 3 else None)


def _narrow(output: Any, classes: Sequence[int]) -> Any:
    own = list(classes)
    if isinstance(output, AVEOutput):
        return output._replace(event=output.event[:, own], activation=output.activation[:, own])
    if isinstance(output, SegmentOutput):
        return output._replace(logits=output.logits[..., columns_of(own, output.logits.shape[-1])])
    if isinstance(output, EventOutput):
        columns = columns_of(own, output.vision.shape[-1] if output.background else None)
        return output._replace(vision=output.vision[..., columns], audio=output.audio[..., columns])
    if isinstance(output, AVVPOutput):
        tokens = {name: getattr(output, name)[own][:, own] for name in ("audio_classes", "visual_classes")}
        rest = [name for name in output._fields if name not in tokens]
        return output._replace(**tokens, **{name: getattr(output, name)[..., own] for name in rest})
    raise TypeError(f"classes of {type(output).__name__} cannot be learned in groups")
