"""The continual benchmark's own network, losses and scores, for comparison."""

from .baseline_losses import difference_loss as difference_loss
from .baseline_losses import exemplar_loss as exemplar_loss
from .baseline_losses import question_consistency as question_consistency
from .baseline_losses import step_distillation as step_distillation
from .baseline_network import BaselineNetwork as BaselineNetwork
from .baseline_network import BaselineOutput as BaselineOutput
from .step_scores import StepScores as StepScores
