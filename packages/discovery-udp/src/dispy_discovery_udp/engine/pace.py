"""When something is said again: soon at first, since datagrams are lost, and then more and more seldom."""

from __future__ import annotations

import math
from collections.abc import Callable

JITTER = 0.2
"""Pauses are longer or shorter by up to this share, so that many who start together do not go on together."""


class Pace:
    """Moments at which to repeat something.

    Args:
        jitter: gives a random number from 0 to 1.
        first_s: the first pause.
        factor: each pause is longer by this factor than the one before ...
        last_s: ... up to this one, which then goes on for ever.
        rounds: after so many moments of a growing pace every further pause is *last_s*, which may be infinite.
    """

    def __init__(
        self,
        jitter: Callable[[], float],
        *,
        first_s: float,
        factor: float,
        last_s: float,
        rounds: float = math.inf,
    ) -> None:
        self._jitter = jitter
        self._first_s, self._factor, self._last_s, self._rounds = first_s, factor, last_s, rounds
        self._done = 0
        self.deadline = math.inf
        """When the next moment is, in seconds; infinite before `restart`."""

    def restart(self, now: float) -> None:
        """Begin anew; the first moment is now."""
        self._done = 0
        self.deadline = now

    def stop(self) -> None:
        """There is no further moment until `restart`."""
        self.deadline = math.inf

    def take(self, now: float) -> bool:
        """Return True if a moment has come, and set the next."""
        if now < self.deadline:
            return False
        self._done += 1
        pause_s = self._last_s
        if self._done < self._rounds:
            # The exponent is bounded, since numbers are.
            pause_s = min(self._last_s, self._first_s * self._factor ** min(self._done - 1, 64))
        self.deadline = now + pause_s * (1 + JITTER * (2 * self._jitter() - 1))
        return True
