"""Single parts of the library, each against doing without it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn

import avexperts as ax

from ..case import PRECISIONS, Setting, Variant, case
from ..shapes import SHAPES
from .layers import RECIPE, mixture, outputs
from .steps import Models, adapted, final_tokens, model_variants, random_inputs, towers_of

_MIDDLE = SHAPES["stage 3 vision"]
_MIXTURES = 48  # of 12 pairs
_FRAMES = {"recompute": 2, "recording": 20}


def _frames(setting: Setting, kind: str) -> int:
    return 20 if setting.device.type == "cuda" else 1 if setting.quick else _FRAMES[kind]


def _grouped() -> tuple[nn.Module, nn.Module]:
    """Both projections of a bottleneck, and the same with dense weights."""
    adapter = ax.BottleneckAdapter(_MIDDLE.dim, **RECIPE)
    dense = []
    for part in (adapter.down, adapter.up):
        blocks = torch.block_diag(*part.weight.detach().chunk(part.groups))
        dense.append(nn.Linear(*reversed(blocks.shape), bias=False))
        dense[-1].weight.data.copy_(blocks)
    return nn.Sequential(adapter.down, adapter.up), nn.Sequential(*dense)


def _norms() -> tuple[nn.Module, nn.Module]:
    """A layer norm, and one without scale and shift."""
    return nn.LayerNorm(_MIDDLE.dim), nn.LayerNorm(_MIDDLE.dim, elementwise_affine=False)


def _unimodal(**options: object) -> nn.Module:
    return ax.BottleneckAdapter(_MIDDLE.dim, **RECIPE | options)


_MERGED = {
    "unimodal expert, no activation, batch norm": partial(_unimodal, activation=None),
    "unimodal expert, ReLU, batch norm": partial(_unimodal, activation="relu"),
    "unimodal expert, no activation, batch norm, no last layer norm": partial(
        _unimodal, activation=None, post_norm=False
    ),
    "unimodal expert, no activation, batch norm, reduction 2": partial(_unimodal, activation=None, reduction=2),
    "mixture of 1 + 1 experts, batch norm": partial(mixture, _MIDDLE),
    "mixture of 1 + 1 experts without batch norm": partial(mixture, _MIDDLE, batch_norm=False),
}
_NOT_MERGED = {"grouped projections as dense ones": _grouped, "a layer norm without scale and shift": _norms}


@case("merging", {**_MERGED, **_NOT_MERGED}, parts=("forward",))
def merging(setting: Setting, build: partial[nn.Module]) -> dict[str, Variant]:
    """Adapters merged for evaluation; and what merging leaves as it is, because the other form is slower."""
    count = 1 if setting.quick else 10
    sizes = [(_MIDDLE.tokens, _MIDDLE.dim), (_MIDDLE.other_tokens, _MIDDLE.other_dim)]
    inputs = [torch.randn(count, *size) for size in sizes]
    if build in _NOT_MERGED.values():
        original, merged = build()
    else:
        original = build()
        with torch.no_grad():
            _call(original, inputs)  # so that the statistics of batch norm are some
        merged = ax.merge_adapters(original.eval())
    there = [tokens.to(setting.device) for tokens in inputs]
    modules = {"original": original.to(setting.device), "merged": merged.to(setting.device)}
    return {name: Variant(module, partial(_call, module, there)) for name, module in modules.items()}


def _call(module: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    return outputs(module(*inputs) if isinstance(module, ax.AdapterMoE) else module(inputs[0]))


class EveryFrame(nn.Module):
    """HTS-AT's log-mels as published: the second is repeated ten times and every frame of it transformed."""

    def __init__(self, front_end: ax.HTSATFrontEnd) -> None:
        super().__init__()
        self.front_end = front_end

    def forward(self, waveform: Tensor) -> Tensor:
        """``(B, 32000) -> (B, 1, 1001, 64)``."""
        ours = self.front_end
        clip = waveform.repeat(1, 10)
        spectrum = torch.stft(clip, ours.n_fft, ours.hop_length, window=ours.window, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1).mT @ ours.mel_filters
        return 10 * power.clamp(min=1e-10).log10().unsqueeze(1)


@case("front end", {"1 second": 1, "10 seconds": 10, "40 seconds": 40}, precisions=("float32",), parts=("forward",))
def front_end(setting: Setting, seconds: int) -> dict[str, Variant]:
    """Each distinct frame of a repeated second transformed once, against all of them."""
    distinct = ax.HTSATFrontEnd().to(setting.device)
    waveform = torch.randn(seconds, 32000, device=setting.device) / 10
    modules = {"every frame": EveryFrame(distinct), "distinct frames": distinct}
    return {name: Variant(module, lambda f=module: [f(waveform)], trains=False) for name, module in modules.items()}


@case(
    "recompute",
    {"8 pairs": None},
    facts=lambda _: {"frames": _FRAMES["recompute"]},
    precisions=PRECISIONS,
    parts=("train", "kept", "peak"),
)
def recompute(setting: Setting, _: None) -> dict[str, Variant]:
    """What the backward pass runs again instead of keeping it; Swin-V2-T and HTS-AT."""
    towers = towers_of("miniature" if setting.quick else "tiny")
    kept = cache(partial(adapted, towers))

    def again(what: str) -> ax.LockStep:
        pairs = zip(kept().pairings, kept().couplings, strict=True)
        return ax.LockStep(towers.streams(), list(pairs), checkpoint=what)

    models: Models = {"nothing": kept} | {what: partial(again, what) for what in ("towers", "couplings", "all")}
    variants = model_variants(setting, towers, models, _frames(setting, "recompute"))
    for variant in variants.values():
        variant.equal = True
    return variants


@case(
    "recording",
    {"a training step": None},
    facts=lambda _: {"frames": _FRAMES["recording"]},
    precisions=("float32",),
    parts=("train",),
)
def recording(setting: Setting, _: None) -> dict[str, Variant]:
    """A training step of the miniature towers, with and without a recorder of the routing."""
    towers = towers_of("miniature")
    plain = adapted(towers, skip_every=1).to(setting.device)
    recorded = ax.LockStep(towers.streams(), list(zip(plain.pairings, plain.couplings, strict=True)))
    ax.RoutingRecorder(recorded.to(setting.device)).__enter__()
    inputs = random_inputs(setting, towers, _frames(setting, "recording"))
    models = {"not recorded": plain, "recorded": recorded}
    return {name: Variant(model, lambda m=model: final_tokens(m(inputs))) for name, model in models.items()}


@case("recording", {f"{_MIXTURES} mixtures": None}, precisions=("float32",), parts=("forward",))
def recorder_alone(setting: Setting, _: None) -> dict[str, Variant]:
    """One update of a recorder, against the least that it could do: copy the probabilities."""
    probs = {f"mixture {i}": torch.rand(20, 2, device=setting.device).softmax(-1) for i in range(_MIXTURES)}
    recorder = ax.RoutingRecorder()
    calls = {
        "copied one by one": lambda: [value.clone() for value in probs.values()],
        "recorded": lambda: recorder.update(probs) or [],
    }
    return {name: Variant(nn.Identity(), call, equal=False, trains=False) for name, call in calls.items()}
