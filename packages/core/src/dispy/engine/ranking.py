"""Where the next job of a computation goes first: a number for each of its placements, the smallest is best.

By default that is the load, jobs in flight by slots, and nobody is asked. An allocator ranks placements that have free
slots; those that have none come behind, by load. So whatever an allocator says, every free slot is filled before
anything is sent ahead.
"""

from __future__ import annotations

import math
from heapq import heapify
from typing import TYPE_CHECKING

from dispy.engine.capacity import busy_of

if TYPE_CHECKING:
    from dispy.engine.ledger import Ledger
    from dispy.engine.records import Computation

BEHIND = 1e12
"""Above all ranks of an allocator, which are cut to it."""


def rank_of(ledger: Ledger, computation: Computation, busy: int, slots: int) -> float:
    """Rank a placement with *busy* jobs in flight.

    An allocator that fails is not asked again for this computation, and the user is told.
    """
    allocator = computation.allocator
    if allocator is None:
        return busy / slots
    if busy >= slots:
        return BEHIND + busy / slots
    try:
        rank = float(allocator.rank(busy, slots))
    except Exception as error:
        return _give_up(ledger, computation, busy, slots, f"{type(error).__name__}: {error}")
    if not math.isfinite(rank):
        return _give_up(ledger, computation, busy, slots, f"it ranks {busy} of {slots} slots as {rank}")
    return max(-BEHIND, min(BEHIND, rank))


def _give_up(ledger: Ledger, computation: Computation, busy: int, slots: int, why: str) -> float:
    assert computation.allocator is not None
    name = computation.allocator.NAME
    computation.allocator = None
    valid = [placement for placement in computation.placements.values() if placement.entry]
    for placement in valid:
        placement.load = busy_of(placement) / placement.slots
    heap = computation.heap
    heap[:] = [
        (placement.load, placement.entry, placement) for placement in valid
    ]  # in place: others hold it
    heapify(heap)
    ledger.report(
        f"the allocator {name!r} has failed ({why}); jobs of {computation.name} go to the least loaded node: "
        "mend the plugin that brings it, or give another placement",
        computation.id,
    )
    return busy / slots
