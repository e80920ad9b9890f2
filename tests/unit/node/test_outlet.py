"""What setup and cleanup print: told line by line, and its end kept."""

from __future__ import annotations

import os

import pytest
import trio
import trio.testing

from dispy_node import outlet as outlet_module
from dispy_node.outlet import LINES, Outlet


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def outlet(told: list[str]) -> Outlet:
    return Outlet(told.append)


def play(outlet: Outlet, *pieces: bytes) -> None:
    """Write pieces, and read until the other end is closed."""

    async def write() -> None:
        for piece in pieces:
            await trio.to_thread.run_sync(os.write, outlet.theirs, piece)
            await trio.testing.wait_all_tasks_blocked()
        outlet.close_theirs()

    async def main() -> None:
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outlet.serve)
                nursery.start_soon(write)

    trio.run(main)
    outlet.close()


def test_lines_are_told_as_they_come(outlet: Outlet, told: list[str]) -> None:
    play(outlet, b"one\ntw", b"o\n\nthree")
    assert told == ["one", "two", "", "three"]
    assert outlet.tail() == "\n    one\n    two\n    \n    three"


def test_nothing_printed_is_nothing_told(outlet: Outlet, told: list[str]) -> None:
    play(outlet)
    assert told == []
    assert outlet.tail() == ""


def test_what_is_left_is_read_at_the_end(outlet: Outlet, told: list[str]) -> None:
    """Also while something still has the other end open."""
    os.write(outlet.theirs, b"late\n")
    outlet.close()
    outlet.close_theirs()
    assert told == ["late"]


def test_a_flood_is_told_in_part(outlet: Outlet, told: list[str]) -> None:
    play(outlet, b"".join(b"line %d\n" % number for number in range(3000)))
    assert len(told) == LINES + 1
    assert told[-1] == f"(more than {LINES} lines in a minute: the others are left out)"
    assert outlet.tail().startswith("\n    line 2990\n")
    assert outlet.tail().endswith("\n    line 2999")


def test_an_endless_line_is_cut(outlet: Outlet, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet_module, "LINE_BYTES", 10)
    monkeypatch.setattr(outlet_module, "TAIL_BYTES", 20)
    play(outlet, *[b"x" * 30_000] * 10, b"\nend\n")
    assert told == ["x" * 10, "end"]
    assert outlet.tail() == "\n    " + "x" * 15 + "\n    end"
