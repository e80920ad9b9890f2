"""The progress line, and those who write beside it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dispy_cli import progress
from dispy_cli.progress import (
    DRAW_S,
    ERASE,
    FIRST_DRAWN_S,
    NoProgress,
    ProgressLine,
    RichLine,
    Standing,
    choose_progress,
    count,
)

STANDING = Standing(done=3, failed=1, total=10, nodes=2)


class Terminal(io.StringIO):
    """A terminal that remembers what it was sent."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def sent(self) -> str:
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


class TerminalBytes(io.BytesIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal() -> Terminal:
    """Give a terminal."""
    return Terminal()


def make_line(terminal: Terminal, clock: Callable[[], float] = lambda: 0.0) -> ProgressLine:
    return ProgressLine(terminal, lambda standing: f"<{standing.done}>", clock)


def test_line_is_due_after_a_while_and_then_in_steps(terminal: Terminal) -> None:
    now = [10.0]
    line = make_line(terminal, lambda: now[0])
    assert not line.is_due()
    now[0] += FIRST_DRAWN_S
    assert line.is_due()
    line.draw(STANDING)
    assert not line.is_due()
    now[0] += DRAW_S + 0.001
    assert line.is_due()


def test_line_is_drawn_over_itself(terminal: Terminal) -> None:
    line = make_line(terminal)
    line.draw(STANDING)
    line.draw(STANDING)
    assert terminal.sent() == f"{ERASE}<3>{ERASE}<3>"


def test_room_is_made_once(terminal: Terminal) -> None:
    line = make_line(terminal)
    line.make_room()
    assert terminal.sent() == ""
    line.draw(STANDING)
    terminal.sent()
    line.make_room()
    line.make_room()
    assert terminal.sent() == ERASE


def test_output_without_end_of_line_is_not_erased(terminal: Terminal) -> None:
    line = make_line(terminal)
    line.written(b"no end", TerminalBytes())
    line.draw(STANDING)
    assert terminal.sent() == "\n<3>"
    line.draw(STANDING)
    assert terminal.sent() == f"{ERASE}<3>"


def test_output_to_a_file_does_not_matter(terminal: Terminal) -> None:
    line = make_line(terminal)
    line.written(b"no end", io.BytesIO())
    line.draw(STANDING)
    assert terminal.sent() == f"{ERASE}<3>"


def test_messages_of_others_stand_above_the_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    with make_line(terminal) as line:
        line.draw(STANDING)
        print("a message", file=sys.stderr)
        line.draw(STANDING)
        print("half", end="", file=sys.stderr)
        line.draw(STANDING)
        sys.stderr.writelines(["a", "b\n"])
        assert sys.stderr.encoding == "utf-8"
    assert sys.stderr is terminal
    assert terminal.sent() == f"{ERASE}<3>{ERASE}a message\n{ERASE}<3>{ERASE}half\n<3>{ERASE}ab\n"


def test_line_is_gone_and_stderr_back_after_an_error(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(KeyboardInterrupt), make_line(terminal) as line:
        line.draw(STANDING)
        raise KeyboardInterrupt
    assert sys.stderr is terminal
    assert terminal.sent().endswith(ERASE)


@pytest.mark.parametrize(
    ("standing", "text"),
    [
        (STANDING, "3/10 jobs, 1 failed on 2 nodes"),
        (Standing(done=0, failed=0, total=None, nodes=1), "0/? jobs on 1 node"),
        (Standing(done=0, failed=0, total=1, nodes=0), "0/1 jobs, no node yet"),
    ],
)
def test_counts(standing: Standing, text: str) -> None:
    assert count(standing) == text


@pytest.mark.parametrize("columns", [20, 80, 200])
def test_rich_line_is_one_line_that_fits(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    render = RichLine(terminal)
    line = render(STANDING)
    assert "\n" not in line
    assert terminal.sent() == ""
    if columns >= 80:
        assert "3/10 jobs, 1 failed on 2 nodes" in line
    plain = "".join(
        part.partition("m")[2] if index else part for index, part in enumerate(line.split("\x1b["))
    )
    assert 0 < len(plain) <= columns


def test_rich_line_takes_an_unknown_total_that_becomes_known(terminal: Terminal) -> None:
    render = RichLine(terminal)
    assert "0/? jobs" in render(Standing(done=0, failed=0, total=None, nodes=1))
    assert "7/7 jobs" in render(Standing(done=7, failed=0, total=7, nodes=1))


@pytest.mark.parametrize(
    ("wanted", "stream", "term", "kind"),
    [
        (True, Terminal(), "xterm", ProgressLine),
        (False, Terminal(), "xterm", NoProgress),
        (True, io.StringIO(), "xterm", NoProgress),
        (True, Terminal(), "dumb", NoProgress),
        (True, Terminal(), None, NoProgress),
    ],
)
def test_progress_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, stream: Any, term: str | None, kind: type[object]
) -> None:
    if term is None:
        monkeypatch.delenv("TERM", raising=False)
    else:
        monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(progress.sys, "stderr", stream)
    assert type(choose_progress(wanted=wanted)) is kind


def test_no_progress_is_never_due() -> None:
    with NoProgress() as line:
        assert not line.is_due()
        line.draw(STANDING)
        line.make_room()
        line.written(b"x", io.BytesIO())
