"""Where jobs go that must have several slots, or items of resources, for themselves.

Rules: jobs with the same demand wait in a line of their own. The first of a line is due when no plain job of its
computation has a higher priority, or the same and was submitted before. It goes to a node whose slots and items are not
spoken for by other demands; there it waits, at most one for each demand, and the node keeps for it what becomes free
(`dispy_node.engine.gathering`). If there is none, then the one of all lines that is the first goes to wait behind those
at a node where no other waits: so the node comes to it next, and smaller jobs cannot pass it by for ever. One that has
waited at a node while another one could run it at once is taken back, the later the more often it was.

Theory of operation. A line remembers the placements that may run its next job; those that cannot drop out when they
are looked at, and come back when an event touches them. So a job costs as much as has changed, and not a look at all
nodes; of those that are left, only `LOOK_MAX` are compared.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from dispy.engine.capacity import busy_of, can_ever, is_open, lacks, waits_for, why_unmet
from dispy.engine.ledger import Ledger
from dispy.engine.ranking import rank_of
from dispy.engine.ranks import forget_empty, lines_in_turn
from dispy.engine.records import Computation, DemandLine, Job, JobState, Placement
from dispy.wire.messages import JobDemand, RecallJobs

LOOK_MAX = 64
"""Placements that are compared for one job."""

LOOK_S = 0.5
"""Seconds between two looks at jobs that wait."""

WAIT_S = 0.2
"""Seconds that the second attempt of a job may wait though another node is free; each next one twice that."""

UNMET_S = 3.0
"""So long no node can meet a demand before the user is told: nodes may still come."""

Send = Callable[[Computation, Placement, Job], bool]
Rank = tuple[int, float, float]


class Demanding:
    """Assigns jobs with demands.

    Args:
        send: assigns a job to a placement; False if it is too large to be sent there now.
    """

    def __init__(self, ledger: Ledger, send: Send) -> None:
        self._ledger = ledger
        self._send = send

    def place(self, computations: Iterable[Computation]) -> bool:
        """Assign what is due of jobs with demands; tell whether there was any."""
        done = False
        for computation in computations:
            self._note_touched(computation)
            while self._place_one(computation):
                done = True
            forget_empty(computation)
            if computation.demanding:
                self._watch(computation)
        return done

    def _note_touched(self, computation: Computation) -> None:
        touched = [one for one, owner in self._ledger.touched.items() if owner is computation]
        for line in computation.demanding.values():
            for placement in touched:
                line.open[placement] = None
                line.later.pop(placement, None)

    def _place_one(self, computation: Computation) -> bool:
        """Assign one job, if any is due and has a place."""
        heads = [
            (job, line)
            for line in computation.demanding.values()
            if (job := _first(computation, line.jobs)) is not None
        ]
        heads.sort(key=lambda head: _turn(head[0]))
        plain = next(filter(None, (_first(computation, line) for line in lines_in_turn(computation))), None)
        for job, line in heads:
            if plain is not None and job.pinned is None and _turn(plain) < _turn(job):
                return False
            placement = self._choose(computation, line)
            if placement is None and job is heads[0][0]:
                placement = self._choose_behind(computation, line)
            if placement is not None and self._assign(computation, line, placement):
                return True
        return False

    def _assign(self, computation: Computation, line: DemandLine, placement: Placement) -> bool:
        line.open.pop(placement, None)
        line.later.pop(placement, None)
        job = line.jobs.popleft()
        if not self._send(computation, placement, job):
            line.jobs.appendleft(job)
            return False
        node, now = placement.node, self._ledger.now
        node.demands[job.id] = job
        placement.waiting[line.demand] = (job, job.attempt, now)
        for other in self._ledger.computations.values():
            there = other.placements.get(node.id)
            if there is not None:
                self._ledger.touch(other, there)  # some of its jobs may wait there now
        line.open[placement] = None  # as the last one to be looked at
        self._watch(computation)
        return True

    def _choose(self, computation: Computation, line: DemandLine) -> Placement | None:
        """Choose a placement where no other demand is in the way."""
        best: tuple[Rank, Placement] | None = None
        while line.open and best is None:
            for placement in list(islice(line.open, LOOK_MAX)):
                if not _may_wait_there(line, placement):
                    del line.open[placement]
                elif lacks(placement, line.demand):
                    del line.open[placement]
                    line.later[placement] = None
                else:
                    rank = self._rank(computation, line.demand, placement)
                    if best is None or rank < best[0]:
                        best = rank, placement
        return None if best is None else best[1]

    def _choose_behind(self, computation: Computation, line: DemandLine) -> Placement | None:
        """Choose a placement where the job is the next when others have ended."""
        best: tuple[int, Placement] | None = None
        while line.later and best is None:
            for placement in list(islice(line.later, LOOK_MAX)):
                waits = any(job.state is JobState.ASSIGNED for job in placement.node.demands.values())
                if waits or not _may_wait_there(line, placement):
                    del line.later[placement]
                else:
                    lack = lacks(placement, line.demand)
                    if best is None or lack < best[0]:
                        best = lack, placement
        return None if best is None else best[1]

    def _rank(self, computation: Computation, demand: JobDemand, placement: Placement) -> Rank:
        """Tell how good a placement is: what other jobs keep it waiting for, then as for other jobs."""
        busy, slots = busy_of(placement), placement.slots
        return (
            _wait_for(demand, placement),
            placement.shunned_at,
            rank_of(self._ledger, computation, busy, slots),
        )

    # -- what waits too long

    def _watch(self, computation: Computation) -> None:
        key = ("demand", computation.id)
        if self._ledger.timers.due(key) is None:
            self._ledger.timers.set(key, self._ledger.now + LOOK_S)

    def look(self, computation: Computation) -> None:
        """Take back jobs that wait at one node while another is free; tell of demands that nobody can meet."""
        if computation.closing:
            return
        waiting = False
        for placement in computation.placements.values():
            for demand in list(placement.waiting):
                if waits_for(placement, demand):
                    waiting = True
                    self._take_back(computation, placement, demand)
        for line in computation.demanding.values():
            self._tell_unmet(computation, line)
        if waiting or computation.demanding:
            self._watch(computation)

    def _take_back(self, computation: Computation, placement: Placement, demand: JobDemand) -> None:
        job, attempt, sent_at = placement.waiting[demand]
        patience_s = WAIT_S * 2.0 ** min(attempt, 16)
        key = (job.id, attempt)
        if (
            job.pinned is not None
            or key in placement.recalling
            or placement.node.reconciling
            or self._ledger.now - sent_at < patience_s
        ):
            return
        line = computation.demanding.get((demand, None)) or DemandLine(demand, None)
        if any(
            other is not placement
            and _may_wait_there(line, other)
            and not lacks(other, demand)
            and not _wait_for(demand, other)
            for other in computation.placements.values()
        ):
            placement.recalling.add(key)
            placement.shunned_at = self._ledger.now
            self._ledger.send(placement.node, RecallJobs(computation.id, [key]))

    def _tell_unmet(self, computation: Computation, line: DemandLine) -> None:
        why, now = why_unmet(computation, line.demand, line.pinned), self._ledger.now
        if not why:
            line.unmet_since = float("inf")
        elif line.unmet_since > now:
            line.unmet_since = now
        elif now - line.unmet_since >= UNMET_S and not line.warned:
            line.warned = True
            text = f"jobs of {computation.name} wait for a node that can run them: each {why}"
            self._ledger.report(text, computation.id)


def _may_wait_there(line: DemandLine, placement: Placement) -> bool:
    return (
        line.pinned in (None, placement.node.id)
        and is_open(placement)
        and can_ever(placement, line.demand)
        and not waits_for(placement, line.demand)
    )


def _wait_for(demand: JobDemand, placement: Placement) -> int:
    """Tell how many slots a demand lacks because of other jobs."""
    needed = placement.slots if demand.exclusive else demand.cpus
    return max(0, needed + busy_of(placement) - placement.slots)


def _first(computation: Computation, line: deque[Job]) -> Job | None:
    """Give the first job of a line that has not ended, and drop those before it."""
    while line:
        if line[0].state is JobState.QUEUED:
            return line[0]
        line.popleft()
        computation.dropped -= 1
    return None


def _turn(job: Job) -> tuple[int, int]:
    return -job.priority, job.id
