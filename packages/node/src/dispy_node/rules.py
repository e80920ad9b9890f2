"""What the owner of a node has said about when and for whom it runs jobs, and the clock that goes with it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from dispy.errors import UsageError
from dispy_node.engine.events import HoursChanged
from dispy_node.engine.hours import Phase, ServiceHours, parse_hours
from dispy_node.engine.node import KEEP_RESULTS_S
from dispy_node.settings import NodeSettings

LOOK_S = 30.0
"""So often the clock is looked at, at least: it may be set, and the machine may sleep."""

LEAST_S = 0.05
"""Shortest wait; the clock of the day may lag behind the one that sleeps are measured by."""


@dataclass(frozen=True, slots=True)
class OwnerRules:
    """The rules, parsed.

    Attributes:
        hours: when jobs are taken; None: always.
        serve: end after so many computations; None: go on.
        client_shutdown: `dispynode_shutdown` may end the node.
        keep_results_s: how long results are kept for a client that stays away.
    """

    hours: ServiceHours | None = None
    serve: int | None = None
    client_shutdown: bool = False
    keep_results_s: float = KEEP_RESULTS_S


FREELY = OwnerRules()
"""Nothing was said."""


def local_time_s() -> float:
    """Tell the time of day here, in seconds since midnight."""
    now = time.time()
    local = time.localtime(now)
    return local.tm_hour * 3600 + local.tm_min * 60 + local.tm_sec + now % 1


def make_rules(settings: NodeSettings, now_s: float) -> OwnerRules:
    """Read the rules in *settings*.

    Args:
        now_s: time of day, in seconds since midnight.

    Raises:
        UsageError: one makes no sense.
    """
    minutes = settings.zombie_interval
    if not (minutes == 0 or 1 <= minutes < math.inf):
        raise UsageError(f"--zombie_interval {minutes:g} is no number of minutes from 1 on; 0 is without end")
    if settings.serve < -1:
        raise UsageError(
            f"--serve {settings.serve} is no number of computations; give 0 or more, -1 for no end"
        )
    return OwnerRules(
        hours=parse_hours(settings.service_start, settings.service_stop, settings.service_end, now_s),
        serve=None if settings.serve < 0 else settings.serve,
        client_shutdown=settings.client_shutdown,
        keep_results_s=minutes * 60 if minutes else math.inf,
    )


async def keep_hours(
    hours: ServiceHours,
    tell: Callable[[HoursChanged], object],
    *,
    clock: Callable[[], float] = local_time_s,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Tell of each part of the day as it begins, until cancelled; it has started when the present one is told."""
    known = Phase.OPEN
    while True:
        now_s = clock()
        phase = hours.phase_at(now_s)
        if phase is not known:
            known = phase
            tell(HoursChanged(phase, str(hours)))
        task_status.started()
        task_status = trio.TASK_STATUS_IGNORED
        await trio.sleep(min(LOOK_S, max(LEAST_S, hours.until_change_s(now_s))))
