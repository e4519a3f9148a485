from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from avexperts.prompts._homeostatic_prompt import HomeostaticPrompt
from avexperts.prompts._plastic_prompt import PlasticPrompt, check_task_name
from avexperts.streams import CouplingSet


class ProgressivePromptStack(CouplingSet):
    """An adapter whose parts are shared by all tasks or belong to one: couplings, and the tasks' life cycle (PHP).

    :func:`avexperts.methods.php` builds one with three depths; the methods' models have it at ``model.prompts``.
    Learning a task means ``add_task(name)``, then training what has gradients: all :class:`HomeostaticPrompt` and the
    newest task of each :class:`PlasticPrompt`. ``set_task`` goes back to an earlier one.

    Args:
        couplings: Pairs of (stream to site, module), in run order, as for :class:`LockStep`.
        plastic: Parts by task that the couplings use, by name.
        homeostatic: Shared parts that the couplings use, by name.
        roles: What each coupling is for, in a word, such as ``"shallow"``.

    Raises:
        ValueError: A task is unknown, there twice, or used before it was added; a state does not fit.

    Example:
        >>> from avexperts.prompts._prefix_coupling import PrefixCoupling
        >>> from avexperts.prompts import PrefixPrompt
        >>> bank = PlasticPrompt(lambda: PrefixPrompt(1, prompt_length=2, dim=8))
        >>> coupling = PrefixCoupling(bank, 0, "vision", "vision.blocks.0.attn")
        >>> stack = ProgressivePromptStack([({"vision": "blocks.1.attn"}, coupling)], {"deep": bank}, roles=["deep"])
        >>> stack.add_task("ave")
        >>> list(stack.task_state("ave")), stack.tasks
        (['deep.prompts'], ('ave',))
    """

    def __init__(
        self,
        couplings: Sequence[tuple[Mapping[str, str], nn.Module]],
        plastic: Mapping[str, PlasticPrompt] | None = None,
        homeostatic: Mapping[str, HomeostaticPrompt] | None = None,
        roles: Sequence[str] = (),
    ) -> None:
        super().__init__(couplings)
        modules = self.couplings
        del self.couplings  # parts are named first, by what they are, and then by the couplings that share them
        self.plastic = nn.ModuleDict(plastic or {})
        self.homeostatic = nn.ModuleDict(homeostatic or {})
        self.couplings = modules
        self.roles = tuple(roles)
        self._tasks: list[str] = []
        self._task: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order they were added."""
        return tuple(self._tasks)

    @property
    def task(self) -> str | None:
        """The active task."""
        return self._task

    def add_task(self, name: str) -> None:
        """Add a task and make it the active one; plastic parts of earlier tasks are frozen."""
        check_task_name(name, self._tasks)
        for shared in self._shared_parts():
            shared.begin_task(len(self._tasks))
        for bank in self._banks().values():
            bank.add_task(name)
        self._tasks.append(name)
        self._activate(name)

    def set_task(self, name: str) -> None:
        """Make a task the active one; what trains does not change."""
        self._check(name)
        for bank in self._banks().values():
            bank.set_task(name)
        self._activate(name)

    def freeze(self, name: str) -> None:
        """Take the gradients off the plastic parts of a task."""
        self._check(name)
        for bank in self._banks().values():
            bank.freeze(name)

    def task_state(self, name: str) -> dict[str, Tensor]:
        """Give the plastic parts of a task, ``{"PART.KEY": tensor}``."""
        self._check(name)
        return {
            f"{part}.{key}": tensor
            for part, bank in self._banks().items()
            for key, tensor in bank.state_dict_for(name).items()
        }

    def load_task_state(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Load the plastic parts of a task, which is added if it is not there."""
        banks = self._banks()
        foreign = [key for key in tensors if key.partition(".")[0] not in banks]
        if foreign:
            raise ValueError(f"the state of task {name!r} does not fit: unexpected {', '.join(foreign[:4])}")
        states = {
            part: {key.partition(".")[2]: value for key, value in tensors.items() if key.partition(".")[0] == part}
            for part in banks
        }
        for part, bank in banks.items():
            bank.check_task(name, states[part])
        if name not in self._tasks:
            self.add_task(name)
        for part, bank in banks.items():
            bank.load_task(name, states[part])

    def shared_state(self) -> dict[str, Tensor]:
        """Give all that is not a task's own, each tensor once."""
        plastic = {id(tensor) for bank in self._banks().values() for tensor in bank.state_dict(keep_vars=True).values()}
        found = {}
        for name, tensor in self.state_dict(keep_vars=True).items():
            if id(tensor) not in plastic:
                found[name] = tensor.detach()
                plastic.add(id(tensor))
        return found

    @torch.no_grad()
    def load_shared_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what :meth:`shared_state` gave; pools that know tasks must have been told of them by ``add_task``."""
        own = self.shared_state()
        wrong = [f"missing {key}" for key in own if key not in tensors]
        wrong += [f"unexpected {key}" for key in tensors if key not in own]
        wrong += [key for key in own if key in tensors and own[key].shape != tensors[key].shape]
        if wrong:
            raise ValueError(f"the shared state does not fit: {', '.join(wrong[:4])} ({len(wrong)} in all)")
        for key, tensor in own.items():
            tensor.copy_(tensors[key])

    def _activate(self, name: str) -> None:
        self._task = name
        if self.recipe is not None:
            self.recipe["arguments"] |= {"tasks": list(self._tasks), "task": name}

    def _banks(self) -> dict[str, PlasticPrompt]:
        return {name: bank for name, bank in self.plastic.items() if isinstance(bank, PlasticPrompt)}

    def _shared_parts(self) -> list[HomeostaticPrompt]:
        return [part for part in self.modules() if isinstance(part, HomeostaticPrompt)]

    def _check(self, name: str) -> None:
        if name not in self._tasks:
            raise ValueError(f"unknown task {name!r}: add_task it first; there are {self._tasks}")
