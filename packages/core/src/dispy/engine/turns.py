"""Whose turn it is where several computations of one scheduler want the slots of the same node.

Rules: what all computations together have in flight at a node is bounded by what one alone might have there: each
uses up its part of the node, jobs in flight by the size of its window. A node that is used up is *crowded*; jobs then
wait at the scheduler, and when there is room again, the next job is that of the computation whose turn it is
(`ClusterOrder`): the one with the earliest submitted job that waits, the one that was served least recently, or the one
that was added first. A computation alone at its nodes is not concerned, nor is it held up by those that have no jobs.
Jobs with demands have no turn: they wait at a node, which gets for them what they must have; while a node has any, no
more jobs of others are sent there than it has CPUs left.

Theory of operation. A placement that has room by itself, at a crowded node, is *parked*: it stands in the heap of that
node by the turn of its computation, and not in the heap of its computation. When something at the node has ended, the
parked ones are served in turn until the node is crowded again; if there is room left after all, they go back to the
heaps of their computations. Turns get later while a placement is parked, seldom earlier; the key of the first entry
is made anew before it is believed. So each job that is assigned costs O(log computations), and as much for each
computation that was served elsewhere since it was parked.
"""

from __future__ import annotations

import math
from collections import deque
from heapq import heapify, heappush
from itertools import islice

from dispy.engine.capacity import cpus_of
from dispy.engine.ledger import Ledger
from dispy.engine.ranks import lines_in_turn
from dispy.engine.records import Computation, Job, JobState, Node, Placement
from dispy.model import ClusterOrder

ROUNDING = 1e-9
"""Parts of a node are added up as floats."""

PORTION = 256
"""At most so many jobs are given out before turns are looked at again."""


def room_beside(placement: Placement) -> float:
    """Tell how many more jobs may be sent there beside those of other computations; inf if these have none there."""
    hosts = placement.node.hosts
    if not hosts or (len(hosts) == 1 and placement in hosts):
        return math.inf
    cpus = max(1, placement.node.usable_cpus)
    jobs = 0
    used = 0.0
    is_alone = True
    for host in list(hosts):
        if host.inflight:
            jobs += len(host.inflight)
            used += len(host.inflight) / _capacity(host, cpus)
            is_alone &= host is placement
        else:
            del hosts[host]
    if is_alone:
        return math.inf
    demands = placement.node.demands
    if demands:
        return max(0, cpus - cpus_of(demands.values(), cpus) - (jobs - len(demands)))
    return max(0, math.ceil((1.0 - used - ROUNDING) * _capacity(placement, cpus)))


def _capacity(placement: Placement, cpus: int) -> float:
    """Tell how many jobs use up the whole node: the window, as if the computation used all slots."""
    return max(1.0, placement.window * cpus / max(1, placement.slots))


def is_crowded(placement: Placement) -> bool:
    """Tell whether jobs of other computations leave no room."""
    return room_beside(placement) <= 0


class Turns:
    """Knows whose turn it is."""

    def __init__(self, ledger: Ledger, order: ClusterOrder) -> None:
        self._ledger = ledger
        self._order = order
        self._served = 0
        self._entries = 0

    def key(self, computation: Computation, placement: Placement | None = None) -> float:
        """Give what is smallest for the computation whose turn it is, and only grows, unless jobs come back.

        What is submitted next to one that has nothing waiting comes after all that was submitted before.
        """
        if self._order is ClusterOrder.EARLY:
            return computation.number
        if self._order is ClusterOrder.FAIR:
            return computation.served
        queue = computation.queue
        if queue and not computation.ranked and (placement is None or not placement.pinned):
            return min(self._ledger.latest, _first(computation, queue))
        lines = lines_in_turn(computation)
        if placement is not None and placement.pinned:
            lines = [*lines, placement.pinned]
        return min(self._ledger.latest, *(_first(computation, line) for line in lines))

    def portion(self, queue: deque[Job], following: float) -> int:
        """Tell how many jobs of a line may go before it is the turn of the computation with the key *following*."""
        if self._order is ClusterOrder.FAIR and following < math.inf:
            return 1
        if self._order is ClusterOrder.FIRST and following < math.inf:
            count = 0
            for job in islice(queue, PORTION):
                if job.id >= following:
                    break
                count += 1
            return max(1, count)
        return PORTION

    def serve(self, computation: Computation) -> None:
        """Take note that a computation was given something."""
        self._served += 1
        computation.served = self._served

    def park(self, computation: Computation, placement: Placement) -> None:
        """Let a placement wait for its turn at its node."""
        self._entries += 1
        placement.parked = self._entries
        parked = placement.node.parked
        heappush(parked, (self.key(computation, placement), self._entries, computation, placement))
        if len(parked) > 4 * len(self._ledger.computations) + 16:
            parked[:] = [entry for entry in parked if entry[3].parked == entry[1]]
            heapify(parked)

    def renew(self, computation: Computation) -> None:
        """Give parked placements an earlier turn, as jobs have come back that were submitted early."""
        if self._order is ClusterOrder.FIRST:
            for placement in computation.placements.values():
                if placement.parked:
                    self.park(computation, placement)


def following(node: Node) -> float:
    """Give the smallest key of those that are parked at a node, or less."""
    return node.parked[0][0] if node.parked else math.inf


def _first(computation: Computation, line: deque[Job]) -> float:
    """Give the number of the first job of a line; numbers are given in the order of submission."""
    while line and line[0].state is not JobState.QUEUED:
        line.popleft()
        computation.dropped -= 1
    return line[0].id if line else math.inf
