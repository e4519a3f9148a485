from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from avexperts.checkpoints._adapter_names import AVMOE, DG_SCT, LAVISH
from avexperts.checkpoints._convert_adapters import Blocks, Format, convert_adapters


def avmoe(
    state: Mapping[str, Tensor],
    *,
    to: Format = "avexperts",
    like: nn.Module | None = None,
    parts: Sequence[int] = (0, 1),
    blocks: Blocks | None = None,
) -> dict[str, Tensor]:
    """Translate AVMoE's names to ours, or ours to theirs: those of all its programs, from localisation to segmentation.

    The papers' 1x1 convolutions are linear maps here, so their weights change shape too. Prefixes that
    ``DataParallel`` leaves are passed over, and so are the towers and heads of a whole checkpoint. Both ways and back
    gives the same tensors under the same names, except for parameters that no forward pass of the papers uses: they
    are dropped, and not made up on the way back.

    Args:
        state: A whole checkpoint of the papers, of which the adapters are taken, or the state of a single
            ``MoEAdapter`` or ``ExpertAdapter`` (cross-modal if it has ``my_tokens``). For ``to="papers"`` the state
            of a :class:`CouplingSet`, also as :func:`save_adapters` stored it, or of an :class:`AdapterMoE`,
            :class:`LatentCrossAdapter` or :class:`BottleneckAdapter`.
        to: ``"avexperts"`` or ``"papers"``. Options such as ``unimodal_activation=None`` leave no trace in a state:
            for the papers' program to compute the same they must be the papers'.
        like: A module that our side of the translation must fit: a :class:`LockStep`, whose active adapter counts, or
            any of the above. Only its names and shapes are used.
        parts: For ``to="papers"``, which parts of each block are coupled, as built with :func:`methods.avmoe`.
        blocks: For ``to="papers"``, what the program calls its lists of adapters: ``"adapter_blocks"`` in parsing and
            question answering, ``"moe_adapter_blocks"`` in event localisation and segmentation. By default the first
            if the unimodal experts mix tokens as in parsing, else the second.

    Returns:
        A new dictionary of the same tensors, for ``model.adapters["default"].load_state_dict(...)`` or a single
        module; or for the papers' program.

    Raises:
        CheckpointError: Keys are unknown, missing (adapters of one stream do not hold the same, or ``like`` has
            more) or misshapen; all are named, those of ``like`` by the papers' name and ours.
        ValueError: ``to``, ``parts`` or ``blocks`` is none of what is listed.

    Example:
        >>> import torch
        >>> ours = avmoe({"conv_adapter.weight": torch.ones(4, 6, 1, 1)})
        >>> {name: tuple(tensor.shape) for name, tensor in ours.items()}
        {'resamplers.0.token_mix.weight': (4, 6)}
        >>> {name: tuple(tensor.shape) for name, tensor in avmoe(ours, to="papers").items()}
        {'conv_adapter.weight': (4, 6, 1, 1)}
    """
    return convert_adapters(AVMOE, state, to, like, parts, blocks=blocks)


def lavish(
    state: Mapping[str, Tensor],
    *,
    to: Format = "avexperts",
    like: nn.Module | None = None,
    parts: Sequence[int] = (0, 1),
) -> dict[str, Tensor]:
    """Translate LAVisH's names to ours, or ours to theirs: a whole checkpoint, or one adapter; see :func:`avmoe`.

    Example:
        >>> import torch
        >>> list(lavish({"my_tokens": torch.ones(2, 3)}))
        ['exchange.latents']
    """
    return convert_adapters(LAVISH, state, to, like, parts)


def dg_sct(
    state: Mapping[str, Tensor],
    *,
    to: Format = "avexperts",
    like: nn.Module | None = None,
    parts: Sequence[int] = (0, 1),
    unapplied: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Translate DG-SCT's names to ours, or ours to theirs: a whole checkpoint, or one adapter; see :func:`avmoe`.

    Its adapters hold parameters that no forward pass uses, such as ``gate_tk``. They are dropped, so a state that
    went both ways lacks them. Its segmentation programs hold more of the kind, which only the reader can name, since in
    the others they count: ``unapplied=["conv_adapter", "ln_before"]`` for single-source segmentation,
    ``unapplied=["ln_before"]`` for multi-source.

    Example:
        >>> import torch
        >>> list(dg_sct({"fc_affine_audio_1.bias": torch.ones(3), "gate_tk": torch.ones(1)}))
        ['channel_guide.bias']
    """
    return convert_adapters(DG_SCT, state, to, like, parts, unapplied=unapplied)
