from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avexperts.streams._coupling_set import CouplingSet
from avexperts.streams._freeze import freeze
from avexperts.streams._lockstep_graph_break import LockStepGraphBreak
from avexperts.streams._lockstep_output import LockStepOutput
from avexperts.streams._lockstep_summary import LockStepSummary
from avexperts.streams._meeting import Rows, run_meeting
from avexperts.streams._named_adapters import AdapterChoice, NamedAdapters
from avexperts.streams._plan import Meeting, Plan
from avexperts.streams._recompute import recomputed
from avexperts.streams._sharing import Sharing
from avexperts.streams._site import Site
from avexperts.streams._stream import Stream, Tokens, close_streams
from avexperts.streams._summary import summarize
from avexperts.streams._taps import Tap, Taps


class LockStep(NamedAdapters, Sharing):
    """Drive two or more backbones together and let them exchange tokens where their sites are coupled.

    Each stream is a generator. It runs alone from site to site; where sites are coupled the streams wait for each
    other, the coupling sees all their :class:`Site` and returns the tokens that each goes on with.

    Args:
        streams: Opened backbones by name; names are free (``"vision"``, ``"audio"``, ``"depth"``, ...). Each must
            have been opened with an example, so that its sites are known.
        couplings: Pairs of (stream to site, module), in run order, as :func:`pair_sites` gives them. The module is
            called with the sites in that order (None for an absent stream) and returns as many token tensors, then
            optionally a dictionary of readings ``{kind: {stream: tensor}}``. A module whose attribute
            ``requires_prefix`` is true, or names streams, is refused at sites that cannot take a prefix. One whose
            attribute ``reads`` names sites its streams have passed, ``"STREAM.SITE"``, also gets the tokens that
            arrived there, ``read={name: (B, N, D)}``. A :class:`CouplingSet` is taken as it is.
        taps: Tokens that are returned too: ``"STREAM.SITE"`` for those that arrive at a site, ``"STREAM.STAGE"`` for
            those that leave the last site of a stage, before its patches are merged. ``"vision.stages.0"`` is a stage,
            and so is all whose sites' names begin alike, as ``"vision.stages.0.blocks.1"``.
        towers: ``"frozen"`` (no gradients, always in eval mode), ``"frozen-train"`` (no gradients, but they follow
            ``train()``, as in the papers' programs: dropout acts and running statistics drift), or ``"trainable"``.
        checkpoint: What is recomputed in the backward pass instead of keeping its activations: ``"towers"`` (each
            sub-layer of the backbones), ``"couplings"`` (each coupling with the sub-layers it runs), or ``"all"``.

    The couplings become the adapter ``"default"``; more can be added under other names.

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
        couplings: CouplingSet | Sequence[tuple[Mapping[str, str], nn.Module]] = (),
        *,
        taps: Sequence[str] = (),
        towers: Literal["frozen", "frozen-train", "trainable"] = "frozen",
        checkpoint: Literal["towers", "couplings", "all"] | None = None,
    ) -> None:
        if towers not in ("frozen", "frozen-train", "trainable"):
            raise ValueError(f"towers is 'frozen', 'frozen-train' or 'trainable', got {towers!r}")
        if checkpoint not in (None, "towers", "couplings", "all"):
            raise ValueError(f"checkpoint is None, 'towers', 'couplings' or 'all', got {checkpoint!r}")
        untraced = [name for name, stream in streams.items() if not stream.sites]
        if untraced or not streams:
            raise ValueError(f"streams without a site table: {untraced}; use open_backbone(model, example)")
        adapter = couplings if isinstance(couplings, CouplingSet) else CouplingSet(couplings)
        super().__init__({name: stream.sites for name, stream in streams.items()}, adapter)
        self.towers = nn.ModuleDict({name: stream.backbone for name, stream in streams.items()})
        self.towers_mode = towers
        self.opened = {name: {"input_size": s.input_size, "options": dict(s.options)} for name, s in streams.items()}
        self.checkpoint = checkpoint
        self._openers = {name: partial(stream.opener, **stream.options) for name, stream in streams.items()}
        self._taps = Taps(taps, self.sites)
        if towers != "trainable":
            freeze(self.towers)
        self.train(self.training)

    def __call__(
        self,
        inputs: Mapping[str, Any] | None = None,
        /,
        *,
        entry: Mapping[str, Tensor] | None = None,
        adapters: AdapterChoice = None,
        **streams: Any,
    ) -> LockStepOutput:
        """Run all streams; see :meth:`forward`. Inputs go by keyword, ``model(vision=...)``, or in a dict."""
        given = streams if inputs is None else inputs
        if self._compiled_call_impl is None:
            return super().__call__(given, entry, adapters)
        self._choose(adapters)  # a plan that is new is made outside of the graph
        try:
            return super().__call__(given, entry, adapters)
        except torch._dynamo.exc.TorchDynamoException as error:
            raise LockStepGraphBreak(str(error).strip().partition("\n")[0] or type(error).__name__) from error

    def forward(
        self, inputs: Mapping[str, Any], entry: Mapping[str, Tensor] | None = None, adapters: AdapterChoice = None
    ) -> LockStepOutput:
        """Run all streams to their ends.

        Args:
            inputs: Input of each stream, a tensor or a tuple of the opener's arguments. A stream that is left out or
                None is absent: couplings get None in its place. Batch sizes of coupled streams are equal.
            entry: What :meth:`entry_tokens` gave for these inputs. The frozen sub-layers before the first coupling
                are then not run again, and the taps among them are taken from here.
            adapters: Name of the adapter to use instead of the active one, or one name per sample (None for the bare
                towers). Rows of different adapters share the pass except where they are coupled; their readings are
                then under ``"ADAPTER/STREAM.SITE"``.

        Returns:
            :class:`LockStepOutput`.

        Raises:
            ValueError: No stream, or an unknown one; an unknown adapter, or adapters that cannot share a pass;
                ``entry`` was made for other sites.
        """
        plan, rows = self._choose(adapters)
        streams = self._start(inputs)
        sent: dict[str, Tensor | None] = dict.fromkeys(streams)
        out = LockStepOutput({})
        waiting: list[Site | None] = []
        left: dict[str, Tap] = {}
        read: dict[str, Tensor] = {}
        # One loop advances everything: if a graph break hits, the whole frame runs eagerly, with equal results.
        try:
            for stream, expected, meeting, fires in plan.stops:
                site: Site | None = None
                if stream in streams:
                    if not hasattr(streams[stream], "send"):
                        raise LockStepGraphBreak(f"a graph break consumed the running stream {stream!r}")
                    tokens = sent[stream]
                    if tokens is not None:
                        self._taps.take(out.taps, left[stream], tokens)
                    try:
                        site = streams[stream].send(tokens)  # type: ignore[arg-type]
                    except StopIteration as stop:
                        out.tokens[stream] = stop.args[0]
                    _check_arrival(stream, expected, None if site is None else site.name)
                if site is not None and entry is not None:
                    site = _from_entry(plan, stream, site, entry)
                if site is not None:
                    self._taps.take(out.taps, Tap(stream, site.name, leaves=False), site.tokens)
                    _keep(read, plan, stream, site, entry)
                    left[stream] = Tap(stream, site.name, leaves=True)
                if site is not None and self._recomputes(site.tokens, coupled=meeting is not None):
                    site = Site(site.name, site.tokens, recomputed(site.run))
                if meeting is None:
                    if site is not None:
                        sent[stream] = site.run(site.tokens)
                    continue
                waiting.append(site)
                if fires:
                    sent.update(self._meet(plan.meetings[meeting], waiting, rows, read, out))
                    waiting = []
        finally:
            close_streams(streams.values())
        if entry is not None:
            out.taps |= _taps_from_entry(self._taps.within(plan.before), streams, entry)
        out.taps = {name: out.taps[name] for name in self._taps.names if name in out.taps}
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
        if self.towers_mode == "frozen":
            self.towers.eval()
        return self

    @torch.no_grad()
    def entry_tokens(self, inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        """Run the towers up to the active adapter's first couplings, where nothing trains: once for all epochs.

        Args:
            inputs: As for :meth:`forward`.

        Returns:
            The tokens that arrive at each stream's first coupling, ``(B, N, D)``, by ``"STREAM.SITE"``, and before
            them those that couplings read and the taps, by name, for ``entry=``.
        """
        found: dict[str, Tensor] = {}
        plan = self._choose(None)[0]
        entries = plan.entries
        streams = self._start(inputs)
        try:
            for name, stream in streams.items():
                site = stream.send(None)  # type: ignore[arg-type]
                while name in entries and site.name != entries[name]:
                    self._taps.take(found, Tap(name, site.name, leaves=False), site.tokens)
                    if (name, site.name) in plan.reads:
                        found[f"{name}.{site.name}"] = site.tokens
                    tokens = site.run(site.tokens)
                    self._taps.take(found, Tap(name, site.name, leaves=True), tokens)
                    site = stream.send(tokens)
                if name in entries:
                    found[f"{name}.{site.name}"] = site.tokens
        finally:
            close_streams(streams.values())
        return found

    def summary(self) -> LockStepSummary:
        """Describe the model: its towers, sites, couplings and adapters, what trains, and what a sample costs.

        Returns:
            A table when printed; every number is a field. The model is not changed, and may be on the meta device.
        """
        return summarize(self)

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

    def _recomputes(self, tokens: Tensor, coupled: bool) -> bool:
        # Where frozen sub-layers get tokens without history, there is no backward pass to run them again in. A coupling
        # may give its sub-layer prompts that train.
        records = coupled or self.towers_mode == "trainable" or tokens.requires_grad
        return records and (self.checkpoint == "towers" or (self.checkpoint == "all" and not coupled))

    def _meet(
        self,
        meeting: Meeting,
        sites: list[Site | None],
        rows: Rows | None,
        read: Mapping[str, Tensor],
        out: LockStepOutput,
    ) -> dict[str, Tensor]:
        pairing, indices = meeting
        if all(site is None for site in sites):
            return {}
        couplings: dict[str, Any] = {name: self._set(name).couplings[index] for name, index in indices.items()}
        asked = {name: getattr(coupling, "reads", ()) for name, coupling in couplings.items()}
        reads = {
            name: {site: read[site] for site in sites_read if site in read}
            for name, sites_read in asked.items()
            if sites_read
        }
        if self.checkpoint in ("couplings", "all"):
            couplings = {name: recomputed(coupling) for name, coupling in couplings.items()}
        continuations, readings = run_meeting(pairing, sites, couplings, rows, reads)
        for kind, values in readings.items():
            out.readings.setdefault(kind, {}).update(values)
        return continuations


def _from_entry(plan: Plan, stream: str, site: Site, entry: Mapping[str, Tensor]) -> Site:
    # Before the entry nothing is run: what flows there is thrown away, and only its shape matters.
    if (stream, site.name) in plan.before:
        return Site(site.name, site.tokens, _skip)
    if plan.entries.get(stream) != site.name:
        return site
    if f"{stream}.{site.name}" not in entry:
        raise ValueError(f"entry has {list(entry)}, not {stream}.{site.name}: it was made for other couplings")
    return Site(site.name, entry[f"{stream}.{site.name}"], site.run)


def _keep(read: dict[str, Tensor], plan: Plan, stream: str, site: Site, entry: Mapping[str, Tensor] | None) -> None:
    name = f"{stream}.{site.name}"
    if (stream, site.name) not in plan.reads:
        return
    if entry is None or (stream, site.name) not in plan.before:
        read[name] = site.tokens
    elif name in entry:
        read[name] = entry[name]
    else:
        raise ValueError(f"entry has {list(entry)}, not {name}, which couplings read: it was made for other couplings")


def _taps_from_entry(taps: Mapping[str, Tap], streams: Iterable[str], entry: Mapping[str, Tensor]) -> dict[str, Tensor]:
    here = [name for name, tap in taps.items() if tap.stream in streams]
    missing = [name for name in here if name not in entry]
    if missing:
        raise ValueError(f"entry has {list(entry)}, not the taps {missing}: it was made by a model with other taps")
    return {name: entry[name] for name in here}


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
