"""Weights that come from elsewhere: converters from the papers' checkpoints."""

from avexperts.checkpoints import convert as convert

__all__ = ["convert"]
