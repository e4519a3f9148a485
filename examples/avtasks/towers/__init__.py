"""Two small towers, one that sees and one that hears, pre-trained apart from each other."""

from .small_towers import build_small_towers as build_small_towers
from .small_towers import load_small_towers as load_small_towers
from .small_towers import save_small_towers as save_small_towers
