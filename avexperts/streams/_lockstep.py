from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as run_checkpointed

from avexperts.streams._freeze import freeze
from avexperts.streams._lockstep_graph_break import LockStepGraphBreak
from avexperts.streams._lockstep_output import LockStepOutput
from avexperts.streams._plan import make_plan
from avexperts.streams._site import Site
from avexperts.streams._stream import Stream, Tokens


class LockStep(nn.Module):
    """Drive two or more backbones together and let them exchange tokens where their sites are coupled.

    Each stream is a generator. It runs alone from site to site; where sites are coupled the streams wait for each
    other, the coupling sees all their :class:`Site` and returns the tokens that each goes on with.

    Args:
        streams: Opened backbones by name; names are free (``"vision"``, ``"audio"``, ``"depth"``, ...). Each must
            have been opened with an example, so that its sites are known.
        couplings: Pairs of (stream to site, module), in run order, as :func:`pair_sites` gives them. The module is
            called with the sites in that order (None for an absent stream) and returns as many token tensors, then
            optionally a dictionary of readings ``{kind: {stream: tensor}}``. A module whose attribute
            ``requires_prefix`` is true is refused at sites that cannot take a prefix.
        taps: Sites whose arriving tokens are returned too, as ``"STREAM.SITE"``.
        towers: ``"frozen"`` (no gradients, always in eval mode), ``"frozen-train"`` (no gradients, but they follow
            ``train()``, as in the papers' programs: dropout acts and running statistics drift), or ``"trainable"``.
        checkpoint: Recompute the backbones' sub-layers in the backward pass instead of keeping their activations.

    Raises:
        ValueError: Unknown names, couplings out of run order, or a prefix at a site that takes none.

    Example:
        >>> from transformers import ASTConfig, ASTModel, ViTConfig, ViTModel
        >>> import avexperts as ax
        >>> size = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
        >>> streams = {
        ...     "vision": ax.open_backbone(ViTModel(ViTConfig(image_size=32, **size)), (3, 32, 32)),
        ...     "audio": ax.open_backbone(ASTModel(ASTConfig(max_length=32, num_mel_bins=32, **size)), (32, 32)),
        ... }
        >>> pairings = ax.pair_sites({name: stream.sites for name, stream in streams.items()})
        >>> couplings = [
        ...     (pair, ax.ResidualCoupling({name: ax.LatentCrossAdapter(16) for name in pair})) for pair in pairings
        ... ]
        >>> model = ax.LockStep(streams, couplings)
        >>> out = model(vision=torch.randn(2, 3, 32, 32), audio=torch.randn(2, 32, 32))
        >>> out.vision.shape, out.audio.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 6, 16]))
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        couplings: Sequence[tuple[Mapping[str, str], nn.Module]] = (),
        *,
        taps: Sequence[str] = (),
        towers: Literal["frozen", "frozen-train", "trainable"] = "frozen",
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        if towers not in ("frozen", "frozen-train", "trainable"):
            raise ValueError(f"towers is 'frozen', 'frozen-train' or 'trainable', got {towers!r}")
        untraced = [name for name, stream in streams.items() if not stream.sites]
        if untraced or not streams:
            raise ValueError(f"streams without a site table: {untraced}; use open_backbone(model, example)")
        self.sites = {name: stream.sites for name, stream in streams.items()}
        self.towers = nn.ModuleDict({name: stream.backbone for name, stream in streams.items()})
        self.couplings = nn.ModuleList(module for _, module in couplings)
        self.pairings = [dict(pairing) for pairing, _ in couplings]
        self.checkpoint = checkpoint
        self._openers = {name: partial(stream.opener, **stream.options) for name, stream in streams.items()}
        self._plan = make_plan(self.sites, self.pairings)
        self._plan_without_couplings = make_plan(self.sites, ())
        self._adapters_enabled = True
        self._towers_follow_train = towers != "frozen"
        self._entries = self._first_couplings()
        self._before = {
            stream: frozenset(row.name for row in self.sites[stream][:position])
            for stream, (position, _) in self._entries.items()
        }
        self._check_prefixes()
        self._taps = self._check_taps(taps)
        if towers != "trainable":
            freeze(self.towers)
        self.train(self.training)

    def __call__(
        self, inputs: Mapping[str, Any] | None = None, /, *, entry: Mapping[str, Tensor] | None = None, **streams: Any
    ) -> LockStepOutput:
        """Run all streams; see :meth:`forward`. Inputs go by keyword, ``model(vision=...)``, or in a dict."""
        given = streams if inputs is None else inputs
        if self._compiled_call_impl is None:
            return super().__call__(given, entry)
        try:
            return super().__call__(given, entry)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise LockStepGraphBreak(str(error).strip().partition("\n")[0] or type(error).__name__) from error

    def forward(self, inputs: Mapping[str, Any], entry: Mapping[str, Tensor] | None = None) -> LockStepOutput:
        """Run all streams to their ends.

        Args:
            inputs: Input of each stream, a tensor or a tuple of the opener's arguments. A stream that is left out or
                None is absent: couplings get None in its place. Batch sizes of coupled streams are equal.
            entry: What :meth:`entry_tokens` gave for these inputs. The frozen sub-layers before the first coupling
                are then not run again.

        Returns:
            :class:`LockStepOutput`.

        Raises:
            ValueError: No stream, or an unknown one.
        """
        streams = self._start(inputs)
        sent: dict[str, Tensor | None] = dict.fromkeys(streams)
        out = LockStepOutput({})
        waiting: list[Site | None] = []
        # One loop advances everything: if a graph break hits, the whole frame runs eagerly, with equal results.
        for stream, expected, coupling, fires in self._plan if self._adapters_enabled else self._plan_without_couplings:
            site: Site | None = None
            if stream in streams:
                if not hasattr(streams[stream], "send"):
                    raise LockStepGraphBreak(f"a graph break consumed the running stream {stream!r}")
                try:
                    site = self._at_site(stream, streams[stream].send(sent[stream]))  # type: ignore[arg-type]
                except StopIteration as stop:
                    out.tokens[stream] = stop.args[0]
                _check_arrival(stream, expected, None if site is None else site.name)
            if site is not None and entry is not None and stream in self._entries:
                site = self._from_entry(stream, site, entry[stream])
            if site is not None and stream + "." + site.name in self._taps:
                out.taps[stream + "." + site.name] = site.tokens
            if coupling is None:
                if site is not None:
                    sent[stream] = site.run(site.tokens)
                continue
            waiting.append(site)
            if fires:
                sent.update(self._couple(coupling, waiting, out))
                waiting = []
        return out

    def compile(self, *args: Any, fullgraph: bool = True, **kwargs: Any) -> None:
        """Compile the whole model in place with :func:`torch.compile`, by default as one graph.

        Args:
            *args: Passed on to ``torch.compile``.
            fullgraph: Whether a graph break is an error. It then raises :class:`LockStepGraphBreak` with the cause.
            **kwargs: Passed on to ``torch.compile``.

        Raises:
            RuntimeError: torch is older than 2.13, which cannot trace a generator's ``send``.
        """
        if _torch_version() < (2, 13):
            raise RuntimeError(f"compiling a LockStep needs torch 2.13 or newer, this is {torch.__version__}")
        super().compile(*args, fullgraph=fullgraph, **kwargs)

    def train(self, mode: bool = True) -> LockStep:
        """Set the training mode; frozen towers stay in eval mode unless built with ``towers="frozen-train"``."""
        super().train(mode)
        if not self._towers_follow_train:
            self.towers.eval()
        return self

    @contextmanager
    def disable_adapters(self) -> Iterator[None]:
        """Within this context the model is its bare towers, bit for bit."""
        before, self._adapters_enabled = self._adapters_enabled, False
        try:
            yield
        finally:
            self._adapters_enabled = before

    @torch.no_grad()
    def entry_tokens(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Run the towers up to their first couplings, where nothing trains: compute once, use every epoch.

        Args:
            inputs: As for :meth:`forward`.

        Returns:
            The tokens that arrive at each coupled stream's first coupling, ``(B, N, D)``, for ``entry=``.
        """
        found: dict[str, Tensor] = {}
        for name, stream in self._start(inputs).items():
            sent: Tensor | None = None
            for _ in range(self._entries.get(name, (0, ""))[0]):
                site = stream.send(sent)  # type: ignore[arg-type]
                sent = site.run(site.tokens)
            if name in self._entries:
                found[name] = stream.send(sent).tokens  # type: ignore[arg-type]
            stream.close()
        return found

    def adapter_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the couplings, in order: what trains, and what is worth sharing."""
        return self.couplings.parameters()

    def _start(self, inputs: Mapping[str, Any]) -> dict[str, Tokens]:
        unknown = [name for name in inputs if name not in self._openers]
        if unknown:
            raise ValueError(f"unknown streams {unknown}; this model has {list(self._openers)}")
        streams = {}
        for name, opener in self._openers.items():
            given = inputs.get(name)
            if given is not None:
                streams[name] = opener(self.towers[name], *(given if isinstance(given, tuple) else (given,)))
        if not streams:
            raise ValueError(f"no input: give at least one of {list(self._openers)}")
        return streams

    def _first_couplings(self) -> dict[str, tuple[int, str]]:
        """Position and name of each coupled stream's first coupled site."""
        first: dict[str, tuple[int, str]] = {}
        for pairing in self.pairings:
            for stream, name in pairing.items():
                first.setdefault(stream, ([row.name for row in self.sites[stream]].index(name), name))
        return first

    def _from_entry(self, stream: str, site: Site, tokens: Tensor) -> Site:
        _, name = self._entries[stream]
        if site.name == name:
            return Site(name, tokens, site.run)
        # Before the entry nothing is run: what flows there is thrown away, and only its shape matters.
        return Site(site.name, site.tokens, _skip) if site.name in self._before[stream] else site

    def _at_site(self, stream: str, site: Site) -> Site:
        if self.checkpoint and torch.is_grad_enabled():
            return Site(site.name, site.tokens, partial(run_checkpointed, site.run, use_reentrant=False))
        return site

    def _couple(self, index: int, sites: list[Site | None], out: LockStepOutput) -> dict[str, Tensor]:
        pairing = self.pairings[index]
        if all(site is None for site in sites):
            return {}
        returned = self.couplings[index](*sites)
        readings = returned[-1] if isinstance(returned[-1], dict) else {}
        continuations = returned[: len(returned) - isinstance(returned[-1], dict)]
        if len(continuations) != len(sites):
            raise ValueError(f"coupling {index} returned {len(continuations)} token tensors for {len(sites)} sites")
        for kind, values in readings.items():
            for stream, value in values.items():
                out.readings.setdefault(kind, {})[stream + "." + pairing[stream]] = value
        return {stream: tokens for stream, tokens in zip(pairing, continuations, strict=True) if tokens is not None}

    def _check_prefixes(self) -> None:
        able = {(name, row.name) for name, rows in self.sites.items() for row in rows if row.takes_prefix}
        for module, pairing in zip(self.couplings, self.pairings, strict=True):
            for stream, site in pairing.items():
                if getattr(module, "requires_prefix", False) and (stream, site) not in able:
                    raise ValueError(
                        f"{type(module).__name__} needs a prefix, which {stream} site {site!r} cannot take"
                    )

    def _check_taps(self, taps: Sequence[str]) -> frozenset[str]:
        known = [f"{stream}.{row.name}" for stream, rows in self.sites.items() for row in rows]
        unknown = [tap for tap in taps if tap not in known]
        if unknown:
            raise ValueError(f"no such sites to tap: {unknown}; there are {', '.join(known)}")
        return frozenset(taps)


def _skip(tokens: Tensor) -> Tensor:
    return tokens


def _check_arrival(stream: str, expected: str | None, arrived: str | None) -> None:
    if arrived != expected:
        here, there = arrived or "its end", expected or "its end"
        raise RuntimeError(
            f"stream {stream!r} arrived at {here} where its dry run had {there}: an opener's sites must not depend on "
            "the input"
        )


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)
