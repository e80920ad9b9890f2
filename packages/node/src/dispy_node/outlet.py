"""Where the own output of a runner goes: what ``setup`` and ``cleanup`` print."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

import trio

from dispy.printable import printable

READ_BYTES = 64 * 1024

TAIL_BYTES = 2000
"""How much is kept to be told when setup or cleanup has failed."""

TAIL_LINES = 10
"""How many lines of that are told."""

LINE_BYTES = 1000
"""Longest line that is told; the rest of it is dropped."""

LINES = 100
"""How many lines are told in a minute; of more, it is told that there were more."""

READS_AT_END = 64
"""So often it is read when the runner has ended: a process that it has left behind may be writing for ever."""


class Outlet:
    """A pipe: the runner writes, lines of it are told, and its end is kept.

    Args:
        tell: takes lines, for the node's log.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._end, self.theirs = os.pipe()
        os.set_blocking(self._end, False)
        self._line = b""
        self._tail = bytearray()
        self._told: deque[float] = deque(maxlen=LINES)
        """When the last lines were told."""
        self._is_quiet = False

    def close_theirs(self) -> None:
        """Close the runner's end, of which the runner has its own copy by now."""
        os.close(self.theirs)

    async def serve(self) -> None:
        """Read until nobody can write any more."""
        while True:
            await trio.lowlevel.wait_readable(self._end)
            if not self._read():
                return

    def close(self) -> None:
        """Read what is left, and close."""
        for _ in range(READS_AT_END):
            if not self._read(at_end=True):
                break
        if self._line:
            self._take_line(self._line)
        os.close(self._end)

    def tail(self) -> str:
        """Give the last lines, indented; empty if there were none."""
        text = bytes(self._tail).decode("utf-8", "replace").rstrip()
        lines = text.split("\n")[-TAIL_LINES:] if text else []
        return "".join(f"\n    {printable(line)}" for line in lines)

    def _read(self, *, at_end: bool = False) -> bool:
        """Read once; return False if nothing will come, or at the end if nothing is there."""
        try:
            data = os.read(self._end, READ_BYTES)
        except BlockingIOError:
            return not at_end
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        *lines, self._line = (self._line + data).split(b"\n")
        self._line = self._line[:LINE_BYTES]
        for line in lines:
            self._take_line(line)
        return bool(data)

    def _take_line(self, line: bytes) -> None:
        now = time.monotonic()
        if len(self._told) == LINES and now - self._told[0] < 60:
            if not self._is_quiet:
                self._is_quiet = True
                self._tell(f"(more than {LINES} lines in a minute: the others are left out)")
            return
        self._is_quiet = False
        self._told.append(now)
        self._tell(printable(line[:LINE_BYTES].decode("utf-8", "replace")))
