"""The model that every program trains: frozen towers, adapters between them, a head on top."""

from .adapter_settings import PAPER_ADAPTERS as PAPER_ADAPTERS
from .adapter_settings import AdapterSettings as AdapterSettings
from .couple import couple as couple
from .feature_model import FeatureModel as FeatureModel
from .load_head import load_head as load_head
from .parameter_groups import parameter_groups as parameter_groups
from .pooled_tokens import pooled_tokens as pooled_tokens
from .tower_model import ENTRY as ENTRY
from .tower_model import TowerModel as TowerModel
