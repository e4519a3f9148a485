from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Literal, NamedTuple, TypeAlias

from torch import Tensor, nn

from avexperts.checkpoints._adapter_names import CONVOLUTIONS, UNUSED, AdapterNames, Names
from avexperts.checkpoints._adapter_places import Located, Place, blocks_of, locate_ours, locate_theirs, uneven
from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._state_dict import bare_state, compare, complain
from avexperts.streams import LockStep

Format: TypeAlias = Literal["avexperts", "papers"]
Blocks: TypeAlias = Literal["adapter_blocks", "moe_adapter_blocks"]

_TOWERS_AND_HEADS = re.compile(
    r"(swin|htsat|temporal_attn|CMBS|mlp_class|v_fc|a_fc|fc_[av]|fc_st|fc_fusion|(audio|visual)_(token|cug)|av_mcg"
    r"|fc_prob(_[av])?|fc_cls"
    r"|fc_a[12](_pure)?|fc_gl|fc[1-4]|fc_ans|linear[12][12]|norm[123]|attn_[av]|question_encoder"
    r"|encoder_backbone|x[1-4]_linear_?|audio_linear|conv[1-4]|tpavi_b[1-4]|path[1-4]|output_conv)(\..+)?"
)


class _Naming(NamedTuple):
    """The names inside of adapters in both directions, and what the prefixes need."""

    to_ours: Names
    to_theirs: Names
    blocks: str
    parts: Sequence[int]

    def both(self, key: str) -> str:
        """Return the papers' name of one of ours beside it."""
        ((place, inner),) = locate_ours([key], self.parts).values()
        prefix = "" if place is None else place.theirs(self.blocks)
        return f"{prefix}{self.to_theirs[inner]} ({key})" if inner in self.to_theirs else key


def convert_adapters(
    system: AdapterNames,
    state: Mapping[str, Tensor],
    to: Format,
    like: nn.Module | None,
    parts: Sequence[int],
    *,
    blocks: Blocks | None = None,
    unapplied: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Rename one adapter's state, or those of a whole checkpoint; see :func:`convert.avmoe`."""
    if to not in ("avexperts", "papers"):
        raise ValueError(f"to is 'avexperts' or 'papers', got {to!r}")
    if tuple(parts) not in ((0,), (1,), (0, 1)):
        raise ValueError(f"parts is (0,), (1,) or (0, 1), got {tuple(parts)}")
    if blocks not in (None, "adapter_blocks", "moe_adapter_blocks"):
        raise ValueError(f"blocks is None, 'adapter_blocks' or 'moe_adapter_blocks', got {blocks!r}")
    wanted = None if like is None else _state_of(like)
    if to == "avexperts":
        return _read(system, bare_state(state), wanted, {*UNUSED, *unapplied})
    stored = bare_state(state, "adapter.")  # as save_adapters prefixes them, beside heads
    return _write(system, {key: stored[key] for key in stored if not key.startswith("heads.")}, wanted, parts, blocks)


def _read(
    system: AdapterNames, state: Mapping[str, Tensor], wanted: Mapping[str, Tensor] | None, left_out: Set[str]
) -> dict[str, Tensor]:
    located = locate_theirs(state)
    whole = any(place is not None for place, _ in located.values())
    located = {key: where for key, where in located.items() if not _is_left_out(left_out, whole, *where)}
    parts = sorted({place.part for place, _ in located.values() if place is not None}) or [0, 1]
    blocks = blocks_of(state)
    naming = _naming(system, located, wanted, blocks, parts)
    missing = [place.theirs(blocks) + inner for place, inner in uneven(located, parts)]
    ours = _rename(state, located, naming.to_ours, lambda place: place.ours(parts), missing)
    compare("the adapters do not fit the module", ours, wanted, naming.both)
    return ours


def _write(
    system: AdapterNames,
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor] | None,
    parts: Sequence[int],
    called: Blocks | None,
) -> dict[str, Tensor]:
    located = locate_ours(state, parts)
    blocks = called or system.blocks({inner for _, inner in located.values()})
    naming = _naming(system, located, wanted, blocks, parts)
    missing = [place.ours(parts) + inner for place, inner in uneven(located, parts)]
    theirs = _rename(state, located, naming.to_theirs, lambda place: place.theirs(blocks), missing)
    compare("the adapters do not fit the module", state, wanted, naming.both)
    return theirs


def _is_left_out(left_out: Set[str], whole: bool, place: Place | None, inner: str) -> bool:
    if inner.split(".")[0] in left_out:
        return True
    return whole and place is None and _TOWERS_AND_HEADS.fullmatch(inner) is not None


def _naming(
    system: AdapterNames, located: Located, wanted: Mapping[str, Tensor] | None, blocks: str, parts: Sequence[int]
) -> _Naming:
    should = locate_ours(wanted or (), parts)
    to_ours = system.names({inner for _, inner in (*located.values(), *should.values())})
    return _Naming(to_ours, {ours: theirs for theirs, ours in to_ours.items()}, blocks, parts)


def _rename(
    state: Mapping[str, Tensor],
    located: Located,
    names: Names,
    prefix: Callable[[Place], str],
    missing: Sequence[str],
) -> dict[str, Tensor]:
    whole = any(place is not None for place, _ in located.values())
    unknown = [key for key, (place, inner) in located.items() if inner not in names or (whole and place is None)]
    complain("not the adapters of this system", missing=missing, unknown=unknown)
    renamed: dict[str, Tensor] = {}
    for key, (place, inner) in located.items():
        name = ("" if place is None else prefix(place)) + names[inner]
        if name in renamed:
            raise CheckpointError(f"two keys would become {name}; one of them is {key}")
        renamed[name] = _reshape(inner, names[inner], state[key])
    if not renamed:
        raise CheckpointError("no key of an adapter is in it")
    return renamed


def _reshape(old: str, new: str, tensor: Tensor) -> Tensor:
    if new.endswith(CONVOLUTIONS) and tensor.dim() == 2:
        return tensor[:, :, None, None]
    if old.endswith(CONVOLUTIONS) and tensor.dim() == 4 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def _state_of(module: nn.Module) -> dict[str, Tensor]:
    return (module.adapters[module.active_adapter] if isinstance(module, LockStep) else module).state_dict()
