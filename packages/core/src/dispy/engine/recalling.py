"""Takes back jobs that were sent ahead when slots elsewhere have nothing to do.

Rules: when the queue of a computation is empty and a placement has a free slot, jobs that wait at another placement,
behind jobs that run, are asked for; but not if they are bound to it, nor if they start within `WAIT_S` as far as can
be known: for those the detour would not pay, and they would go to and fro. What the node gives back has not been
started and never will be (`JobsRejected`), and goes to the front of the queue.

Theory of operation. `dispy.engine.placing` counts free slots, and knows the placements that have more jobs than slots.
Only while there are both it is looked, every `LOOK_S`, at those placements, and only when nothing is queued: so
nothing is spent while all slots are busy, and the cost is bounded by time, not by the number of jobs. How long the
jobs at a placement will wait is told by their mean run time, and by the time since anything has ended there, for long
jobs that come after many short ones make the mean wrong; the larger one counts. A placement that gives back jobs gets
none ahead until a result comes from there. Each attempt is asked for once, and again on each new link, since the
node remembers: a job that is already in the channel of a worker is given back when that worker is found to be slow.
The scheduler may take for waiting what has been started; such attempts simply go on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dispy.engine.capacity import busy_of
from dispy.engine.ledger import Ledger
from dispy.engine.placing import watch_ahead
from dispy.engine.ranks import lines_in_turn
from dispy.engine.records import Computation, Job, JobState, Placement
from dispy.model import AttemptKey
from dispy.wire.messages import RecallJobs

WAIT_S = 0.1
"""Seconds that a job may wait at a node though a slot is free elsewhere: a detour of some round trips."""

SHORTEST_S = 1e-6
"""A mean run time is taken for no shorter."""


@dataclass(slots=True)
class _Surplus:
    """What waits at a placement, and may be taken back."""

    wait_s: float
    placement: Placement
    jobs: int
    stalled: bool
    """Nothing has ended there for longer than its jobs should take."""


class Recalling:
    """Looks for jobs that wait though there is a free slot."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def look(self, computation: Computation) -> None:
        """Ask for what should not wait; look again later if anything may wait then."""
        watch_ahead(self._ledger, computation)
        if computation.closing or not computation.free or not computation.behind:
            return
        if sum(map(len, lines_in_turn(computation))) > computation.dropped:
            return
        free = computation.free
        found = [surplus for surplus in map(self._assess, computation.behind) if surplus is not None]
        found.sort(key=lambda item: item.wait_s, reverse=True)
        for item in found:
            if free <= 0:
                break
            free -= self._recall(computation, item, free)

    def _assess(self, placement: Placement) -> _Surplus | None:
        """Tell what may be had back from a placement, if it has anything that is worth it."""
        _forget_ended(placement)
        if placement.node.link is None or placement.node.reconciling or placement.mean_s is None:
            return None
        jobs = busy_of(placement) - placement.slots - len(placement.recalling)
        if jobs <= 0:
            return None
        idle_s = self._ledger.now - placement.moved_at
        wait_s = placement.mean_s * jobs / max(1, placement.slots)
        stalled = idle_s > max(WAIT_S, 2 * placement.mean_s)
        if not stalled and wait_s < WAIT_S:
            return None
        return _Surplus(max(idle_s, wait_s), placement, jobs, stalled)

    def _recall(self, computation: Computation, surplus: _Surplus, free: int) -> int:
        """Ask for jobs, at most what *free* slots do in `WAIT_S`; return how many of the slots that takes."""
        placement = surplus.placement
        assert placement.mean_s is not None  # see `_assess`
        each = max(1, int(WAIT_S / max(placement.mean_s, SHORTEST_S)))
        most = surplus.jobs
        if not surplus.stalled:  # its own slots are as good as those that are free
            most = math.ceil(most * free / (free + placement.slots))
        keys: list[AttemptKey] = []
        for job in reversed(placement.inflight.values()):
            if len(keys) >= min(most, free * each):
                break
            if job.demand is None and _may_wait(job) and (job.id, job.attempt) not in placement.recalling:
                keys.append((job.id, job.attempt))
        if not keys:
            return 0
        keys.reverse()
        placement.recalling.update(keys)
        placement.window = placement.slots
        self._ledger.touch(computation, placement)
        self._ledger.send(placement.node, RecallJobs(computation.id, keys))
        return math.ceil(len(keys) / each)


def recall_again(ledger: Ledger, computation: Computation, placement: Placement) -> None:
    """Ask once more for what was asked for on a link that is gone."""
    _forget_ended(placement)
    if placement.recalling:
        ledger.send(placement.node, RecallJobs(computation.id, sorted(placement.recalling)))


def _may_wait(job: Job) -> bool:
    return job.state is JobState.ASSIGNED and job.pinned is None


def _forget_ended(placement: Placement) -> None:
    """Forget what was asked for and runs by now, or is not there any more."""
    if placement.recalling:
        jobs = placement.inflight
        placement.recalling = {
            (number, attempt)
            for number, attempt in placement.recalling
            if (job := jobs.get(number)) is not None and job.attempt == attempt and _may_wait(job)
        }
