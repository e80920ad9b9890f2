"""The lines in which jobs of a computation wait: one for plain jobs, and one for each other rank.

Nearly all computations have plain jobs only, so their line stands by itself, as `Computation.queue`; the others are
made when the first job comes and dropped when the last has gone. Jobs of higher priority go first; in a line they
keep the order of their submission.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispy.engine.records import Computation, Job


def line_of(computation: Computation, job: Job) -> deque[Job]:
    """Give the line that a job waits in which is bound to no node."""
    rank = job.priority
    return computation.queue if not rank else computation.ranked.setdefault(rank, deque())


def lines_of(computation: Computation) -> list[deque[Job]]:
    """Give every line of a computation, also those of jobs that are bound to a node."""
    pinned = (placement.pinned for placement in computation.placements.values())
    return [computation.queue, *computation.ranked.values(), *pinned]


def lines_in_turn(computation: Computation) -> list[deque[Job]]:
    """Give the lines of jobs that are bound to no node, the highest priority first."""
    if not computation.ranked:
        return [computation.queue]
    ranked = {0: computation.queue, **computation.ranked}
    return [ranked[rank] for rank in sorted(ranked, reverse=True)]


def forget_empty(computation: Computation) -> None:
    """Drop the lines in which nobody waits any more."""
    for rank in [rank for rank, line in computation.ranked.items() if not line]:
        del computation.ranked[rank]


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
