"""Continual learning in numbers: what was kept, lost and gained, and where samples were routed."""

from avexperts.metrics._average_forgetting import average_forgetting as average_forgetting
from avexperts.metrics._backward_transfer import backward_transfer as backward_transfer
from avexperts.metrics._final_accuracy import final_accuracy as final_accuracy
from avexperts.metrics._forward_transfer import forward_transfer as forward_transfer
from avexperts.metrics._incremental_accuracy import incremental_accuracy as incremental_accuracy
from avexperts.metrics._routing_confusion import RoutingConfusion as RoutingConfusion
from avexperts.metrics._routing_confusion import routing_confusion as routing_confusion

__all__ = [
    "RoutingConfusion",
    "average_forgetting",
    "backward_transfer",
    "final_accuracy",
    "forward_transfer",
    "incremental_accuracy",
    "routing_confusion",
]
