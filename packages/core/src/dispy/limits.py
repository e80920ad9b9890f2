"""What users say about limits of jobs, checked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dispy.errors import UsageError
from dispy.sizes import size_of_text

if TYPE_CHECKING:
    from dispy.wire.messages import JobLimits

MAX_BYTES = 2**62
"""More than there is anywhere."""
MAX_PROCESSES = 2**31 - 1
MAX_S = 1e9
"""Thirty years."""


class Unset:
    """Type of `UNSET`."""

    def __repr__(self) -> str:
        return "as it is"


UNSET = Unset()
"""Stands for a limit that is left as it is; None takes it away."""


def change_limits(
    limits: JobLimits | None,
    *,
    timeout: float | Unset | None = UNSET,
    cpu_time: float | Unset | None = UNSET,
    memory: int | str | Unset | None = UNSET,
    processes: int | Unset | None = UNSET,
) -> JobLimits | None:
    """Replace some limits; give None if none is left.

    Raises:
        UsageError: one cannot be right.
    """
    changes: dict[str, float] = {}
    if not isinstance(timeout, Unset):
        changes["timeout_s"] = _seconds("timeout", timeout)
    if not isinstance(cpu_time, Unset):
        changes["cpu_time_s"] = _seconds("cpu_time", cpu_time)
    if not isinstance(memory, Unset):
        changes["memory_bytes"] = _bytes(memory)
    if not isinstance(processes, Unset):
        changes["processes"] = _count(processes)
    if limits is None and not any(changes.values()):
        return None
    import msgspec

    from dispy.wire.messages import JobLimits

    changed = msgspec.structs.replace(limits or JobLimits(), **changes)
    return None if changed == JobLimits() else changed


def _seconds(name: str, given: object) -> float:
    if given is None:
        return 0.0
    if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given) and given > 0:
        return float(min(given, MAX_S))
    raise UsageError(f"{name}={given!r} is no time: give seconds above 0, or None for no limit")


def _bytes(given: object) -> int:
    if given is None:
        return 0
    size = size_of_text(given) if isinstance(given, str) else given
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return min(size, MAX_BYTES)
    raise UsageError(
        f"memory={given!r} is no amount of memory: give bytes above 0 or a text such as '500MB' or '2GiB', "
        "or None for no limit"
    )


def _count(given: object) -> int:
    if given is None:
        return 0
    if isinstance(given, int) and not isinstance(given, bool) and given > 0:
        return min(given, MAX_PROCESSES)
    raise UsageError(f"processes={given!r} is no number of processes: give 1 or more, or None for no limit")
