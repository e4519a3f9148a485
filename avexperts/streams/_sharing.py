from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from torch import nn

if TYPE_CHECKING:
    from avexperts.streams._lockstep import LockStep

# The room of checkpoints reads models and is not imported from here, but for these three methods and inside them.


class Sharing:
    """Saving, loading and publishing adapters: the part of :class:`LockStep` that users of the Hub expect there."""

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        adapter: str | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Save one adapter, never a weight of the towers; see :func:`save_adapters`.

        Args:
            folder: Where to; made if it is not there.
            adapter: Name of the adapter, by default the active one.
            heads: Modules to store with it, by name.
            metrics: Figures for the model card, by name.

        Raises:
            CheckpointError: There is no such adapter, or it cannot be written.
        """
        from avexperts.checkpoints import save_adapters

        save_adapters(cast("LockStep", self), folder, adapter=adapter, heads=heads, metrics=metrics)

    @classmethod
    def from_pretrained(
        cls,
        path_or_repo: str | Path,
        *,
        heads: Mapping[str, nn.Module] | Literal[False] | None = None,
        method: Callable[..., LockStep] | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        endpoint: str | None = None,
        **streams: Any,
    ) -> LockStep:
        """Build the model of a saved adapter on the given towers, in eval mode, with every number as it was stored.

        The towers are opened as they were, and the couplings built by the method and the arguments that were saved.
        Before that, the files must be what was written and the towers must have the sites the adapter was trained on;
        towers with other weights give a warning.

        Args:
            path_or_repo: A folder, or ``OWNER/NAME`` on the Hub.
            heads: Modules to load the stored heads into, by name; False leaves them.
            method: A function of the streams that returns the model, for couplings that no method of the library made.
            revision: Branch, tag or commit on the Hub.
            token: For private repositories.
            cache_dir: Of the Hub's files.
            local_files_only: Use what the cache has, without network.
            endpoint: Address of another Hub.
            **streams: The towers by the names of their streams, ``vision=..., audio=...``: models, or streams where
                they were opened by an opener of your own. Also ``taps``, ``towers`` and ``checkpoint`` of
                :class:`LockStep`, where they shall not be as saved.

        Returns:
            The model.

        Raises:
            CheckpointError: A file is missing, damaged or of a newer version; towers or heads are others; the Hub
                cannot be reached.

        Example:
            >>> import tempfile
            >>> from transformers import ViTConfig, ViTModel
            >>> import avexperts as ax
            >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
            >>> vision, audio = (ViTModel(ViTConfig(**size)) for _ in range(2))
            >>> model = ax.methods.lavish(vision, audio, frame_size=(3, 32, 32), audio_size=(3, 32, 32))
            >>> folder = tempfile.mkdtemp()
            >>> model.save_pretrained(folder)
            >>> back = ax.LockStep.from_pretrained(folder, vision=vision, audio=audio)
            >>> len(back.couplings)
            4
        """
        from avexperts.checkpoints._rebuild import from_pretrained

        options: dict[str, Any] = {
            name: streams.pop(name) for name in ("taps", "towers", "checkpoint") if name in streams
        }
        return from_pretrained(
            path_or_repo,
            streams,
            heads=heads,
            method=method,
            lockstep=options,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            endpoint=endpoint,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        adapter: str | None = None,
        heads: Mapping[str, nn.Module] | None = None,
        metrics: Mapping[str, float] | None = None,
        private: bool | None = None,
        revision: str | None = None,
        message: str = "Upload an adapter",
        token: str | bool | None = None,
        endpoint: str | None = None,
    ) -> str:
        """Publish one adapter on the Hub, never a weight of the towers.

        Args:
            repo_id: ``OWNER/NAME``; made if it is not there.
            adapter: Name of the adapter, by default the active one.
            heads: Modules to store with it, by name.
            metrics: Figures for the model card, by name.
            private: Whether a repository that is made is private.
            revision: Branch to upload to; made if it is not there.
            message: Of the commit.
            token: By default the one that huggingface_hub has stored.
            endpoint: Address of another Hub.

        Returns:
            The address of the commit.

        Raises:
            CheckpointError: There is no such adapter, or the Hub did not take it.
        """
        from avexperts.checkpoints._push import push_to_hub

        return push_to_hub(
            cast("LockStep", self),
            repo_id,
            private=private,
            revision=revision,
            message=message,
            token=token,
            endpoint=endpoint,
            adapter=adapter,
            heads=heads,
            metrics=metrics,
        )
