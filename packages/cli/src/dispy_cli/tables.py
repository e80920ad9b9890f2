"""Plain tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from dispy.printable import printable


def format_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines with aligned columns, headings first; the last column may be of any width."""
    cells = [[printable(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def format_bytes(size_bytes: int) -> str:
    """Return a size in the unit that suits it, as ``df -h`` does: 512 B, 1.5 GiB."""
    size, units = float(size_bytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"
