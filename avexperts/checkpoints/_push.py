from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from avexperts.checkpoints._hub import publish
from avexperts.checkpoints._save_adapters import save_adapters
from avexperts.streams import LockStep


def push_to_hub(
    model: LockStep,
    repo_id: str,
    *,
    private: bool | None,
    revision: str | None,
    message: str,
    token: str | bool | None,
    endpoint: str | None,
    **options: Any,
) -> str:
    """Do what :meth:`LockStep.push_to_hub` promises."""
    with tempfile.TemporaryDirectory() as name:
        save_adapters(model, name, repo_id=repo_id, **options)
        return publish(
            Path(name), repo_id, private=private, revision=revision, message=message, token=token, endpoint=endpoint
        )
