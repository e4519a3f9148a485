"""Balance modalities while training: slow down or drop the one that leads, and what that is compared with."""

from avexperts.modulation._branch_gate import BranchGate as BranchGate
from avexperts.modulation._cosine_fusion import CosineFusion as CosineFusion
from avexperts.modulation._discrepancy_ratio import discrepancy_ratio as discrepancy_ratio
from avexperts.modulation._drop_probabilities import drop_probabilities as drop_probabilities
from avexperts.modulation._gradient_coefficients import gradient_coefficients as gradient_coefficients
from avexperts.modulation._mmpareto import ParetoWeights as ParetoWeights
from avexperts.modulation._mmpareto import mmpareto as mmpareto
from avexperts.modulation._modality_dropout import ModalityDropout as ModalityDropout
from avexperts.modulation._named_branches import named_branches as named_branches
from avexperts.modulation._on_the_fly_gradient_modulation import ModulationStep as ModulationStep
from avexperts.modulation._on_the_fly_gradient_modulation import (
    OnTheFlyGradientModulation as OnTheFlyGradientModulation,
)
from avexperts.modulation._on_the_fly_prediction_modulation import (
    OnTheFlyPredictionModulation as OnTheFlyPredictionModulation,
)
from avexperts.modulation._target_confidence import target_confidence as target_confidence
from avexperts.modulation._uniform_loss import uniform_loss as uniform_loss
from avexperts.modulation._unimodal_logits import unimodal_logits as unimodal_logits

__all__ = [
    "BranchGate",
    "CosineFusion",
    "ModalityDropout",
    "ModulationStep",
    "OnTheFlyGradientModulation",
    "OnTheFlyPredictionModulation",
    "ParetoWeights",
    "discrepancy_ratio",
    "drop_probabilities",
    "gradient_coefficients",
    "mmpareto",
    "named_branches",
    "target_confidence",
    "uniform_loss",
    "unimodal_logits",
]
