from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Lay out cells as plain text.

    Args:
        header: Titles of the columns.
        rows: Cells, as many per row as there are titles.
        align: ``"<"`` or ``">"`` per column.

    Returns:
        Lines without trailing spaces, a rule under the header.

    Example:
        >>> print(table(["site", "samples"], [["blocks.0", "12"]], "<>"))
        site      samples
        -----------------
        blocks.0       12
    """
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
