"""Adapters on disk and on the Hub, and converters from the papers' checkpoints."""

from avexperts.checkpoints import convert as convert
from avexperts.checkpoints._checkpoint_error import CheckpointError as CheckpointError
from avexperts.checkpoints._load_adapters import load_adapters as load_adapters
from avexperts.checkpoints._save_adapters import save_adapters as save_adapters

__all__ = ["CheckpointError", "convert", "load_adapters", "save_adapters"]
