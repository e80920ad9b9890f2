"""Bounds what strangers cost: few of them at once, each for a short time, with a few lines in the log.

A visitor is a stranger until it has been admitted, which is when it has proved who it is and has greeted. When too
many strangers are inside, the one that has been there longest is shown out: somebody with a key needs milliseconds,
while who wants to keep others out has to stay.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

STRANGERS_MAX = 64
"""Connections that may be half-open at once."""

STRANGER_S = 5.0
"""How long a stranger may take to become known."""

LOG_LINES = 10
LOG_S = 60.0
"""At most so many different refusals are logged in so many seconds; the others are counted."""


class Door:
    """Lets visitors in; belongs to one trio thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._strangers: dict[Visit, None] = {}
        """In the order in which they came."""
        self._lines: set[str] = set()
        self._unlogged = 0
        self._lines_from = -float("inf")

    @property
    def strangers(self) -> int:
        """How many are inside that are not admitted yet."""
        return len(self._strangers)

    async def receive(self, serve: Callable[[Visit], Awaitable[None]]) -> bool:
        """Run *serve* for a visitor; return False if it was ended because the visitor was not admitted in time."""
        if len(self._strangers) >= STRANGERS_MAX:
            next(iter(self._strangers)).leave()
        visit = Visit(self)
        self._strangers[visit] = None
        try:
            with visit.scope:
                await serve(visit)
        finally:
            self._strangers.pop(visit, None)
        return not visit.scope.cancelled_caught

    def tell_refusal(self, level: int, text: str, *args: object) -> None:
        """Log why a visitor was not let in, unless there are too many of them."""
        now = trio.current_time()
        if now - self._lines_from >= LOG_S:
            if self._unlogged:
                self._log.warning(
                    "%d more connections were refused, for these reasons or others", self._unlogged
                )
            self._lines_from, self._unlogged = now, 0
            self._lines.clear()
        line = text % args
        if len(self._lines) < LOG_LINES and line not in self._lines:
            self._lines.add(line)
            self._log.log(level, "%s", line)
        else:
            self._unlogged += 1


class Visit:
    """One connection, from when it was accepted."""

    def __init__(self, door: Door) -> None:
        self.scope = trio.CancelScope(deadline=trio.current_time() + STRANGER_S)
        self.is_admitted = False
        self._door = door

    def admit(self) -> None:
        """The visitor is known now: it may stay, and does not count as a stranger any more."""
        self.is_admitted = True
        self.scope.deadline = float("inf")
        self._door._strangers.pop(self, None)

    def leave(self) -> None:
        """Show the visitor out."""
        self._door._strangers.pop(self, None)
        self.scope.cancel()
