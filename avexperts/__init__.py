"""Audio-visual adapters and experts for frozen backbones.

streams/     open a backbone at its residual sites, and drive several of them together
adapters/    what one expert computes
experts/     several of them together, and experts by task
routing/     who gets how much, learned or by anchors
prompts/     prompts that tasks share, and prompts of one task
modulation/  balance the modalities while training
metrics/     what continual learning keeps and forgets
methods/     a paper in one function
checkpoints/ save, load and share adapters; convert the papers' weights
ops/         the numerics underneath
"""

from avexperts import checkpoints as checkpoints
from avexperts import methods as methods
from avexperts import metrics as metrics
from avexperts import modulation as modulation
from avexperts import ops as ops
from avexperts import prompts as prompts
from avexperts.adapters import AggregationAdapter as AggregationAdapter
from avexperts.adapters import BottleneckAdapter as BottleneckAdapter
from avexperts.adapters import DualGuidedAdapter as DualGuidedAdapter
from avexperts.adapters import LatentCrossAdapter as LatentCrossAdapter
from avexperts.adapters import LatentExchange as LatentExchange
from avexperts.adapters import TokenResampler as TokenResampler
from avexperts.adapters import merge_adapters as merge_adapters
from avexperts.checkpoints import CheckpointError as CheckpointError
from avexperts.checkpoints import convert as convert
from avexperts.checkpoints import load_adapters as load_adapters
from avexperts.checkpoints import save_adapters as save_adapters
from avexperts.experts import AdapterMoE as AdapterMoE
from avexperts.experts import ExpertBank as ExpertBank
from avexperts.experts import ExpertRouted as ExpertRouted
from avexperts.experts import LowRankExpert as LowRankExpert
from avexperts.experts import TokenTopKExperts as TokenTopKExperts
from avexperts.experts import attach_experts as attach_experts
from avexperts.modulation import OnTheFlyGradientModulation as OnTheFlyGradientModulation
from avexperts.modulation import OnTheFlyPredictionModulation as OnTheFlyPredictionModulation
from avexperts.modulation import discrepancy_ratio as discrepancy_ratio
from avexperts.modulation import unimodal_logits as unimodal_logits
from avexperts.prompts import AttentionPromptPool as AttentionPromptPool
from avexperts.prompts import DynamicPromptGenerator as DynamicPromptGenerator
from avexperts.prompts import HomeostaticPrompt as HomeostaticPrompt
from avexperts.prompts import PlasticPrompt as PlasticPrompt
from avexperts.prompts import PrefixPrompt as PrefixPrompt
from avexperts.prompts import PrefixPromptPool as PrefixPromptPool
from avexperts.prompts import ProgressivePromptStack as ProgressivePromptStack
from avexperts.prompts import PromptPool as PromptPool
from avexperts.routing import AnchorBank as AnchorBank
from avexperts.routing import AnchorRouting as AnchorRouting
from avexperts.routing import CosineAnchorRouter as CosineAnchorRouter
from avexperts.routing import RoutingRecorder as RoutingRecorder
from avexperts.routing import RoutingState as RoutingState
from avexperts.routing import SoftRouter as SoftRouter
from avexperts.routing import load_balance as load_balance
from avexperts.streams import CouplingSet as CouplingSet
from avexperts.streams import HTSATFrontEnd as HTSATFrontEnd
from avexperts.streams import LockStep as LockStep
from avexperts.streams import LockStepGraphBreak as LockStepGraphBreak
from avexperts.streams import LockStepOutput as LockStepOutput
from avexperts.streams import LockStepSummary as LockStepSummary
from avexperts.streams import PrefixCache as PrefixCache
from avexperts.streams import ResidualCoupling as ResidualCoupling
from avexperts.streams import Site as Site
from avexperts.streams import SiteInfo as SiteInfo
from avexperts.streams import Stream as Stream
from avexperts.streams import freeze as freeze
from avexperts.streams import open_backbone as open_backbone
from avexperts.streams import pair_sites as pair_sites
from avexperts.streams import register_opener as register_opener

__version__ = "0.1.0.dev0"
