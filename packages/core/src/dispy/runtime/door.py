"""Bounds what visitors cost: few strangers at once, each for a short time, with a few lines in the log; and no more of
those who are known than there is room for.

A visitor is a stranger until it has been admitted, which is when it has proved who it is and has greeted. When too
many strangers are inside, the one that has been there longest is shown out: somebody with a key needs milliseconds,
while who wants to keep others out has to stay.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import trio

STRANGERS_MAX = 64
"""Connections that may be half-open at once."""

STRANGER_S = 5.0
"""How long a stranger may take to become known."""

ADMITTED_MAX = 512
"""Connections of those who are known that may be there at once."""

ADMITTED_EACH = 256
"""Those of one key or certificate: nobody can take up all the room alone, unless all have the same key."""

LOG_LINES = 10
LOG_S = 60.0
"""At most so many different refusals are logged in so many seconds; the others are counted."""


class Door:
    """Lets visitors in; belongs to one trio thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._strangers: dict[Visit, None] = {}
        """In the order in which they came."""
        self._admitted: Counter[str] = Counter()
        """How many are there of each identity."""
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
            if visit.is_admitted:
                self._admitted[visit.identity] -= 1
                self._admitted += Counter()  # forgets those that nobody is left of
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
        self.identity = ""
        self._door = door

    def admit(self, identity: str = "") -> str:
        """The visitor is known now: it may stay, and does not count as a stranger any more; or return why it may not.

        Args:
            identity: who it is; many may be the same.
        """
        admitted = self._door._admitted
        if admitted.total() >= ADMITTED_MAX:
            return f"{ADMITTED_MAX} clients are connected, and no more are taken: close some of them"
        if admitted[identity] >= ADMITTED_EACH:
            return f"{ADMITTED_EACH} clients with {identity} are connected, and no more are taken: close some of them"
        self.is_admitted = True
        self.identity = identity
        admitted[identity] += 1
        self.scope.deadline = float("inf")
        self._door._strangers.pop(self, None)
        return ""

    def leave(self) -> None:
        """Show the visitor out."""
        self._door._strangers.pop(self, None)
        self.scope.cancel()
