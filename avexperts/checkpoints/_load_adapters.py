from __future__ import annotations

from pathlib import Path
from typing import Any

from avexperts.checkpoints._fingerprint import check_sites, warn_other_weights
from avexperts.checkpoints._fit import fill
from avexperts.checkpoints._rebuild import device_of, rebuild
from avexperts.checkpoints._recipe import site_tables_only
from avexperts.checkpoints._save_adapters import check_lockstep
from avexperts.checkpoints._stored import Heads, open_stored
from avexperts.streams import LockStep


def load_adapters(
    model: LockStep,
    path_or_repo: str | Path,
    *,
    adapter: str | None = None,
    heads: Heads = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    endpoint: str | None = None,
) -> None:
    """Load a saved adapter into a model, in place: also while it is compiled or held by an optimizer.

    Everything is checked before the first number changes: that nothing in the files was altered, that the towers have
    the sites the adapter was trained on, and every key and shape. Values take the dtype and device of the model.

    Args:
        model: The model.
        path_or_repo: A folder, or ``OWNER/NAME`` on the Hub.
        adapter: Name of the adapter to load into, by default the active one. If there is none of that name, it is
            built as it was when saved, keeps the stored dtype, and rests until :meth:`LockStep.set_adapter` names it.
        heads: Modules to load the stored heads into, by name; False leaves them.
        revision: Branch, tag or commit on the Hub.
        token: For private repositories.
        cache_dir: Of the Hub's files.
        local_files_only: Use what the cache has, without network.
        endpoint: Address of another Hub.

    Raises:
        CheckpointError: A file is missing, damaged or of a newer version; the towers, the couplings or the heads are
            others; the Hub cannot be reached.
        TypeError: ``model`` is no :class:`LockStep`.

    Example:
        >>> import tempfile
        >>> from transformers import ViTConfig, ViTModel
        >>> import avexperts as ax
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32)
        >>> towers = [ViTModel(ViTConfig(**size)) for _ in range(2)]
        >>> model = ax.methods.lavish(*towers, frame_size=(3, 32, 32), audio_size=(3, 32, 32))
        >>> folder = tempfile.mkdtemp()
        >>> model.save_pretrained(folder)
        >>> load_adapters(model, folder)
        >>> load_adapters(model, folder, adapter="other")
        >>> list(model.adapters)
        ['default', 'other']
    """
    check_lockstep(model, "load_adapters")
    stored = open_stored(
        path_or_repo,
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        local_files_only=local_files_only,
        endpoint=endpoint,
    )
    stored.check_streams(model.sites)
    stored.check_heads(heads)
    check_sites(stored.config["streams"], model.sites)
    towers = dict(model.towers.items())
    name = model.active_adapter if adapter is None else adapter
    if name in model.adapters:
        target: Any = model.adapters[name]
        stored.check_adapter(target, target.pairings)
        warn_other_weights(stored.config["streams"], towers)
        fill(target, stored.tensors, "adapter.")
    else:
        fresh = rebuild(stored, site_tables_only(model.sites), device_of(towers))
        fresh.adapters[fresh.active_adapter].train(model.training)
        warn_other_weights(stored.config["streams"], towers)
        model.add_adapter(name, fresh)
    stored.fill_heads(heads)
