"""The Hub, reached through huggingface_hub's own functions, with one error for all that can go wrong there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._folder import CONFIG, WEIGHTS

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(path_or_repo: str | Path, *, revision: str | None = None, **hub: Any) -> Path:
    """The folder itself where there is one, else a repository's, fetched into the Hub's cache."""
    folder = Path(path_or_repo)
    if folder.is_file():
        raise CheckpointError(f"{folder}: is a file; give the folder that save_pretrained wrote")
    if folder.exists():
        return folder
    if isinstance(path_or_repo, Path) or not _REPOSITORY.fullmatch(path_or_repo):
        raise CheckpointError(
            f"{path_or_repo}: there is no such folder, and a repository on the Hub is named OWNER/NAME"
        )
    return _fetch(path_or_repo, revision, **hub)


def publish(folder: Path, repo_id: str, *, private: bool | None, revision: str | None, message: str, **hub: Any) -> str:
    """Upload a saved folder and return the address of the commit."""
    from huggingface_hub import HfApi

    api = HfApi(**hub)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        done = api.upload_folder(folder_path=folder, repo_id=repo_id, revision=revision, commit_message=message)
    except Exception as error:  # the transport's own errors differ between versions of huggingface_hub
        raise CheckpointError(f"{repo_id}: cannot be published on the Hub ({_reason(error)})") from error
    return str(done.commit_url)


def _fetch(repo_id: str, revision: str | None, **hub: Any) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        folder = Path(hf_hub_download(repo_id, WEIGHTS, revision=revision, **hub)).parent
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{repo_id}: there is no such folder, and the Hub cannot be reached nor its cache used ({_reason(error)})"
        ) from error
    except EntryNotFoundError as error:
        raise CheckpointError(f"{repo_id}: the repository holds no {WEIGHTS}, so no adapter was saved there") from error
    except Exception as error:  # the transport's own errors differ between versions of huggingface_hub
        raise CheckpointError(
            f"{repo_id}: there is no such folder, nor can it be fetched from the Hub ({_reason(error)})"
        ) from error
    try:  # of the same commit: the folder of a snapshot is named by it
        hf_hub_download(repo_id, CONFIG, revision=folder.name, **hub)
    except Exception as error:
        if not isinstance(error, EntryNotFoundError):
            raise CheckpointError(f"{repo_id}: {CONFIG} cannot be fetched from the Hub ({_reason(error)})") from error
    return folder


def _reason(error: Exception) -> str:
    chain = [error] if error.__cause__ is None else [error, error.__cause__]
    return "; ".join(f"{type(link).__name__}: {' '.join(str(link).split())[:300]}" for link in chain)
