from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from typing_extensions import TypeIs


class LowRankExpert(nn.Module):
    r"""An expert that is its base plus a low-rank change of every linear layer in it (LoRA, Hu et al., ICLR 2022).

    .. math:: y = W x + \frac{\alpha}{r} B A x

    The cheap form of an expert; AVQACL-MoE's are whole copies. The base's weights are shared, not copied, and are no
    part of this module's parameters or state: those are the factors alone. ``B`` starts at zero, so a fresh expert
    gives what the base gives, bit for bit.

    Args:
        base: A gated MLP, or any module with linear layers in it.
        rank: Width ``r`` of the change.
        alpha: Scale of the change is ``alpha / rank``.

    Raises:
        ValueError: The base has no linear layer, or the rank is below 1.

    Example:
        >>> base = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 8))
        >>> expert = LowRankExpert(base, rank=2)
        >>> x = torch.randn(3, 8)
        >>> bool(torch.equal(expert(x), base(x))), sum(p.numel() for p in expert.parameters())
        (True, 160)
    """

    def __init__(self, base: nn.Module, *, rank: int = 8, alpha: float = 16.0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.rank, self.alpha = rank, alpha
        self.factors = nn.ModuleList()
        self.places: list[str] = []
        twin = self._twin(base, "")
        if not self.places:
            raise ValueError(f"{type(base).__name__} has no linear layer that could be changed")
        # past the registry of modules: the base's weights are its own, here they are only used
        self.__dict__["_twin_of_base"] = twin

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the changed base.

        Args:
            *args: As the base takes them.
            **kwargs: As the base takes them.

        Returns:
            What the base returns.
        """
        return self.__dict__["_twin_of_base"](*args, **kwargs)

    def train(self, mode: bool = True) -> LowRankExpert:
        """Set the training mode, also of what is shared with the base where it has no weights of its own."""
        super().train(mode)
        _set_mode(self.__dict__.get("_twin_of_base"), mode)
        return self

    def extra_repr(self) -> str:
        """Rank, alpha, and which layers are changed."""
        return f"rank={self.rank}, alpha={self.alpha}, places={self.places}"

    def _twin(self, module: nn.Module, path: str) -> nn.Module:
        if _is_linear(module):
            self.places.append(path or ".")
            self.factors.append(_Factors(module, self.rank, self.alpha / self.rank))
            return _Changed(module, self.factors[-1])
        if not any(_is_linear(part) for part in module.modules()):
            return module
        # a shallow copy keeps the base's own dictionaries of parameters, and so follows all that is done to them
        twin = copy.copy(module)
        inside = {name: child and self._twin(child, f"{path}.{name}".lstrip(".")) for name, child in _children(module)}
        twin.__dict__["_modules"] = inside
        return twin


class _Factors(nn.Module):
    """The change of one linear layer."""

    def __init__(self, linear: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        weight, self.scale = linear.weight, scale
        dtype = weight.dtype if weight.is_floating_point() else torch.get_default_dtype()
        self.down = nn.Parameter(weight.new_empty(rank, linear.in_features, dtype=dtype))
        self.up = nn.Parameter(weight.new_zeros(linear.out_features, rank, dtype=dtype))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * nn.functional.linear(nn.functional.linear(x, self.down), self.up)


class _Changed(nn.Module):
    """A linear layer of the base with its change."""

    def __init__(self, linear: nn.Module, factors: nn.Module) -> None:
        super().__init__()
        self.linear, self.factors = linear, factors

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.factors(x)


def _is_linear(module: nn.Module) -> TypeIs[nn.Linear]:
    # attention of torch reads the weights of its output layer and never calls it
    return isinstance(module, nn.Linear) and not isinstance(module, NonDynamicallyQuantizableLinear)


def _children(module: nn.Module) -> list[tuple[str, nn.Module | None]]:
    return list(module._modules.items())


def _set_mode(twin: nn.Module | None, mode: bool) -> None:
    """Set the mode of copies only; what is the base's own module keeps its mode."""
    if twin is None or isinstance(twin, _Changed):
        return
    for _, child in _children(twin):
        if child is not None and (isinstance(child, _Changed) or _holds_changed(child)):
            _set_mode(child, mode)
    if _holds_changed(twin):
        twin.training = mode


def _holds_changed(module: nn.Module) -> bool:
    return any(isinstance(part, _Changed) for part in module.modules())
