"""The frozen towers: two small ones, pre-trained apart from each other, or those that a command line names."""

from .loading import load_towers as load_towers
from .small_towers import build_small_towers as build_small_towers
from .small_towers import load_small_towers as load_small_towers
from .small_towers import save_small_towers as save_small_towers
from .towers import Towers as Towers
