from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from avexperts.streams import timm, transformers
from avexperts.streams._known import check_forward
from avexperts.streams._stream import Opener, Stream

_REGISTERED: dict[str, Opener] = {}

_HOW_TO = """
A backbone is opened by a generator that yields a Site wherever something may be added:

    def open_mine(model, x):
        x = model.embed(x)
        for i, block in enumerate(model.blocks):
            x = yield ax.Site(f"blocks.{i}.attn", x, block.attention_branch)
            x = yield ax.Site(f"blocks.{i}.mlp", x, block.mlp_branch)
        return model.norm(x)

    stream = ax.open_backbone(model, example, opener=open_mine)"""


def open_backbone(
    model: nn.Module,
    example: Tensor | Sequence[Any] | None = None,
    *,
    opener: Opener | None = None,
    **options: Any,
) -> Stream:
    """Open a backbone at its residual sites.

    Known families need nothing: timm's ViT, Swin, Swin-V2, PVT-v2 and ResNet; transformers' CLAP audio (which is
    HTS-AT), AST, CLIP vision, ViT, DINOv2, Swin, Swin-V2, PVT-v2 and ResNet. They take ``granularity="sublayer"``
    (sites around attention and around the MLP) or ``"block"`` (a site around each block and one after it; ResNets have
    no other), and ``final_norm=False`` to return the tokens before the last norm. Any other model comes with its own
    opener, or one registered for its class.

    Args:
        model: The backbone; it is not changed.
        example: An input of batch size one, or the size of one sample, e.g. ``(3, 224, 224)``: finds the site table.
        opener: A generator function ``opener(model, *inputs, **options)``.
        **options: Passed on to the opener.

    Returns:
        The :class:`Stream`.

    Raises:
        TypeError: The class of ``model`` is unknown; the message shows how to write an opener.

    Example:
        >>> from transformers import ViTConfig, ViTModel
        >>> vit = ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32))
        >>> [site.name for site in open_backbone(vit, (3, 32, 32)).sites]
        ['blocks.0.attn', 'blocks.0.mlp', 'blocks.1.attn', 'blocks.1.mlp']
    """
    if isinstance(model, Stream):
        raise TypeError("open_backbone takes a model; this is a stream already")
    return Stream(model, opener or _find_opener(model), example, **options)


def register_opener(backbone: type[nn.Module] | str, opener: Opener | None = None) -> Callable[..., Any]:
    """Teach :func:`open_backbone` a class of backbones.

    Args:
        backbone: The class, or its full dotted name, so that nothing needs to be imported.
        opener: A generator function ``opener(model, *inputs, **options)``; without it, returns a decorator.

    Returns:
        The decorator, or the opener given.

    Example:
        >>> class Tiny(nn.Module):
        ...     pass
        >>> @register_opener(Tiny)
        ... def open_tiny(model, x):
        ...     x = yield Site("blocks.0.block", x, model)
        ...     return x
    """
    name = backbone if isinstance(backbone, str) else _full_name(backbone)

    def register(function: Opener) -> Opener:
        _REGISTERED[name] = function
        return function

    return register if opener is None else register(opener)


def _find_opener(model: nn.Module) -> Opener:
    shipped = {**timm.OPENERS, **transformers.OPENERS}
    for cls in type(model).__mro__:
        name = _full_name(cls)
        if name in _REGISTERED:
            return _REGISTERED[name]
        if name in shipped:
            check_forward(model, cls)  # a subclass that changed its forward would be opened as something it is not
            return shipped[name]
    raise TypeError(f"no opener is known for {_full_name(type(model))}.{_HOW_TO}")


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
