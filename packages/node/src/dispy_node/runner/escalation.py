"""Jobs that were asked to end, and what is done with those that do not: SIGTERM, then SIGKILL."""

from __future__ import annotations

from dispy_node.runner.bare import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from dispy_node.runner.jobs import Job

MEMORY = 3
"""Number of the limit of memory, as in `dispy_node.runner.limits`."""
MEMORY_GRACE_S = 0.5
"""So long a job that uses too much memory may take to write what it has printed and to end."""
NEVER = float("inf")
"""A time that does not come; ``math`` is a library of its own."""


class Escalation:
    """Knows which signal a cancelled job gets next, and when.

    Args:
        grace_s: from SIGINT to SIGTERM, and from SIGTERM to SIGKILL.
    """

    def __init__(self, grace_s: tuple[float, float]) -> None:
        self._grace_s = grace_s
        self._waiting: list[tuple[float, Job, int]] = []

    def begin(self, job: Job, now: float) -> None:
        """Take note that a job has just been interrupted."""
        if job.excess is not None and job.excess[0] == MEMORY:
            # It may go on growing: there is no time for asking twice.
            self._waiting.append((now + MEMORY_GRACE_S, job, signals.SIGKILL))
            return
        self._waiting.append((now + self._grace_s[0], job, signals.SIGTERM))

    def due_at(self) -> float:
        """Tell when `due` has something to do; `NEVER` if nothing waits."""
        return min([entry[0] for entry in self._waiting]) if self._waiting else NEVER

    def due(self, now: float) -> Iterator[tuple[Job, int]]:
        """Give each job whose grace is over, with the signal that it gets."""
        waiting = [entry for entry in self._waiting if not entry[1].ended]
        self._waiting = [entry for entry in waiting if entry[0] > now]
        for at, job, number in waiting:
            if at <= now:
                if number == signals.SIGTERM:
                    self._waiting.append((now + self._grace_s[1], job, signals.SIGKILL))
                yield job, number
