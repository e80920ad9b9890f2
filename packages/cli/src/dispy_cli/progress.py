"""The progress line of ``dispy run``, on a terminal.

It is the last line of the terminal: whoever writes something else has it taken away first, and it is drawn again
soon. No thread draws it, so a program that is stuck does not look busy.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

if TYPE_CHECKING:
    from types import TracebackType

FIRST_DRAWN_S = 0.5
"""What is done sooner needs no progress line, nor the import of what draws it."""

DRAW_S = 0.1
"""Pause between two drawings: faster than this nobody reads."""

ERASE = "\r\x1b[2K"
"""Go to the first column and clear the line (ECMA-48: CR, EL 2)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a run is.

    Attributes:
        total: number of jobs; None while more may come.
    """

    done: int
    failed: int
    total: int | None
    nodes: int


class NoProgress:
    """Where there is no terminal."""

    def __enter__(self) -> NoProgress:
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def is_due(self) -> bool:
        """Tell that nothing is to be drawn."""
        return False

    def draw(self, standing: Standing) -> None:
        """Do nothing."""

    def make_room(self) -> None:
        """Do nothing."""

    def written(self, data: bytes, stream: BinaryIO) -> None:
        """Do nothing."""


class ProgressLine:
    """The line on *terminal*. In its ``with`` statement ``sys.stderr`` makes room for what others write there.

    Args:
        terminal: a text stream to a terminal.
        render: makes the line from a standing; by default a `RichLine`.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        terminal: TextIO,
        render: Callable[[Standing], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal = terminal
        self._render = render
        self._clock = clock
        self._due_at = clock() + FIRST_DRAWN_S
        self._lock = threading.RLock()
        self._is_drawn = False
        self._is_in_line = False
        """True if others have written the beginning of a line and not yet its end."""
        self._others: TextIO | None = None

    def __enter__(self) -> ProgressLine:
        """Take over ``sys.stderr``."""
        self._others = sys.stderr
        sys.stderr = cast(TextIO, _Beside(self._terminal, self))
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the line away and give ``sys.stderr`` back."""
        self.make_room()
        assert self._others is not None
        sys.stderr = self._others

    def is_due(self) -> bool:
        """Tell whether it is time to draw."""
        return self._clock() >= self._due_at

    def draw(self, standing: Standing) -> None:
        """Draw the line."""
        if self._render is None:
            self._render = RichLine(self._terminal)
        line = self._render(standing)
        with self._lock:
            start = "\n" if self._is_in_line else ERASE
            self._is_in_line = False
            self._terminal.write(start + line)
            self._terminal.flush()
            self._is_drawn = True
        self._due_at = self._clock() + DRAW_S

    def make_room(self) -> None:
        """Take the line away."""
        with self._lock:
            if self._is_drawn:
                self._terminal.write(ERASE)
                self._terminal.flush()
                self._is_drawn = False

    def written(self, data: bytes, stream: BinaryIO) -> None:
        """Hear that *data* was written to *stream*; it matters if that is a terminal."""
        if stream.isatty():
            self._is_in_line = not data.endswith(b"\n")

    def write_beside(self, text: str) -> None:
        """Write what others have to say, above the line."""
        with self._lock:
            self.make_room()
            self._terminal.write(text)
            self._terminal.flush()
            self._is_in_line = not text.endswith("\n")


class _Beside:
    """Stands in for ``sys.stderr``; whatever is written makes room first, all else is the terminal's."""

    def __init__(self, terminal: TextIO, line: ProgressLine) -> None:
        self._terminal = terminal
        self._line = line

    def write(self, text: str) -> int:
        if text:
            self._line.write_beside(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)


class RichLine:
    """Draws a standing as bar, counts and times, as wide as the terminal has room."""

    def __init__(self, terminal: TextIO) -> None:
        # Imported here: 0.1 s that a short run need not spend.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._console = Console(file=terminal, force_terminal=True)
        self._progress = Progress(
            BarColumn(),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=None, counts="")

    def __call__(self, standing: Standing) -> str:
        """Return the line, with colours if the terminal has them."""
        self._progress.update(
            self._task, completed=standing.done, total=standing.total, counts=count(standing)
        )
        with self._console.capture() as capture:
            self._console.print(self._progress.get_renderable(), no_wrap=True, overflow="ellipsis", end="")
        return capture.get().partition("\n")[0].rstrip()


def count(standing: Standing) -> str:
    """Return the counts of a standing as text."""
    total = "?" if standing.total is None else str(standing.total)
    failed = f", {standing.failed} failed" if standing.failed else ""
    where = (
        f" on {standing.nodes} node{'' if standing.nodes == 1 else 's'}"
        if standing.nodes
        else ", no node yet"
    )
    return f"{standing.done}/{total} jobs{failed}{where}"


def choose_progress(*, wanted: bool) -> ProgressLine | NoProgress:
    """Return a progress line if it is wanted and standard error is a terminal that can show one."""
    if wanted and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return ProgressLine(sys.stderr)
    return NoProgress()
