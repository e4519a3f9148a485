"""Who gets how much: routers over experts, anchors of tasks, losses on what is chosen, and a record of it."""

from avexperts.routing._anchor_bank import AnchorBank as AnchorBank
from avexperts.routing._anchor_routing import AnchorRouting as AnchorRouting
from avexperts.routing._cosine_anchor_router import CosineAnchorRouter as CosineAnchorRouter
from avexperts.routing._load_balance import load_balance as load_balance
from avexperts.routing._routing_recorder import RoutingRecorder as RoutingRecorder
from avexperts.routing._routing_recorder import RoutingRow as RoutingRow
from avexperts.routing._routing_state import RoutingState as RoutingState
from avexperts.routing._running_mean import RunningMean as RunningMean
from avexperts.routing._soft_router import SoftRouter as SoftRouter

__all__ = [
    "AnchorBank",
    "AnchorRouting",
    "CosineAnchorRouter",
    "RoutingRecorder",
    "RoutingRow",
    "RoutingState",
    "RunningMean",
    "SoftRouter",
    "load_balance",
]
