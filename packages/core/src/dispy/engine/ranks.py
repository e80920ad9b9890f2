"""The lines in which jobs of a computation wait: one for plain jobs, and one for each other rank or demand.

Nearly all computations have plain jobs only, so their line stands by itself, as `Computation.queue`; the others are
made when the first job comes and dropped when the last has gone. Jobs of higher priority go first; in a line they
keep the order of their submission.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from dispy.engine.records import DemandLine

if TYPE_CHECKING:
    from dispy.engine.records import Computation, Job


def line_of(computation: Computation, job: Job) -> deque[Job]:
    """Give the line that a job waits in which is bound to no node, or has a demand."""
    if job.demand is not None:
        key = (job.demand, job.pinned)
        line = computation.demanding.get(key)
        if line is None:
            line = computation.demanding[key] = DemandLine(*key)
            line.open.update(dict.fromkeys(computation.placements.values()))
        return line.jobs
    rank = job.priority
    return computation.queue if not rank else computation.ranked.setdefault(rank, deque())


def lines_of(computation: Computation) -> list[deque[Job]]:
    """Give every line of a computation, also those of jobs that are bound to a node."""
    pinned = (placement.pinned for placement in computation.placements.values())
    demanding = (line.jobs for line in computation.demanding.values())
    return [computation.queue, *computation.ranked.values(), *demanding, *pinned]


def lines_in_turn(computation: Computation) -> list[deque[Job]]:
    """Give the lines of jobs that are bound to no node and have no demand, the highest priority first."""
    if not computation.ranked:
        return [computation.queue]
    ranked = {0: computation.queue, **computation.ranked}
    return [ranked[rank] for rank in sorted(ranked, reverse=True)]


def forget_empty(computation: Computation) -> None:
    """Drop the lines in which nobody waits any more."""
    for rank in [rank for rank, line in computation.ranked.items() if not line]:
        del computation.ranked[rank]
    for key in [key for key, demanding in computation.demanding.items() if not demanding.jobs]:
        del computation.demanding[key]


def enter(line: deque[Job], job: Job) -> None:
    """Put a job into a line of several priorities: behind those of its own, before those of a lower one."""
    at = len(line)
    while at and line[at - 1].priority < job.priority:
        at -= 1
    line.insert(at, job)


def enter_first(line: deque[Job], job: Job) -> None:
    """Put a job back into a line of several priorities: before those of its own."""
    at = 0
    while at < len(line) and line[at].priority > job.priority:
        at += 1
    line.insert(at, job)
