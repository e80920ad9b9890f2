"""Plain tables."""

from __future__ import annotations

import pytest

from dispy_cli.tables import format_bytes, format_table


def test_columns_are_aligned_and_lines_have_no_blanks_at_the_end() -> None:
    table = format_table(("NAME", "X", "LAST"), [("a", "long one", ""), ("longer", "b", "c d")])
    assert table.splitlines() == [
        "NAME    X         LAST",
        "a       long one",
        "longer  b         c d",
    ]


def test_headings_stand_alone_without_rows() -> None:
    assert format_table(("A", "B"), []) == "A  B"


def test_strangers_cannot_move_the_cursor() -> None:
    assert format_table(("A",), [("\x1b[2Jb\nc",)]) == "A\n?[2Jb c"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (3 << 30, "3.0 GiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes(size: int, text: str) -> None:
    assert format_bytes(size) == text
