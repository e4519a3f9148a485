from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avtasks.training import write_atomically
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

LABELS = "avmtil"


class StateStore:
    """What one row leaves on disk: the state of each task, the shared one, the heads, and scores by stage.

    ``tasks/NAME.safetensors``, ``heads/NAME.safetensors``, ``shared/NAME.safetensors`` as the newest task left it and,
    written last of a stage, ``stages/NAME.json``. Each file of weights names its method and the order of the tasks.

    Args:
        folder: Of the row.
        method: Its name.
        order: Names of the tasks, in order.

    Example:
        >>> import tempfile
        >>> store = StateStore(Path(tempfile.mkdtemp()), "php", ["ave", "avs"])
        >>> store.scores("ave") is None
        True
        >>> store.load("tasks", "avs")
        Traceback (most recent call last):
        ...
        FileNotFoundError: .../tasks/avs.safetensors: no such file; the task avs was not learned yet
    """

    def __init__(self, folder: Path, method: str, order: Sequence[str]) -> None:
        self.folder = folder
        self.labels = {"method": method, "order": " ".join(order)}

    def clear(self) -> None:
        """Delete everything: a run that starts anew must not find an older one's states."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def save(self, kind: str, name: str, state: dict[str, Tensor]) -> None:
        """Write one state.

        Args:
            kind: ``"tasks"``, ``"heads"`` or ``"shared"``.
            name: Of the task, or of the newest one for the shared state.
            state: May be empty.
        """
        tensors = {key: value.contiguous() for key, value in state.items()}
        # one entry: the order of several would differ from file to file
        labels = {LABELS: json.dumps(self.labels | {"task": name})}
        write_atomically(self._file(kind, name), lambda path: save_file(tensors, path, labels))

    def load(self, kind: str, name: str) -> dict[str, Tensor]:
        """Read one state.

        Args:
            kind: As for :meth:`save`.
            name: Of the task.

        Raises:
            FileNotFoundError: The task was not learned yet.
            ValueError: The file is damaged, or belongs to another method, order or task.
        """
        file = self._file(kind, name)
        if not file.is_file():
            raise FileNotFoundError(f"{file}: no such file; the task {name} was not learned yet")
        try:
            with safe_open(file, "pt") as opened:
                labels = json.loads((opened.metadata() or {}).get(LABELS, "{}"))
                state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{file}: damaged, or no safetensors file ({error})") from None
        wanted = self.labels | {"task": name}
        for what, value in wanted.items():
            if labels.get(what) != value:
                raise ValueError(f"{file}: was stored with the {what} {labels.get(what)!r}, this run has {value!r}")
        return state

    def finish(self, name: str, scores: dict[str, Any]) -> None:
        """Say that a stage is done; the shared state of the one before is needed no more.

        Args:
            name: Of the newest task.
            scores: What was measured after it.
        """
        text = json.dumps(scores, indent=2) + "\n"
        write_atomically(self._stage(name), lambda path: path.write_text(text))
        for file in (self.folder / "shared").glob("*.safetensors"):
            if file != self._file("shared", name):
                file.unlink()

    def scores(self, name: str) -> dict[str, Any] | None:
        """What was measured after a stage; ``None`` where it is not done.

        Args:
            name: Of the stage's task.
        """
        file = self._stage(name)
        return json.loads(file.read_text()) if file.is_file() else None

    def _file(self, kind: str, name: str) -> Path:
        return self.folder / kind / f"{name}.safetensors"

    def _stage(self, name: str) -> Path:
        return self.folder / "stages" / f"{name}.json"
