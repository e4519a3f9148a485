"""Drive one opened backbone alone, without couplings."""

from __future__ import annotations

from torch import Tensor, nn

from avexperts.streams._site import Site
from avexperts.streams._stream import Opener, Tokens


def drive(stream: Tokens) -> tuple[Tensor, list[Site]]:
    """Run to the end; return the tokens and the sites passed."""
    sent, sites = None, []
    while True:
        try:
            site = stream.send(sent)
        except StopIteration as stop:
            return stop.args[0], sites
        sites.append(site)
        sent = site.run(site.tokens)


class Driver(nn.Module):
    """A backbone run through its opener, in the one-loop form that compiles."""

    def __init__(self, backbone: nn.Module, opener: Opener, **options: object) -> None:
        super().__init__()
        self.backbone = backbone
        self.opener = opener
        self.options = options

    def forward(self, inputs: Tensor) -> Tensor:
        stream, sent = self.opener(self.backbone, inputs, **self.options), None
        for _ in range(1000):
            try:
                site = stream.send(sent)
            except StopIteration as stop:
                return stop.args[0]
            sent = site.run(site.tokens)
        raise AssertionError("the stream does not end")
