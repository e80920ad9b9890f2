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

from dispy.runtime.sparing import SparingLog

STRANGERS_MAX = 64
"""Connections that may be half-open at once."""

STRANGER_S = 5.0
"""How long a stranger may take to become known."""

ADMITTED_MAX = 512
"""Connections of those who are known that may be there at once."""

ADMITTED_EACH = 256
"""Those of one key or certificate: nobody can take up all the room alone, unless all have the same key."""


class Door:
    """Lets visitors in; belongs to one trio thread."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = SparingLog(log, "%d more connections were refused, for these reasons or others")
        self._strangers: dict[Visit, None] = {}
        """In the order in which they came."""
        self._admitted: Counter[str] = Counter()
        """How many are there of each identity."""

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
        self._log.tell(level, text, *args)


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
