"""Data that several jobs read: each node gets it once, before the first job there that needs it.

Rules: what a job needs is announced to the node before the job is; links keep the order, and the node starts no job
without its data. A placement that is opened anew has none. After a lost link the node tells what it has whole; what it
lacks is sent again with the next job that needs it. Data that the application has put there stays until it is released
and no job needs it; automatic data (a large argument) stays while jobs need it, and then as long as all that is idle
fits in `IDLE_BYTES_MAX`, for it may be passed again. The engine holds no other bytes than those, and those of its jobs:
whoever submits a job brings them along.
"""

from __future__ import annotations

from collections.abc import Iterable

from dispy.engine.effects import SendStream
from dispy.engine.events import DataReleased
from dispy.engine.ledger import Ledger
from dispy.engine.records import Computation, DataUse, Job, Node, Placement
from dispy.model import ComputationId, SharedData
from dispy.wire.messages import DataLost, DropData, ShareData

IDLE_BYTES_MAX = 256 * 1024 * 1024
"""Automatic data of a computation that no job needs, and that nodes keep on their disks and the client in memory."""


class Sharing:
    """Knows which shared data is in use, and has nodes drop what is not."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def need(self, computation: Computation, job: Job) -> None:
        """Take in that a new job needs data."""
        for data in job.needs:
            use = computation.shared.get(data.id)
            if use is None:
                use = computation.shared[data.id] = DataUse(data.automatic)
            use.jobs += 1
            computation.idle.pop(data.id, None)

    def release(self, event: DataReleased) -> None:
        """Take in that the application lets go of data."""
        computation = self._ledger.computations.get(event.computation)
        if computation is not None:
            computation.released.add(event.data)
            self._ledger.unneeded.setdefault((computation.id, event.data), None)

    def lost(self, node: Node, message: DataLost) -> None:
        """Take in that a node does not have data; the next job that needs it brings it there again."""
        computation = self._ledger.computations.get(ComputationId(message.computation))
        placement = None if computation is None else computation.placements.get(node.id)
        if placement is None or message.data not in placement.data:
            self._ledger.counters.stray_messages += 1
        else:
            placement.data.discard(message.data)

    def drop_unneeded(self) -> None:
        """Have nodes drop data that will not be needed again, or not soon."""
        drops: dict[ComputationId, list[int]] = {}
        fuller: dict[ComputationId, Computation] = {}
        for (ident, number), data in self._ledger.unneeded.items():
            computation = self._ledger.computations.get(ident)
            use = None if computation is None else computation.shared.get(number)
            if computation is None or use is None or use.jobs:
                continue
            if use.automatic and data is not None:
                computation.idle[number] = data
                fuller[ident] = computation
            elif number in computation.released:
                drops.setdefault(ident, []).append(number)
        self._ledger.unneeded.clear()
        for ident, computation in fuller.items():
            drops.setdefault(ident, []).extend(_too_much(computation))
        for ident, numbers in drops.items():
            self._drop(self._ledger.computations[ident], numbers)

    def _drop(self, computation: Computation, numbers: list[int]) -> None:
        for number in numbers:
            del computation.shared[number]
        for placement in computation.placements.values():
            there = placement.data.intersection(numbers)
            placement.data -= there
            # One that is asked what it has will name these too, and is told then.
            if there and not placement.node.reconciling:
                self._ledger.send(placement.node, DropData(computation.id, sorted(there)))


def _too_much(computation: Computation) -> list[int]:
    """Take out of the idle data what has been idle longest, until the rest is small enough."""
    total = sum(data.size for data in computation.idle.values())
    dropped = []
    while total > IDLE_BYTES_MAX:
        number = next(iter(computation.idle))
        total -= computation.idle.pop(number).size
        dropped.append(number)
    return dropped


def numbers_of(needs: tuple[SharedData, ...]) -> tuple[int, ...]:
    """Return the numbers of data as messages name them."""
    return tuple([data.id for data in needs]) if needs else ()


def crowds(placement: Placement, job: Job, *, most: int) -> bool:
    """Tell whether a job needs data that would have to be sent, and with it jobs in flight needed more than *most*."""
    if all(data.id in placement.data for data in job.needs):
        return False
    held = {data.id: data.size for one in (*placement.inflight.values(), job) for data in one.needs}
    return sum(held.values()) > most


def send_data(
    ledger: Ledger, computation: Computation, placement: Placement, needs: Iterable[SharedData]
) -> None:
    """Send data to a connected node, ahead of the jobs that need it."""
    node = placement.node
    assert node.link is not None  # callers see to it
    for data in needs:
        stream = node.next_stream
        node.next_stream += 1
        placement.data.add(data.id)
        ledger.send(node, ShareData(computation.id, data.id, stream, data.size))
        ledger.effects.append(SendStream(node.link, stream, data.source, data.size))


def take_found(ledger: Ledger, computation: Computation, placement: Placement, found: Iterable[int]) -> None:
    """Take in which data a node has, after a lost link; have it drop what was dropped meanwhile."""
    there = set(found)
    unwanted = there - computation.shared.keys()
    placement.data = there - unwanted
    if unwanted:
        ledger.send(placement.node, DropData(computation.id, sorted(unwanted)))
