"""How long no process could be had: when to try again, and when to stop hoping."""

from __future__ import annotations

from dispy_node.runner.escalation import NEVER

RETRY_S = 0.2
"""After a failure."""
PATIENCE_S = 3.0
"""For so long jobs wait while nothing but failures happens, then they are broken."""


class Trouble:
    """Failures of one kind, in a row.

    Attributes:
        retry_at: not to be tried again before (monotonic).
    """

    def __init__(self) -> None:
        self.retry_at = 0.0
        self._since = NEVER

    def note(self, now: float) -> bool:
        """Take note of a failure; tell whether it is the first in a row."""
        self.retry_at = now + RETRY_S
        if self._since != NEVER:
            return False
        self._since = now
        return True

    def is_lasting(self, now: float) -> bool:
        """Tell whether it has been going on for too long."""
        return now - self._since >= PATIENCE_S

    def end(self) -> None:
        """Take note of a success."""
        self._since = NEVER
