"""Who gets how much: routers over experts, losses on what they choose, and a record of it."""

from avexperts.routing._load_balance import load_balance as load_balance
from avexperts.routing._routing_recorder import RoutingRecorder as RoutingRecorder
from avexperts.routing._routing_recorder import RoutingRow as RoutingRow
from avexperts.routing._soft_router import SoftRouter as SoftRouter

__all__ = ["RoutingRecorder", "RoutingRow", "SoftRouter", "load_balance"]
