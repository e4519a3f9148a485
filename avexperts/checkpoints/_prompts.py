from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from avexperts.checkpoints._adapter_names import CONVOLUTIONS, DUAL_GUIDED, Names
from avexperts.checkpoints._checkpoint_error import CheckpointError
from avexperts.checkpoints._state_dict import bare_state, compare, complain
from avexperts.prompts import ProgressivePromptStack
from avexperts.streams import LockStep

_STREAMS = {"vis": "vision", "audio": "audio"}
_HALVES = {"p1": "first", "p2": "second"}
_POOL = {"deep_visual_e_prompt.prompt": "deep.prompts", "deep_visual_e_prompt.prompt_key": "deep.keys"}
_GENERATORS = {"pgn_module": "0", "pgn_module_1": "1"}
_LAYER = {"0.norm": "norm1", "0.fn.to_qkv": "qkv", "0.fn.to_out.0": "out"}
_LAYER |= {"1.norm": "norm2", "1.fn.net.0": "mlp.0", "1.fn.net.3": "mlp.2"}
_GATE = {"wgn_module.key_w": "gate.key", "wgn_module.query_w": "gate.query"}
_ADAPTER = DUAL_GUIDED | {f"temporal_gated.0.{kind}": f"temporal_gate.{kind}" for kind in ("weight", "bias")}
_UNFIT = "the layers do not fit the model"
_CLASS_TOKEN = "ViT.class_embedding"
_THEIRS = {
    "shared": re.compile(r"(?:vis|audio)_adapter_blocks_p[12]\.(\d{1,6})\..+"),
    "task": re.compile(r"mid_e_prompt\..+|deep_visual_e_prompt\..+"),
}
# made by the paper's constructors, used by no forward pass
_UNUSED = re.compile(
    r".+_adapter_blocks_p[12]\.\d+\.(gate_tk|fc_caption\..+)|mid_e_prompt\.prompt_key"
    r"|mid_e_prompt\.pgn_module(_1)?\.(to_patch_embedding\..+|pos_embedding|cls_token|mlp_head\..+|tl_vectors.*)"
)
_NUMBERS = re.compile(r"(?:transformer|generators\.\d)\.layers\.(\d{1,6})\.")


def php(
    state: Mapping[str, Tensor],
    *,
    part: Literal["shared", "task"],
    to: Literal["avexperts", "papers"] = "avexperts",
    like: LockStep | None = None,
) -> dict[str, Tensor]:
    """Translate PHP's names to ours, or ours to theirs.

    Its ``task_{t}.pth`` holds the whole network after a task. The adapters in it are shared by all tasks and count in
    the newest file; the prompts belong to that task alone.

    Args:
        state: A whole checkpoint of the paper, ``torch.load(path, weights_only=True)``; towers, text parts and heads in
            it are passed over. For ``to="papers"`` what :meth:`ProgressivePromptStack.shared_state` or ``task_state``
            gave.
        part: ``"shared"``: the adapters and, from the checkpoint's vision tower, the class token that generated prompts
            are gated by, for :meth:`ProgressivePromptStack.load_shared_state`. ``"task"``: the prompts, for
            ``load_task_state(name, ...)``.
        to: ``"avexperts"`` or ``"papers"``. What no forward pass of the paper uses is dropped, and not made up on the
            way back; so is the second sound adapter, unless ``like`` was built with ``update_audio=True``.
        like: A model of :func:`methods.php` that our side must fit, and whose blocks say where adapters go; by default
            the shallow depth comes first, as published.

    Returns:
        A new dictionary of the same tensors.

    Raises:
        CheckpointError: Keys are unknown, missing or misshapen; all are named.
        ValueError: ``part`` or ``to`` is none of what is listed.

    Example:
        >>> import torch
        >>> pool = {"deep_visual_e_prompt.prompt": torch.ones(7, 2, 3, 10, 768)}
        >>> list(php(pool, part="task"))
        ['deep.prompts']
    """
    if part not in _THEIRS or to not in ("avexperts", "papers"):
        raise ValueError(f"part is 'shared' or 'task' and to 'avexperts' or 'papers', got {part!r} and {to!r}")
    bare, stack = bare_state(state), _stack(like)
    if to == "papers":
        return _write(bare, part, stack)
    taken = {key: value for key, value in bare.items() if _THEIRS[part].fullmatch(key) and not _UNUSED.fullmatch(key)}
    wanted = None if stack is None else _own(stack, part)
    if wanted is None or not any(".second.module.audio." in key for key in wanted):
        taken = {key: value for key, value in taken.items() if not key.startswith("audio_adapter_blocks_p2")}
    names = _names(taken, part, stack)
    complain("not PHP's layers", unknown=[key for key in taken if key not in names], missing=_none(taken, part))
    ours = {names[key]: _reshape(names[key], value) for key, value in taken.items()}
    theirs = {new: old for old, new in names.items()}
    if part == "shared":
        queries = _gate_queries(bare, ours, stack)
        theirs |= dict.fromkeys(queries, _CLASS_TOKEN)
        ours |= {key: bare[_CLASS_TOKEN].flatten() for key in queries if _CLASS_TOKEN in bare}
    compare(_UNFIT, ours, wanted, lambda key: f"{theirs[key]} ({key})" if key in theirs else key)
    return ours


def _write(ours: Mapping[str, Tensor], part: str, stack: ProgressivePromptStack | None) -> dict[str, Tensor]:
    compare(_UNFIT, ours, None if stack is None else _own(stack, part), str)
    kept = {key: value for key, value in ours.items() if not key.endswith(".gate_query")}
    names = {new: old for old, new in _names(kept, part, stack).items()}
    complain("not PHP's layers", unknown=[key for key in kept if key not in names], missing=_none(kept, part))
    return {names[key]: _reshape(names[key], value) for key, value in kept.items()}


def _names(found: Iterable[str], part: str, stack: ProgressivePromptStack | None) -> Names:
    """The table from their names to ours that covers all layers found, in either naming."""
    if part == "task":
        return _POOL | {f"mid_e_prompt.{old}": f"mid.{new}" for old, new in _mid_names(found).items()}
    numbers = {int(key.split(".")[1]) for key in found}
    places = _shallow_places(stack) or sorted(numbers)
    return {
        f"{stream}_adapter_blocks_{half}.{number}.{old}": f"couplings.{place}.{ours}.module.{_STREAMS[stream]}.{new}"
        for number, place in enumerate(places)
        for stream in _STREAMS
        for half, ours in _HALVES.items()
        for old, new in _ADAPTER.items()
    }


def _mid_names(found: Iterable[str]) -> Names:
    layers = sorted({int(match[1]) for key in found if (match := _NUMBERS.search(key))})
    names = {"maben": "memory"}
    weights = dict(_GATE)
    for old, new in _GENERATORS.items():
        weights[f"{old}.pre_out"] = f"generators.{new}.mixture"
        for layer in layers:
            for theirs, ours in _LAYER.items():
                weights[f"{old}.transformer.layers.{layer}.{theirs}"] = f"generators.{new}.layers.{layer}.{ours}"
    return names | {f"{old}.{kind}": f"{new}.{kind}" for old, new in weights.items() for kind in ("weight", "bias")}


def _gate_queries(
    bare: Mapping[str, Tensor], ours: Mapping[str, Tensor], stack: ProgressivePromptStack | None
) -> list[str]:
    """Where generators' gates keep what they compare with: the class token of the paper's vision tower."""
    if stack is not None:
        return [f"couplings.{place}.gate_query" for place, role in enumerate(stack.roles) if role == "mid"]
    shallow = {int(key.split(".")[1]) for key in ours}
    generators = {key.split(".")[1] for key in bare if key.startswith("mid_e_prompt.pgn_module")}
    return [f"couplings.{len(shallow) + index}.gate_query" for index in range(len(generators))]


def _shallow_places(stack: ProgressivePromptStack | None) -> list[int]:
    return [] if stack is None else [index for index, role in enumerate(stack.roles) if role == "shallow"]


def _none(found: Mapping[str, Tensor], part: str) -> list[str]:
    examples = {"shared": "vis_adapter_blocks_p1.0.gate", "task": "deep_visual_e_prompt.prompt"}
    return [] if found else [examples[part]]


def _reshape(name: str, tensor: Tensor) -> Tensor:
    if name.endswith(CONVOLUTIONS):
        return tensor[:, :, None, None]
    return tensor.flatten(1) if tensor.dim() == 4 and tensor.shape[2:] == (1, 1) else tensor


def _stack(like: LockStep | None) -> ProgressivePromptStack | None:
    if like is None:
        return None
    stack = like.adapters[like.active_adapter]
    if not isinstance(stack, ProgressivePromptStack):
        raise CheckpointError("like must be a model of methods.php: this one has no prompts")
    return stack


def _own(stack: ProgressivePromptStack, part: str) -> dict[str, Tensor]:
    if part == "shared":
        return stack.shared_state()
    if stack.task is None:
        raise CheckpointError("like has no task yet, so it has no prompts to compare with: call its add_task first")
    return stack.task_state(stack.task)
