"""Openers of transformers' backbones (transformers >= 4.48); each reproduces ``last_hidden_state``."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

from torch import Tensor

from avexperts.streams._convolutional import open_convolutional
from avexperts.streams._known import Granularity, Sublayers, block_rows, hidden_states, to_map
from avexperts.streams._prefix_attention import prefix_attention
from avexperts.streams._prefix_windows import clap_windows
from avexperts.streams._shifted_window import shifted_window_attention
from avexperts.streams._site import Site
from avexperts.streams._stream import Opener, Tokens

MapSize: TypeAlias = tuple[int, int]


def open_vit(model: Any, inputs: Tensor, *, granularity: Granularity = "sublayer", final_norm: bool = True) -> Tokens:
    """Open a ``ViTModel``, or an ``ASTModel``, which is a ViT on spectrograms.

    Args:
        model: The backbone.
        inputs: Images ``(B, C, H, W)``, for AST log-mels ``(B, frames, mels)``.
        granularity: ``"sublayer"`` for the sites ``blocks.I.attn`` and ``blocks.I.mlp``, ``"block"`` for
            ``blocks.I.block`` and ``blocks.I.out``.
        final_norm: Apply ``model.layernorm`` to the tokens returned.

    Yields:
        The sites.

    Returns:
        Tokens ``(B, N, D)``, the class token (in AST: class and distillation token) first.

    Raises:
        ValueError: At the first ``send``: the granularity is unknown.

    Example:
        >>> import torch
        >>> from transformers import ViTConfig, ViTModel
        >>> config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32)
        >>> open_vit(ViTModel(config), torch.zeros(2, 3, 32, 32)).send(None).tokens.shape
        torch.Size([2, 5, 8])
    """
    x = model.embeddings(inputs.to(model.embeddings.patch_embeddings.projection.weight.dtype))
    layers = model.layers if hasattr(model, "layers") else model.encoder.layer  # transformers 5, or older
    for name, run in block_rows(_VIT, granularity, layers):
        x = yield Site(name, x, run)
    return model.layernorm(x) if final_norm else x


def open_dinov2(
    model: Any, images: Tensor, *, granularity: Granularity = "sublayer", final_norm: bool = True
) -> Tokens:
    """Open a ``Dinov2Model``.

    Arguments, sites and result are those of :func:`open_vit`.

    Example:
        >>> import torch
        >>> from transformers import Dinov2Config, Dinov2Model
        >>> config = Dinov2Config(
        ...     hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
        ... )
        >>> open_dinov2(Dinov2Model(config), torch.zeros(2, 3, 32, 32)).send(None).tokens.shape
        torch.Size([2, 5, 8])
    """
    x = model.embeddings(images)
    for name, run in block_rows(_DINOV2, granularity, model.encoder.layer):
        x = yield Site(name, x, run)
    return model.layernorm(x) if final_norm else x


def open_clip_vision(
    model: Any,
    images: Tensor,
    *,
    granularity: Granularity = "sublayer",
    final_norm: bool = True,
    embed: bool = False,
) -> Tokens:
    """Open a ``CLIPVisionModel``.

    Arguments, sites and result are those of :func:`open_vit`, but ``final_norm`` changes nothing: CLIP
    norms its pooled class token (``post_layernorm``), and never ``last_hidden_state``. With ``embed`` there is one
    more site, ``embed``, before the norm in front of the blocks, which is its ``run``.

    Example:
        >>> import torch
        >>> from transformers import CLIPVisionConfig, CLIPVisionModel
        >>> config = CLIPVisionConfig(
        ...     hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
        ... )
        >>> open_clip_vision(CLIPVisionModel(config), torch.zeros(2, 3, 32, 32)).send(None).tokens.shape
        torch.Size([2, 5, 8])
    """
    tower = getattr(model, "vision_model", model)  # one module deeper before transformers 5
    x = tower.embeddings(images)
    if embed:
        x = yield Site("embed", x, partial(_module, tower.pre_layrnorm))
    else:
        x = tower.pre_layrnorm(x)
    for name, run in block_rows(_CLIP, granularity, tower.encoder.layers):
        x = yield Site(name, x, run)
    return x


def open_swin(
    model: Any,
    images: Tensor,
    *,
    granularity: Granularity = "sublayer",
    final_norm: bool = True,
    post_norm: bool = False,
) -> Tokens:
    """Open a ``SwinModel``, or with ``post_norm`` a ``Swinv2Model``.

    Args:
        model: The backbone.
        images: ``(B, C, H, W)``.
        granularity: ``"sublayer"`` for the sites ``stages.S.blocks.I.attn`` and ``stages.S.blocks.I.mlp``,
            ``"block"`` for ``stages.S.blocks.I.block`` and ``stages.S.blocks.I.out``.
        final_norm: Apply ``model.layernorm`` to the tokens returned.
        post_norm: Whether the blocks norm what a sub-layer gives (Swin-V2) instead of what it takes.

    Yields:
        The sites.

    Returns:
        Tokens ``(B, N, D)``, row by row of the last map.

    Raises:
        ValueError: At the first ``send``: the granularity is unknown.

    Example:
        >>> import torch
        >>> from transformers import Swinv2Config, Swinv2Model
        >>> model = Swinv2Model(Swinv2Config(image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2]))
        >>> open_swin(model, torch.zeros(2, 3, 32, 32), post_norm=True).send(None).tokens.shape
        torch.Size([2, 64, 8])
    """
    sublayers = _WINDOWED_POST_NORM if post_norm else _WINDOWED
    x, size = model.embeddings(images)
    for index, stage in enumerate(model.encoder.layers):
        for name, run in block_rows(sublayers, granularity, stage.blocks, size, prefix=f"stages.{index}."):
            x = yield Site(name, x, run)
        x, size = _merge_patches(stage, size, x)
    return model.layernorm(x) if final_norm else x


def open_pvt_v2(
    model: Any, images: Tensor, *, granularity: Granularity = "sublayer", final_norm: bool = True
) -> Tokens:
    """Open a ``PvtV2Model`` (Wang et al., PVT v2, https://arxiv.org/abs/2106.13797).

    Arguments, sites and result are those of :func:`open_swin`, but each stage ends with a norm, which comes after its
    last site; ``final_norm`` is about the last.

    Example:
        >>> import torch
        >>> from transformers import PvtV2Config, PvtV2Model
        >>> config = PvtV2Config(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2])
        >>> open_pvt_v2(PvtV2Model(config), torch.zeros(2, 3, 64, 64)).send(None).tokens.shape
        torch.Size([2, 256, 8])
    """
    maps, x = images, images
    for index, stage in enumerate(model.encoder.layers):
        x, *size = stage.patch_embedding(maps)
        for name, run in block_rows(_PYRAMID, granularity, stage.blocks, size, prefix=f"stages.{index}."):
            x = yield Site(name, x, run)
        if final_norm or index + 1 < len(model.encoder.layers):
            x = stage.layer_norm(x)
        maps = to_map(x, size)
    return x


def open_clap_audio(
    model: Any, mel: Tensor, *, granularity: Granularity = "sublayer", final_norm: bool = True
) -> Tokens:
    """Open a ``ClapAudioModel`` or its ``ClapAudioEncoder``: HTS-AT, on a map of time and frequency.

    Chen et al., "HTS-AT" (https://arxiv.org/abs/2202.00874). AVMoE takes the tokens without the final norm.

    Args:
        model: The backbone, without feature fusion.
        mel: Log-mels ``(B, 1, frames, mels)``, before the model's own batch norm.
        granularity: As in :func:`open_swin`.
        final_norm: Apply the encoder's ``norm`` to the tokens returned.

    Yields:
        The sites.

    Returns:
        Tokens ``(B, N, D)``, row by row of the last map, which the model goes on to regroup by frequency.

    Raises:
        ValueError: At the first ``send``: the granularity is unknown, or the model fuses features.

    Example:
        >>> import torch
        >>> from transformers import ClapAudioConfig, ClapAudioModel
        >>> config = ClapAudioConfig(patch_embeds_hidden_size=8, num_attention_heads=[1, 1, 2, 4])
        >>> open_clap_audio(ClapAudioModel(config), torch.zeros(1, 1, 1001, 64)).send(None).tokens.shape
        torch.Size([1, 4096, 8])
    """
    encoder = getattr(model, "audio_encoder", model)
    if encoder.enable_fusion:
        raise ValueError(
            "this CLAP audio model fuses four mel crops (enable_fusion=True), which the opener does not; "
            "take one without fusion, e.g. laion/clap-htsat-unfused"
        )
    x = encoder.batch_norm(mel.transpose(1, 3)).transpose(1, 3)
    x = encoder.patch_embed(encoder.reshape_mel2img(x))
    size = encoder.patch_embed.grid_size
    for index, stage in enumerate(encoder.layers):
        for name, run in block_rows(_CLAP, granularity, stage.blocks, size, prefix=f"stages.{index}."):
            x = yield Site(name, x, run)
        x, size = _merge_patches(stage, size, x)
    return encoder.norm(x) if final_norm else x


def _resnet_stem(model: Any, images: Tensor) -> Tensor:
    return model.embedder(images)


def _resnet_stages(model: Any) -> list[Any]:
    return [stage.layers for stage in model.encoder.stages]


def _merge_patches(stage: Any, size: MapSize, x: Tensor) -> tuple[Tensor, MapSize]:
    if stage.downsample is None:
        return x, size
    return stage.downsample(x, size), ((size[0] + 1) // 2, (size[1] + 1) // 2)


def _module(module: Any, x: Tensor) -> Tensor:
    return module(x)


def _attend(attention: Any, x: Tensor, prefix: Tensor | None, projected: bool) -> Tensor:
    if prefix is None:
        return hidden_states(attention(x))
    return prefix_attention(x, prefix, attention, projected=projected)


def _vit_attn(block: Any, x: Tensor, prefix: Tensor | None = None, projected: bool = False) -> Tensor:
    attended = _attend(block.attention, block.layernorm_before(x), prefix, projected)
    if hasattr(block, "mlp"):
        attended = block.dropout(attended)  # in transformers 4 it belongs to the attention
    return attended + x


def _vit_mlp(block: Any, x: Tensor) -> Tensor:
    hidden = block.layernorm_after(x)
    if hasattr(block, "mlp"):
        return block.dropout(block.mlp(hidden)) + x
    return block.output(block.intermediate(hidden), x)  # transformers 4: the output layer adds the residual


def _block(block: Any, x: Tensor) -> Tensor:
    return hidden_states(block(x))


def _dinov2_attn(block: Any, x: Tensor) -> Tensor:
    return block.drop_path(block.layer_scale1(hidden_states(block.attention(block.norm1(x))))) + x


def _dinov2_mlp(block: Any, x: Tensor) -> Tensor:
    return block.drop_path(block.layer_scale2(block.mlp(block.norm2(x)))) + x


def _clip_attn(block: Any, x: Tensor, prefix: Tensor | None = None, projected: bool = False) -> Tensor:
    return x + _attend(block.self_attn, block.layer_norm1(x), prefix, projected)


def _clip_mlp(block: Any, x: Tensor) -> Tensor:
    return x + block.mlp(block.layer_norm2(x))


def _clip_block(block: Any, x: Tensor) -> Tensor:
    # transformers 4 requires both masks, 5 passes the second on unread
    return hidden_states(block(x, attention_mask=None, causal_attention_mask=None))


def _pyramid_attn(block: Any, size: MapSize, x: Tensor) -> Tensor:
    return block.drop_path(hidden_states(block.attention(block.layer_norm_1(x), *size))) + x


def _pyramid_mlp(block: Any, size: MapSize, x: Tensor) -> Tensor:
    return x + block.drop_path(block.mlp(block.layer_norm_2(x), *size))


def _pyramid_block(block: Any, size: MapSize, x: Tensor) -> Tensor:
    return hidden_states(block(x, *size))


def _windowed_attn(block: Any, size: MapSize, x: Tensor) -> Tensor:
    return x + block.drop_path(shifted_window_attention(block, size, block.layernorm_before(x)))


def _clap_attn(block: Any, size: MapSize, x: Tensor, prefix: Tensor | None = None, projected: bool = False) -> Tensor:
    attend = None if prefix is None else partial(clap_windows, block.attention, prefix, projected)
    return x + block.drop_path(shifted_window_attention(block, size, block.layernorm_before(x), attend))


def _clap_block(block: Any, size: MapSize, x: Tensor, prefix: Tensor | None = None, projected: bool = False) -> Tensor:
    if prefix is None:
        return _windowed_block(block, size, x)
    return _windowed_mlp(block, size, _clap_attn(block, size, x, prefix, projected))


def _windowed_mlp(block: Any, size: MapSize, x: Tensor) -> Tensor:
    hidden = block.layernorm_after(x)
    if hasattr(block, "mlp"):  # SwinModel of transformers 5
        return block.dropout(block.mlp(hidden)) + x
    return x + block.output(block.intermediate(hidden))


def _windowed_post_norm_attn(block: Any, size: MapSize, x: Tensor) -> Tensor:
    return x + block.drop_path(block.layernorm_before(shifted_window_attention(block, size, x)))


def _windowed_post_norm_mlp(block: Any, size: MapSize, x: Tensor) -> Tensor:
    return x + block.drop_path(block.layernorm_after(block.output(block.intermediate(x))))


def _windowed_block(block: Any, size: MapSize, x: Tensor) -> Tensor:
    return hidden_states(block(x, size))


_VIT = Sublayers(_vit_attn, _vit_mlp, _block)
_DINOV2 = Sublayers(_dinov2_attn, _dinov2_mlp, _block)
_CLIP = Sublayers(_clip_attn, _clip_mlp, _clip_block)
_PYRAMID = Sublayers(_pyramid_attn, _pyramid_mlp, _pyramid_block)
_WINDOWED = Sublayers(_windowed_attn, _windowed_mlp, _windowed_block)
_CLAP = Sublayers(_clap_attn, _windowed_mlp, _clap_block)
_WINDOWED_POST_NORM = Sublayers(_windowed_post_norm_attn, _windowed_post_norm_mlp, _windowed_block)

_AST = "audio_spectrogram_transformer"
OPENERS: dict[str, Opener] = {
    f"transformers.models.{_AST}.modeling_{_AST}.ASTModel": open_vit,
    "transformers.models.clap.modeling_clap.ClapAudioEncoder": open_clap_audio,
    "transformers.models.clap.modeling_clap.ClapAudioModel": open_clap_audio,
    "transformers.models.clip.modeling_clip.CLIPVisionModel": open_clip_vision,
    "transformers.models.dinov2.modeling_dinov2.Dinov2Model": open_dinov2,
    "transformers.models.pvt_v2.modeling_pvt_v2.PvtV2Model": open_pvt_v2,
    "transformers.models.resnet.modeling_resnet.ResNetModel": partial(
        open_convolutional, stem=_resnet_stem, stages=_resnet_stages
    ),
    "transformers.models.swin.modeling_swin.SwinModel": open_swin,
    "transformers.models.swinv2.modeling_swinv2.Swinv2Model": partial(open_swin, post_norm=True),
    "transformers.models.vit.modeling_vit.ViTModel": open_vit,
}
