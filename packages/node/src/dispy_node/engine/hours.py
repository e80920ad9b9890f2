"""When a node takes jobs: times of day, which may go over midnight.

    start         stop            end           start
      |    OPEN     |   CLOSING    |    SHUT      |    OPEN ...

Time is the wall clock's at the node, in seconds since midnight, and an argument; the day has 24 hours.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from dispy.errors import UsageError

DAY_S = 24 * 3600

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)


class Phase(enum.Enum):
    """What part of the day it is."""

    OPEN = "open"
    """Jobs are taken."""
    CLOSING = "closing"
    """No jobs are taken; those that run go on."""
    SHUT = "shut"
    """Nothing runs."""


@dataclass(frozen=True, slots=True)
class ServiceHours:
    """Times of day in seconds since midnight.

    Attributes:
        start: jobs are taken from here on.
        stop: none are taken from here on.
        end: those that still run are ended; None: they never are.
    """

    start: int
    stop: int
    end: int | None = None

    def phase_at(self, time_s: float) -> Phase:
        """Tell what part of the day *time_s* is in."""
        since = (time_s - self.start) % DAY_S
        if since < self._after(self.stop):
            return Phase.OPEN
        if self.end is None or since < self._after(self.end):
            return Phase.CLOSING
        return Phase.SHUT

    def until_change_s(self, time_s: float) -> float:
        """Tell after how many seconds the next part of the day begins; more than 0."""
        since = (time_s - self.start) % DAY_S
        changes = [self._after(self.stop), DAY_S]
        if self.end is not None:
            changes.append(self._after(self.end))
        return min(change - since for change in changes if change > since)

    def _after(self, time: int) -> int:
        return (time - self.start) % DAY_S

    def __str__(self) -> str:
        end = "" if self.end is None or self.end == self.stop else f", end {show_time(self.end)}"
        return f"{show_time(self.start)} to {show_time(self.stop)}{end}"


def parse_hours(start: str, stop: str, end: str, now_s: float) -> ServiceHours | None:
    """Make service hours of the options; None if there are none.

    Without *start* they begin with the minute in which the node starts; without *stop* at *end*, so that jobs are
    taken until they are ended; without *end* jobs are never ended.

    Args:
        now_s: seconds since midnight.

    Raises:
        UsageError: a time is none, or they do not follow each other on the clock.
    """
    times = {"start": start, "stop": stop, "end": end}
    given = {name: _parse_time(f"--service_{name}", text) for name, text in times.items() if text}
    if not given:
        return None
    if "stop" not in given and "end" not in given:
        raise UsageError(
            f"--service_start {start} says when to begin and nothing else: add --service_stop or --service_end"
        )
    begins = given.get("start", int(now_s) // 60 * 60 % DAY_S)
    ends = given.get("end")
    stops = given.get("stop", ends)
    assert stops is not None  # one of the two was given
    if stops == begins or ends == begins:
        raise UsageError(
            f"service hours start and {'stop' if stops == begins else 'end'} at {show_time(begins)}: "
            "leave them out to take jobs all day, or change one of them"
        )
    if ends is not None and (ends - begins) % DAY_S < (stops - begins) % DAY_S:
        raise UsageError(
            f"service hours from {show_time(begins)} end at {show_time(ends)}, before they stop at "
            f"{show_time(stops)}: give an end that comes after the stop"
        )
    return ServiceHours(begins, stops, ends)


def _parse_time(option: str, text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise UsageError(f"{option} {text!r} is no time of day; write HH:MM, from 00:00 to 23:59")
    return int(found[1]) * 3600 + int(found[2]) * 60


def show_time(time_s: int) -> str:
    """Write a time of day as HH:MM."""
    return f"{time_s // 3600:02}:{time_s % 3600 // 60:02}"
