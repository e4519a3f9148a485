"""Small datasets in the papers' own layouts, made from pictures and sounds."""

from .asset import Asset as Asset
from .asset_folder import AssetFolder as AssetFolder
from .asset_folder import FolderAsset as FolderAsset
from .ave import forge_ave as forge_ave
from .avsbench import forge_avsbench as forge_avsbench
from .llp import forge_llp as forge_llp
from .music_avqa import forge_music_avqa as forge_music_avqa
from .procedural import Procedural as Procedural
from .procedural import ProceduralAsset as ProceduralAsset
from .split_avqa import forge_split as forge_split
from .split_words import TASKS as TASKS
