from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from avexperts.streams._meta_copy import meta_copy, to_meta
from avexperts.streams._site import Site

Tokens: TypeAlias = Generator[Site, Tensor, Tensor]
Opener: TypeAlias = Callable[..., Tokens]


class SiteInfo(NamedTuple):
    """One row of a stream's site table, found by a dry run.

    Attributes:
        name: The site's name.
        tokens: Token count ``N``.
        dim: Channels ``D``.
        takes_prefix: Whether the site's ``run`` accepts ``prefix=``.
    """

    name: str
    tokens: int
    dim: int
    takes_prefix: bool


class Stream:
    """A backbone together with the generator that opens it at its sites.

    Made by :func:`open_backbone`. The site table is found by one dry run on an example input: on the meta device
    where the backbone allows it (no arithmetic, no memory), else for real without gradients.

    Args:
        backbone: The model.
        opener: A generator function ``opener(backbone, *inputs, **options)`` that yields :class:`Site` and returns
            the final tokens ``(B, N, D)``.
        example: An input of batch size one, a tuple of such inputs, or the size of one sample, e.g. ``(3, 224, 224)``.
        **options: Passed on to the opener, e.g. ``granularity="block"``.

    Attributes:
        sites: The site table, in run order; empty until an example was given.
        input_size: Size of one sample, if the example was one tensor or a size; else None.

    Example:
        >>> from avexperts import open_backbone
        >>> tower = nn.ModuleDict({"embed": nn.Linear(3, 8), "mlp": nn.Linear(8, 8), "norm": nn.LayerNorm(8)})
        >>> def open_tower(model, x):
        ...     x = model["embed"](x)
        ...     x = yield Site("blocks.0.mlp", x, lambda tokens: tokens + model["mlp"](tokens))
        ...     return model["norm"](x)
        >>> open_backbone(tower, (5, 3), opener=open_tower).sites
        (SiteInfo(name='blocks.0.mlp', tokens=5, dim=8, takes_prefix=False),)
    """

    def __init__(
        self,
        backbone: nn.Module,
        opener: Opener,
        example: Tensor | Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        self.backbone = backbone
        self.opener = opener
        self.options = options
        self.input_size = _input_size(example)
        self.sites: tuple[SiteInfo, ...] = () if example is None else self.trace(example)

    def __call__(self, *inputs: Any) -> Tokens:
        """Start the backbone on its inputs: a generator to advance with ``send``."""
        return self.opener(self.backbone, *inputs, **self.options)

    def trace(self, example: Tensor | Sequence[Any]) -> tuple[SiteInfo, ...]:
        """Run once on an example and return the site table.

        Args:
            example: An input of batch size one, a tuple of such inputs, or the size of one sample.

        Returns:
            One :class:`SiteInfo` per site, in run order.

        Raises:
            ValueError: Two sites have the same name, or tokens are not ``(B, N, D)``.
        """
        inputs = self._example_inputs(example)
        try:
            rows = self._dry_run(meta_copy(self.backbone), [to_meta(x) if isinstance(x, Tensor) else x for x in inputs])
        except Exception:  # whatever it was, a real run tells the truth: it works, or raises the backbone's own error
            rows = self._dry_run(self.backbone, inputs)
        names = [row.name for row in rows]
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"site names must be unique, but the opener yields twice: {', '.join(double)}")
        return tuple(rows)

    def _example_inputs(self, example: Tensor | Sequence[Any]) -> list[Any]:
        like = next(self.backbone.parameters(), torch.empty(0))
        if isinstance(example, Tensor):
            return [example]
        if all(isinstance(size, int) for size in example):
            return [torch.zeros(1, *example, dtype=like.dtype, device=like.device)]
        return list(example)

    def _dry_run(self, backbone: nn.Module, inputs: list[Any]) -> list[SiteInfo]:
        training, before = {part: part.training for part in backbone.modules()}, _ambient_modes()
        rows: list[SiteInfo] = []
        stream = self.opener(backbone, *inputs, **self.options)
        backbone.eval()
        try:
            sent = None
            while True:
                try:
                    site = stream.send(sent)  # type: ignore[arg-type]
                except StopIteration as stop:
                    _check_end(stop, rows)
                    return rows
                if _ambient_modes() != before:
                    raise ValueError(
                        f"the opener holds a context manager open across the yield of {site.name!r}: it would "
                        "leak into the other streams; put it inside run, or around computation between two yields"
                    )
                rows.append(_describe(site))
                sent = site.run(site.tokens).detach()
        finally:
            close_streams([stream])
            for part, mode in training.items():
                part.training = mode


def close_streams(streams: Iterable[Tokens]) -> None:
    """End streams that may still be suspended: an error's traceback would keep them so for as long as it is held."""
    for stream in streams:
        if hasattr(stream, "close"):
            stream.close()


def _input_size(example: Tensor | Sequence[Any] | None) -> list[int] | None:
    if isinstance(example, Tensor):
        return list(example.shape[1:])
    return list(example) if example is not None and all(isinstance(size, int) for size in example) else None


def _ambient_modes() -> tuple[bool, ...]:
    autocast = [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")]
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), *autocast


def _check_end(stop: StopIteration, rows: list[SiteInfo]) -> None:
    end = stop.args[0] if stop.args else None
    if not rows:
        raise ValueError("the opener yields no site: nothing could ever be added to this backbone")
    if not isinstance(end, Tensor) or end.dim() != 3:
        got = tuple(end.shape) if isinstance(end, Tensor) else type(end).__name__
        raise ValueError(f"an opener must return the final tokens (B, N, D), got {got}")


def _describe(site: Site) -> SiteInfo:
    if site.tokens.dim() != 3:
        raise ValueError(f"site {site.name!r}: tokens must be (B, N, D), got {tuple(site.tokens.shape)}")
    _, tokens, dim = site.tokens.shape
    return SiteInfo(site.name, tokens, dim, _takes_prefix(site.run))


def _takes_prefix(run: Callable[..., Tensor]) -> bool:
    function = run.forward if isinstance(run, nn.Module) else run
    return "prefix" in inspect.signature(function).parameters
