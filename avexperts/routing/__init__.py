"""Who gets how much: routers over experts, and losses on what they choose."""

from avexperts.routing._load_balance import load_balance as load_balance
from avexperts.routing._soft_router import SoftRouter as SoftRouter

__all__ = ["SoftRouter", "load_balance"]
