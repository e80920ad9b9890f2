"""Logs what others can bring about, within bounds: so many different lines in a while, and how many there were besides.

Strangers have one such log together, and of those who are known each has one of its own (`SparingLogs`), so nobody
keeps what concerns others out of the log.
"""

from __future__ import annotations

from typing import Protocol

import trio

LOG_LINES = 10
LOG_S = 60.0
"""At most so many different lines are logged in so many seconds; the others are counted."""

KEYS_MAX = 1024
"""So many parties are told apart; what concerns one that was forgotten for others is logged as if it were new."""


class Log(Protocol):
    """What lines go to: `logging.Logger`, or `dispy.logger.Logger`."""

    def warning(self, message: str, /, *args: object) -> None:
        """Log a warning."""

    def log(self, level: int, message: str, /, *args: object) -> None:
        """Log a line."""


class SparingLog:
    """Logs at most so many lines in a while; belongs to one trio thread.

    Args:
        log: where lines go.
        rest: what is logged of those that were left out; it has one ``%d``.
        lines: how many.
        repeats: log the same line again.
    """

    def __init__(self, log: Log, rest: str, *, lines: int = LOG_LINES, repeats: bool = False) -> None:
        self._log = log
        self._rest = rest
        self._most = lines
        self._repeats = repeats
        self._lines: set[str] = set()
        self._logged = 0
        self._unlogged = 0
        self._lines_from = -float("inf")

    def tell(self, level: int, text: str, *args: object) -> None:
        """Log a line, unless it was logged a moment ago, or too many were."""
        now = trio.current_time()
        if now - self._lines_from >= LOG_S:
            if self._unlogged:
                self._log.warning(self._rest, self._unlogged)
            self._lines_from, self._unlogged, self._logged = now, 0, 0
            self._lines.clear()
        line = text % args
        if self._logged < self._most and (self._repeats or line not in self._lines):
            self._logged += 1
            self._lines.add(line)
            self._log.log(level, "%s", line)
        else:
            self._unlogged += 1


class SparingLogs:
    """A log for each party; see `SparingLog`.

    Args:
        rest: as there, with a ``%s`` for the party behind the ``%d``.
        lines, repeats: as there.
    """

    def __init__(self, log: Log, rest: str, *, lines: int = LOG_LINES, repeats: bool = False) -> None:
        self._log = log
        self._rest = rest
        self._most = lines
        self._repeats = repeats
        self._logs: dict[str, SparingLog] = {}

    def tell(self, party: str, level: int, text: str, *args: object) -> None:
        """Log a line about *party*."""
        log = self._logs.pop(party, None)
        if log is None:
            if len(self._logs) >= KEYS_MAX:
                del self._logs[next(iter(self._logs))]
            rest = self._rest.replace("%s", party.replace("%", "%%"))
            log = SparingLog(self._log, rest, lines=self._most, repeats=self._repeats)
        self._logs[party] = log  # the last one to be forgotten
        log.tell(level, text, *args)
