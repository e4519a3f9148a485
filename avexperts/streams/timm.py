"""Openers of timm's backbones (timm >= 0.9); each reproduces ``forward_features``, flattened to tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Size, Tensor, nn

from avexperts.streams._convolutional import open_convolutional
from avexperts.streams._known import Granularity, Sublayers, block_rows, to_map
from avexperts.streams._prefix_attention import prefix_attention
from avexperts.streams._prefix_windows import cosine_windows
from avexperts.streams._shifted_window import attend_in_windows
from avexperts.streams._site import Site
from avexperts.streams._stream import Opener, Tokens


def open_vit(model: Any, images: Tensor, *, granularity: Granularity = "sublayer", final_norm: bool = True) -> Tokens:
    """Open a timm ``VisionTransformer``; its class and register tokens are tokens like the others.

    Args:
        model: The backbone. Sub-layer sites need timm's plain pre-norm ``Block``; at block granularity any
            block class will do.
        images: ``(B, C, H, W)``.
        granularity: ``"sublayer"`` for the sites ``blocks.I.attn`` and ``blocks.I.mlp``, ``"block"`` for
            ``blocks.I.block`` and ``blocks.I.out``.
        final_norm: Apply ``model.norm`` to the tokens returned.

    Yields:
        The sites.

    Returns:
        Tokens ``(B, N, D)``.

    Raises:
        ValueError: At the first ``send``: the granularity is unknown, or does not suit the blocks.

    Example:
        >>> import timm, torch
        >>> model = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=1, num_classes=0)
        >>> open_vit(model, torch.zeros(2, 3, 32, 32)).send(None).name
        'blocks.0.attn'
    """
    if granularity == "sublayer":
        _require_plain_blocks(model.blocks)
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    for name, run in block_rows(_PLAIN, granularity, model.blocks):
        x = yield Site(name, x, run)
    return model.norm(x) if final_norm else x


def open_swin(
    model: Any,
    images: Tensor,
    *,
    granularity: Granularity = "sublayer",
    final_norm: bool = True,
    post_norm: bool = False,
) -> Tokens:
    """Open a timm ``SwinTransformer``, or with ``post_norm`` a ``SwinTransformerV2``.

    Args:
        model: The backbone.
        images: ``(B, C, H, W)``.
        granularity: ``"sublayer"`` for the sites ``stages.S.blocks.I.attn`` and ``stages.S.blocks.I.mlp``,
            ``"block"`` for ``stages.S.blocks.I.block`` and ``stages.S.blocks.I.out``.
        final_norm: Apply ``model.norm`` to the tokens returned.
        post_norm: Whether the blocks norm what a sub-layer gives (Swin-V2) instead of what it takes.

    Yields:
        The sites.

    Returns:
        Tokens ``(B, N, D)``, row by row of the last map.

    Raises:
        ValueError: At the first ``send``: the granularity is unknown.

    Example:
        >>> import timm, torch
        >>> model = timm.create_model("swinv2_tiny_window8_256", img_size=64, num_classes=0)
        >>> open_swin(model, torch.zeros(2, 3, 64, 64), post_norm=True).send(None).tokens.shape
        torch.Size([2, 256, 96])
    """
    sublayers = _WINDOWED_POST_NORM if post_norm else _WINDOWED
    x = model.patch_embed(images)
    for index, stage in enumerate(model.layers):
        x = stage.downsample(x)
        size = x.shape[1:3]
        x = x.flatten(1, 2)
        for name, run in block_rows(sublayers, granularity, stage.blocks, size, prefix=f"stages.{index}."):
            x = yield Site(name, x, run)
        x = x.unflatten(1, size)
    return (model.norm(x) if final_norm else x).flatten(1, 2)


def open_pvt(model: Any, images: Tensor, *, granularity: Granularity = "sublayer", final_norm: bool = True) -> Tokens:
    """Open a timm ``PyramidVisionTransformerV2`` (Wang et al., PVT v2, https://arxiv.org/abs/2106.13797).

    Each stage ends with a norm, which comes after its last site and before the patches are merged: what a
    :class:`LockStep` taps at a stage has not been normed.

    Args:
        model: The backbone.
        images: ``(B, C, H, W)``.
        granularity: ``"sublayer"`` for the sites ``stages.S.blocks.I.attn`` and ``stages.S.blocks.I.mlp``,
            ``"block"`` for ``stages.S.blocks.I.block`` and ``stages.S.blocks.I.out``.
        final_norm: Apply the norm of the last stage to the tokens returned.

    Yields:
        The sites.

    Returns:
        Tokens ``(B, N, D)``, row by row of the last map.

    Raises:
        ValueError: At the first ``send``: the granularity is unknown.

    Example:
        >>> import timm, torch
        >>> model = timm.create_model("pvt_v2_b0", num_classes=0)
        >>> open_pvt(model, torch.zeros(2, 3, 64, 64)).send(None).tokens.shape
        torch.Size([2, 256, 32])
    """
    maps = model.patch_embed(images)
    for index, stage in enumerate(model.stages):
        maps = stage.downsample(maps) if index else maps
        size, x = maps.shape[1:3], maps.flatten(1, 2)
        for name, run in block_rows(_PYRAMID, granularity, stage.blocks, size, prefix=f"stages.{index}."):
            x = yield Site(name, x, run)
        if final_norm or index + 1 < len(model.stages):
            x = stage.norm(x)
        maps = to_map(x, size)
    return x


def _require_plain_blocks(blocks: nn.Sequential) -> None:
    for block in blocks:
        forward = type(block).forward
        if (forward.__module__, forward.__qualname__) != ("timm.models.vision_transformer", "Block.forward"):
            raise ValueError(
                f"sub-layer sites are known for timm's pre-norm Block, not for {type(block).__name__}; "
                "open this model with granularity='block'"
            )


def _resnet_stem(model: Any, images: Tensor) -> Tensor:
    return model.maxpool(model.act1(model.bn1(model.conv1(images))))


def _resnet_stages(model: Any) -> list[Any]:
    return [model.layer1, model.layer2, model.layer3, model.layer4]


def _attn(block: Any, x: Tensor, prefix: Tensor | None = None, projected: bool = False) -> Tensor:
    x_norm = block.norm1(x)
    if prefix is None:
        attended = block.attn(x_norm)
    else:
        attended = prefix_attention(x_norm, prefix, block.attn, projected=projected)
    return x + block.drop_path1(block.ls1(attended))


def _mlp(block: Any, x: Tensor) -> Tensor:
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def _block(block: Any, x: Tensor) -> Tensor:
    return block(x)


def _windowed_attn(block: Any, size: Size, x: Tensor) -> Tensor:
    return x + block.drop_path1(block._attn(block.norm1(x).unflatten(1, size)).flatten(1, 2))


def _windowed_mlp(block: Any, size: Size, x: Tensor) -> Tensor:
    return x + block.drop_path2(block.mlp(block.norm2(x)))


def _windowed_post_norm_attn(
    block: Any, size: Size, x: Tensor, prefix: Tensor | None = None, projected: bool = False
) -> Tensor:
    if prefix is None:
        attended = block._attn(x.unflatten(1, size)).flatten(1, 2)
    else:
        attend = partial(cosine_windows, block.attn, prefix, projected)
        window, shift = _square("window", block.window_size), _square("shift", block.shift_size)
        attended = attend_in_windows(window, shift, size, x, attend)
    return x + block.drop_path1(block.norm1(attended))


def _square(what: str, sides: Any) -> int:
    if len(set(sides)) > 1:
        raise ValueError(f"a prefix needs square windows, this block has a {what} of {tuple(sides)}")
    return sides[0]


def _windowed_post_norm_mlp(block: Any, size: Size, x: Tensor) -> Tensor:
    return x + block.drop_path2(block.norm2(block.mlp(x)))


def _windowed_block(block: Any, size: Size, x: Tensor) -> Tensor:
    return block(x.unflatten(1, size)).flatten(1, 2)


def _pyramid_attn(block: Any, size: Size, x: Tensor) -> Tensor:
    return x + block.drop_path1(block.attn(block.norm1(x), size))


def _pyramid_mlp(block: Any, size: Size, x: Tensor) -> Tensor:
    return x + block.drop_path2(block.mlp(block.norm2(x), size))


def _pyramid_block(block: Any, size: Size, x: Tensor) -> Tensor:
    return block(x, size)


_PLAIN = Sublayers(_attn, _mlp, _block)
_WINDOWED = Sublayers(_windowed_attn, _windowed_mlp, _windowed_block)
_WINDOWED_POST_NORM = Sublayers(_windowed_post_norm_attn, _windowed_post_norm_mlp, _windowed_block)

_PYRAMID = Sublayers(_pyramid_attn, _pyramid_mlp, _pyramid_block)

OPENERS: dict[str, Opener] = {
    "timm.models.vision_transformer.VisionTransformer": open_vit,
    "timm.models.pvt_v2.PyramidVisionTransformerV2": open_pvt,
    "timm.models.resnet.ResNet": partial(open_convolutional, stem=_resnet_stem, stages=_resnet_stages),
    "timm.models.swin_transformer.SwinTransformer": open_swin,
    "timm.models.swin_transformer_v2.SwinTransformerV2": partial(open_swin, post_norm=True),
}
