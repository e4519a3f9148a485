from __future__ import annotations

import logging
import subprocess
import sys

import pytest
import torch

from avexperts.ops import _backend
from avexperts.ops._backend import choose, compiled, forced, no_triton, small_first

FORMS = {"triton": "no device", "fused": None, "compiled": None}


@pytest.fixture(autouse=True)
def _no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(_backend.VARIABLE, raising=False)
    monkeypatch.setattr(_backend, "_said", set())


def test_the_first_usable_form_is_taken() -> None:
    x = torch.ones(1)
    assert choose("op", x, FORMS) == "fused"
    assert choose("op", x, {"triton": "no device"}) == "reference"
    assert choose("op", x, {"triton": None, "compiled": None}) == "compiled", "the interpreter was taken unasked"
    assert choose("op", x.double(), FORMS) == "reference"
    assert choose("op", x, {}) == "reference"


@pytest.mark.parametrize("name", ["reference", "fused", "compiled"])
def test_a_request_is_met(name: str) -> None:
    with forced(name):
        assert choose("op", torch.ones(1), FORMS) == name
        assert choose("op", torch.ones(1).double(), FORMS) == name
    with forced("triton"):
        assert choose("op", torch.ones(1), {"triton": None}) == "triton"
        assert choose("op", torch.ones(1), {"fused": None}) == "fused", "an op without the form goes on"


def test_a_request_that_cannot_be_met_says_why() -> None:
    with forced("triton"), pytest.raises(RuntimeError, match=r"AVEXPERTS_BACKEND=triton: op 'stir' .* no device"):
        choose("stir", torch.ones(1), FORMS)
    with forced("cuda"), pytest.raises(RuntimeError, match="'cuda': choose one of reference, fused, compiled, triton"):
        choose("stir", torch.ones(1), FORMS)


def test_a_request_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_backend.VARIABLE, "compiled")
    with forced("fused"):
        assert choose("op", torch.ones(1), FORMS) == "fused"
    assert choose("op", torch.ones(1), FORMS) == "compiled"


def test_the_choice_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "avexperts")
    for _ in range(3):
        choose("op", torch.ones(1), FORMS)
        choose("op", torch.ones(1).double(), FORMS)
    assert caplog.messages == ["op runs as fused", "op runs as reference"]


def test_the_choice_leaves_no_trace_in_a_graph(caplog: pytest.LogCaptureFixture) -> None:
    def either(x: torch.Tensor) -> torch.Tensor:
        form = choose("op", x, {"triton": no_triton(x), "fused": None})
        return x + 1 if form == "fused" else x - 1

    class Either(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return either(x)

    caplog.set_level(logging.INFO, "avexperts")
    graph = torch.compile(either, fullgraph=True, backend="eager")
    assert graph(torch.ones(1)).item() == 2
    assert graph(torch.ones(1).double()).item() == 0
    assert caplog.messages == ["op runs as fused", "op runs as reference"]
    for strict in (True, False):
        program = torch.export.export(Either(), (torch.ones(2),), strict=strict)
        assert program.module()(torch.ones(2)).sum().item() == 4


def test_what_keeps_triton_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    x = torch.ones(1)
    assert "needs a CUDA device" in (no_triton(x) or "")
    assert "int64 takes" in (no_triton(x.long()) or "")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(_backend, "_found", lambda package: True)
    assert no_triton(x) is None
    monkeypatch.setattr(_backend, "_found", lambda package: False)
    assert "not installed" in (no_triton(x) or "")


def test_compiled_is_one_function_and_the_same() -> None:
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    assert compiled(twice) is compiled(twice)
    assert compiled(twice) is not twice


def test_the_library_imports_neither_triton_nor_the_compiler() -> None:
    code = "import sys, avexperts; print([m for m in ('triton', 'torch._dynamo') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(("frames", "first"), [(3, "reference"), (4, "fused")])
def test_few_numbers_are_left_to_the_reference(frames: int, first: str) -> None:
    assert next(iter(small_first(torch.empty(frames, 256, 256), {"fused": None}))) == first
    elsewhere = torch.empty(frames, 256, 256, device="meta")
    assert list(small_first(elsewhere, {"fused": None})) == ["fused"], "only a CPU is slow with few"


def test_a_graph_serves_all_batch_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    chosen = {next(iter(small_first(torch.empty(frames, 64, 255), {"fused": None}))) for frames in (1, 40)}
    assert chosen == {"reference"}
    assert next(iter(small_first(torch.empty(1, 64, 256), {"fused": None}))) == "fused"
