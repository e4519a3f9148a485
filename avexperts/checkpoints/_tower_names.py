from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from avexperts.checkpoints._state_dict import complain

Names: TypeAlias = Mapping[str, tuple[str, ...]]


def weights_and_biases(modules: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Expand module names to the names of their ``weight`` and ``bias``."""
    parts = ("weight", "bias")
    return {f"{old}.{part}": (f"{new}.{part}",) for old, new in modules.items() for part in parts}


DOWNSAMPLE = weights_and_biases({"downsample.norm": "downsample.norm"}) | {
    "downsample.reduction.weight": ("downsample.reduction.weight",)
}
TRANSFORMERS_BLOCK = weights_and_biases(
    {
        "norm1": "layernorm_before",
        "attn.proj": "attention.output.dense",
        "norm2": "layernorm_after",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
) | {"attn.qkv.weight": tuple(f"attention.self.{name}.weight" for name in ("query", "key", "value"))}


class TowerNames(NamedTuple):
    """Old to new names of a tower with the blocks ``layers.S.blocks.I``; several new names split a tensor.

    Attributes:
        top: Outside the stages.
        block: In each block.
        stage: New name of a stage, with ``{}`` for its index.
        shift: Added to the index of a stage for its ``downsample``, which every stage but the last has.
        dropped: Regular expression of old names to leave out.
    """

    top: Names
    block: Names
    stage: str
    shift: int
    dropped: str

    def rename(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename a state dict and insist on every name.

        Raises:
            CheckpointError: Names are missing or unknown; the message lists them all.
        """
        expected = self._expand(_depths(state, "layers.{}"))
        _insist(expected.keys(), {key for key in state if not re.fullmatch(self.dropped, key)})
        renamed: dict[str, Tensor] = {}
        for old, new in expected.items():
            renamed.update(zip(new, _split(state[old], len(new)), strict=True))
        return renamed

    def restore(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Give a whole state dict its old names back; what :meth:`rename` drops stays away.

        Raises:
            CheckpointError: Names are missing or unknown; the message lists them all.
        """
        expected = self._expand(_depths(state, self.stage))
        _insist({name for new in expected.values() for name in new}, state.keys())
        return {
            old: state[new[0]] if len(new) == 1 else torch.cat([state[name] for name in new])
            for old, new in expected.items()
        }

    def _expand(self, depths: Sequence[int]) -> Names:
        names = dict(self.top)
        for stage, depth in enumerate(depths):
            for block in range(depth):
                new = f"{self.stage.format(stage)}.blocks.{block}."
                names |= _prefixed(self.block, f"layers.{stage}.blocks.{block}.", new)
            if stage + 1 < len(depths):
                new = f"{self.stage.format(stage + self.shift)}."
                names |= _prefixed(DOWNSAMPLE, f"layers.{stage}.", new)
        return names


def _insist(expected: Set[str], found: Set[str]) -> None:
    missing, unknown = sorted(expected - found), sorted(found - expected)
    complain("not a whole state dict of this tower", missing=missing, unknown=unknown)


def _depths(keys: Iterable[str], stage: str) -> list[int]:
    number = r"(\d{1,3})"
    block = re.compile(rf"{stage.format(number)}\.blocks\.{number}\.")
    found = [(int(match[1]), int(match[2])) for key in keys if (match := block.match(key))]
    stages = 1 + max((stage for stage, _ in found), default=-1)
    return [1 + max((block for at, block in found if at == stage), default=0) for stage in range(stages)]


def _prefixed(names: Names, old: str, new: str) -> Names:
    return {old + name: tuple(new + target for target in targets) for name, targets in names.items()}


def _split(tensor: Tensor, parts: int) -> tuple[Tensor, ...]:
    # clones, since safetensors refuses tensors that share memory
    return (tensor,) if parts == 1 else tuple(part.clone() for part in tensor.chunk(parts))
