from __future__ import annotations

from typing import Any

from avtasks.model import AdapterSettings, couple
from avtasks.towers import Towers, load_towers

from .balance_hook import build_drop
from .branch_classifier import BranchClassifier
from .coupled_towers import CoupledTowers
from .method_row import MethodRow
from .open_data import BranchData
from .separate_encoders import SeparateEncoders
from .settings import Settings

OWN_HEADS = ("uniform", "mmpareto")


def build_model(settings: Settings, data: BranchData, row: MethodRow, towers: Towers | None = None) -> BranchClassifier:
    """Make the untrained model of a row.

    Args:
        settings: ``encoder`` and ``fusion`` are read.
        data: Names the branches.
        row: MMCosine has a head of its own, some methods train further heads or drop features; a branch alone has no
            other.
        towers: Frozen ones, where the settings ask for them.

    Example:
        >>> from .method_row import method_rows
        >>> settings = Settings(methods=("alone", "none"))
        >>> data = BranchData({"audio": 1, "image": 1}, 10, dict, {})
        >>> [list(build_model(settings, data, row).encoders.dims) for row in method_rows(settings, list(data.channels))]
        [['audio'], ['image'], ['audio', 'image']]
    """
    alone = row.method in data.channels
    channels = {row.method: data.channels[row.method]} if alone else dict(data.channels)
    encoders: Any = (
        SeparateEncoders(channels, small=settings.encoder == "small") if towers is None else couple_towers(towers)
    )
    fusion = "cosine" if row.method == "mmcosine" else "concat" if alone else settings.fusion
    return BranchClassifier(
        encoders,
        data.classes,
        fusion=fusion,
        scale=row.balance.scale,
        drop=build_drop(row, encoders.dims),
        own_heads=row.method in OWN_HEADS,
    )


def couple_towers(towers: Towers) -> CoupledTowers:
    """Put one cross-modal and one unimodal expert for each stream between the towers, at their last stage.

    Args:
        towers: Frozen.

    Example:
        >>> from avtasks.towers import build_small_towers
        >>> from torch import nn
        >>> towers = Towers(*build_small_towers(), nn.Identity(), (3, 64, 64), (1, 101, 64))
        >>> couple_towers(towers).dims
        {'audio': 128, 'image': 128}
    """
    coupled = couple(towers, AdapterSettings(), experts=(1, 1))
    vision, audio = towers.widths(coupled)
    return CoupledTowers(coupled, {"audio": audio, "image": vision})


def small_towers() -> Towers:
    """Load the small towers that come with the examples.

    Example:
        >>> small_towers().frame_size
        (3, 64, 64)
    """
    return load_towers("small", "small")
