"""Nothing that peers say acts on a terminal, or looks like a line of ours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("node 7 \u00e9\u4e16", "node 7 \u00e9\u4e16"),
        ("\x1b[2J\ta\r\nb", "?[2J a  b"),
        ("a\x9bb\x07\x00", "a?b??"),
        ("\u202egnp.exe\u2028x", "?gnp.exe x"),
        ("\ud800", "?"),
    ],
)
def test_what_acts_on_terminals_is_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(), st.integers(0, 10))
def test_it_is_one_line_and_cut_off(text: str, limit: int) -> None:
    assert printable(text).isprintable()
    assert printable(text, limit) == printable(text)[:limit]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one", "one"),
        ("one\ndispy: two\n      three\n", "one\n    dispy: two\n      three"),
        ("\x1b]0;x\x07\r\ndispy: done", "?]0;x?\n    dispy: done"),
        ("\n", ""),
        ("a\x0b\u2028b", "a\n    \n    b"),
    ],
)
def test_lines_stay_but_cannot_pass_for_ours(text: str, shown: str) -> None:
    assert printable_lines(text) == shown


@given(st.text())
def test_all_lines_but_the_first_are_indented(text: str) -> None:
    lines = printable_lines(text).split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("    ") for line in lines[1:])
    assert printable_lines("\n".join(lines)) in ("\n".join(lines), "\n".join(lines).rstrip("\n"))
