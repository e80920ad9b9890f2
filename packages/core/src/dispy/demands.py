"""What users say about the turn of jobs, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dispy.errors import UsageError
from dispy.limits import Unset

MAX_PRIORITY = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Demands:
    """What a job asks for besides being run."""

    priority: int = 0
    """Of those that wait the highest goes first."""


LEAST_LOADED = "least-loaded"
"""Name of the placement that needs no allocator."""

PLAIN = Demands()
"""Of jobs that ask for nothing."""


def change_demands(demands: Demands, *, priority: int | Unset) -> Demands:
    """Replace what is given.

    Raises:
        UsageError: something cannot be right.
    """
    if not isinstance(priority, Unset):
        demands = replace(demands, priority=_priority(priority))
    return demands


def _priority(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and abs(given) <= MAX_PRIORITY:
        return given
    raise UsageError(
        f"priority={given!r} is no priority: give a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}, "
        "where 0 is that of other jobs and more goes first"
    )
