from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

from avtasks.avvp.splits import Truth
from torch import Tensor


class ClassPart:
    """The clips of a split that hold some of the classes, and their truth.

    Args:
        dataset: A split of AVE or LLP.
        group: Class indices: a clip belongs to the part if it is labelled with one of them.
        classes: Classes that take part in the truth; the group by default.

    Attributes:
        rows: Positions of the part's clips in the split.

    Raises:
        ValueError: No clip is labelled so.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace as Made
        >>> clips = Made(categories=("a", "b", "c"), media=[0, 1], truth=lambda n: {"labels": torch.eye(3)[n]})
        >>> ClassPart(clips, (1, 2)).rows
        [1]
    """

    def __init__(self, dataset: Any, group: Sequence[int], classes: Sequence[int] | None = None) -> None:
        self.dataset, self.group = dataset, tuple(group)
        self.classes = self.group if classes is None else tuple(classes)
        own = list(self.group)
        labelled = (dataset.truth(row)["labels"] for row in range(len(dataset.media)))
        self.rows = [row for row, labels in enumerate(labelled) if labels[..., own].any()]
        if not self.rows:
            names = ", ".join(dataset.categories[index] for index in own)
            raise ValueError(f"no clip of a split is labelled with any of {names}; give fewer --groups or more clips")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of all classes of the data set, of which its heads have a row each."""
        return self.dataset.categories

    def of(self, classes: Sequence[int]) -> ClassPart:
        """The same clips with the truth of other classes.

        Args:
            classes: Class indices.
        """
        part = copy(self)
        part.classes = tuple(classes)
        return part

    def labels(self) -> Tensor:
        """AVE: truth by second, ``(len, 10, S + 1)``, background last."""
        whole = self.dataset.labels()
        return whole[self.rows][..., columns_of(self.classes, whole.shape[-1])]

    def events(self) -> Truth:
        """LLP: truth by second and stream, ``(len, 10, S)`` each."""
        return Truth(*(part[self.rows][..., list(self.classes)] for part in self.dataset.events()))


def columns_of(classes: Sequence[int], width: int | None = None) -> list[int]:
    """Name the columns of some classes, and the last one of ``width``, background, where that is given.

    Args:
        classes: Class indices.
        width: Columns with background; none where there is no background.

    Example:
        >>> columns_of((2, 4), 29)
        [2, 4, 28]
    """
    return [*classes] if width is None else [*classes, width - 1]
