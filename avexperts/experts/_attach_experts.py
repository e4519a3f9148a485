from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, TypeAlias

from torch import nn

from avexperts.experts._expert_bank import ExpertBank
from avexperts.experts._expert_routed import ExpertRouted, bare
from avexperts.routing import RoutingState

Select: TypeAlias = "str | Callable[[str, nn.Module], bool]"


def attach_experts(
    model: nn.Module,
    select: Select = r"\.mlp$",
    *,
    every: int = 2,
    offset: int = 0,
    expert: Literal["copy"] | Callable[[nn.Module], nn.Module] = "copy",
    default: Literal["error", "base"] = "error",
) -> ExpertRouted:
    r"""Put an :class:`ExpertBank` in the place of modules of a model, in place (AVQACL-MoE: every second MLP).

    Works for any model whose layers own the module: LLaMA, Qwen2 and Qwen3 of transformers with the default, also with
    PEFT's adapters on them, and a :class:`~avexperts.LockStep`, whose adapters are selected by
    ``r"\.experts\.(vision|audio)$"``. Compile after this, not before.

    Args:
        model: Changed in place. Other modules keep their gradients until :meth:`ExpertRouted.train_task`.
        select: Which modules: a regular expression that is searched for in their names, or a function of name and
            module.
        every: Of these, take one in so many.
        offset: The first that is taken.
        expert: ``"copy"`` of the module, or a function that makes an expert of it, such as
            ``functools.partial(LowRankExpert, rank=8)``.
        default: What runs where no route is set: nothing, ``"error"``, or the ``"base"``.

    Returns:
        :class:`ExpertRouted`, without a task yet.

    Raises:
        ValueError: Nothing is selected, or a module that holds or is a bank already, or lies inside another one.

    Example:
        >>> from transformers import LlamaConfig, LlamaForCausalLM
        >>> size = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2)
        >>> model = LlamaForCausalLM(LlamaConfig(vocab_size=32, **size))
        >>> routed = attach_experts(model)
        >>> routed.add_task("where")
        >>> import torch
        >>> with routed.route("where"):
        ...     logits = model(torch.ones(1, 3, dtype=torch.long)).logits
        >>> list(routed.banks)
        ['model.layers.0.mlp', 'model.layers.2.mlp']
    """
    if every < 1 or not 0 <= offset < every:
        raise ValueError(f"every is at least 1 and offset below it, got every={every}, offset={offset}")
    inner = bare(model)
    chosen = list(_selected(inner, select).items())[offset::every]
    if not chosen:
        some = [name for name, _ in inner.named_modules() if name][:5]
        raise ValueError(f"no module is selected by {select!r}, every={every}, offset={offset}; there are {some} ...")
    _check(chosen)
    state = RoutingState()
    banks = {}
    for name, module in chosen:
        bank = banks[name] = ExpertBank(module, state=state, default=default).train(module.training)
        for parent in list(inner.modules()):
            for child in [child for child, found in parent._modules.items() if found is module]:
                parent._modules[child] = bank
    return ExpertRouted(model, banks, state, expert=expert)


def _selected(model: nn.Module, select: Select) -> dict[str, nn.Module]:
    if isinstance(select, str):
        pattern = re.compile(select)
        return {name: module for name, module in model.named_modules() if name and pattern.search(name)}
    return {name: module for name, module in model.named_modules() if name and select(name, module)}


def _check(chosen: list[tuple[str, nn.Module]]) -> None:
    for name, module in chosen:
        if any(isinstance(part, ExpertBank) for part in module.modules()):
            raise ValueError(f"{name} holds experts already: attach them once")
        outer = next((other for other, _ in chosen if name.startswith(f"{other}.")), None)
        if outer is not None:
            raise ValueError(f"{name} lies inside {outer}: select one of them")
