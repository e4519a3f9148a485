"""One thread per process, and the figures that tests record, printed at the end of the run."""

from __future__ import annotations

from collections.abc import Iterator

import _figures
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _recording(record_property) -> Iterator[None]:
    torch.manual_seed(0)
    _figures._recorders.append(record_property)
    yield
    _figures._recorders.pop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print every recorded figure, the worst per name: what a promise was kept by."""
    figures: dict[str, list[float]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            figures.setdefault(name, []).append(value)
    if figures:
        terminalreporter.section("figures")
        for name, values in sorted(figures.items()):
            terminalreporter.line(f"{name}: {max(values):.3g} (worst of {len(values)})")
