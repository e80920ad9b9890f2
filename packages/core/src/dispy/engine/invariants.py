"""What always holds between two events of the scheduler; for tests, which call it after each step."""

from __future__ import annotations

from collections import Counter, deque

from dispy.engine.capacity import busy_of
from dispy.engine.ledger import Ledger
from dispy.engine.placing import free_slots, has_room
from dispy.engine.ranking import rank_of
from dispy.engine.records import Computation, Job, JobState, NodeState, Placement, PlacementState
from dispy.engine.turns import is_crowded
from dispy.model import NodeId

_INFLIGHT = (JobState.ASSIGNED, JobState.RUNNING, JobState.CANCELLING)


def check_ledger(ledger: Ledger) -> None:
    """Check everything.

    Raises:
        AssertionError: something does not hold.
    """
    _check_nodes(ledger)
    places: Counter[int] = Counter()
    for ident, computation in ledger.computations.items():
        assert computation.id == ident
        _check_computation(ledger, computation, places)
    assert set(places) == set(ledger.jobs), "a job is nowhere, or a settled one is somewhere"
    assert all(count == 1 for count in places.values()), "a job is in two places"
    assert not ledger.effects, "effects of the last event are left"
    assert not ledger.changes
    assert not ledger.acks
    assert not ledger.touched
    assert not ledger.awake
    assert not ledger.requeued
    assert not ledger.unneeded
    needed = Counter((job.computation, data.id) for job in ledger.jobs.values() for data in job.needs)
    counted = {
        (computation.id, data): use.jobs
        for computation in ledger.computations.values()
        for data, use in computation.shared.items()
    }
    assert dict(needed) == {key: count for key, count in counted.items() if count}, "data is miscounted"


def _check_nodes(ledger: Ledger) -> None:
    for link, node in ledger.links.items():
        assert node.link == link
        assert ledger.nodes[node.id] is node
    for ident, node in ledger.nodes.items():
        assert node.id == ident
        assert (node.state is NodeState.CONNECTED) == (node.link is not None)
        assert node.link is None or ledger.links[node.link] is node
        assert not node.reconciling or node.state is NodeState.CONNECTED
        silent_until = ledger.timers.due(("lease", node.id))
        flying = {
            job.id: job
            for computation in ledger.computations.values()
            if (placement := computation.placements.get(ident)) is not None
            for job in placement.inflight.values()
            if job.demand is not None
        }
        assert node.demands == flying, "what jobs demand of a node is miscounted"
        assert silent_until == (node.lease_ends_at if node.state is NodeState.SILENT else None)


def _check_computation(ledger: Ledger, computation: Computation, places: Counter[int]) -> None:
    dead = 0
    pending = 0
    queues: list[tuple[deque[Job], NodeId | None]] = [(computation.queue, None)]
    queues += [(line, None) for line in computation.ranked.values()]
    queues += [(line.jobs, line.pinned) for line in computation.demanding.values()]
    for key, line in computation.demanding.items():
        assert key == (line.demand, line.pinned)
        assert all((job.demand, job.pinned) == key for job in line.jobs), (
            "a job is in the line of another demand"
        )
    queues += [(placement.pinned, ident) for ident, placement in computation.placements.items()]
    assert all(job.priority == rank for rank, line in computation.ranked.items() for job in line)
    assert not any(job.priority for job in computation.queue), "a job stands in the line of others"
    assert all(computation.ranked.values()), "an empty line is kept"
    assert all(line.jobs for line in computation.demanding.values()), "an empty line is kept"
    for queue, ident in queues:
        priorities = [job.priority for job in queue]
        assert priorities == sorted(priorities, reverse=True), "a job stands before one of a higher priority"
        for job in queue:
            dead += job.state is JobState.SETTLED
            if job.state is not JobState.SETTLED:
                assert job.state is JobState.QUEUED
                assert job.pinned == ident
                assert job.node is None
                _check_job(ledger, computation, job, places)
                pending += 1
    assert dead == computation.dropped
    for ident, placement in computation.placements.items():
        assert placement.node.id == ident
        _check_placement(ledger, computation, placement, places)
        pending += len(placement.inflight)
    assert pending == computation.pending
    waiting = sum(map(len, (computation.queue, *computation.ranked.values())))
    assert not (computation.closing and waiting > computation.dropped)
    _check_heap(ledger, computation)
    _check_counts(computation)
    idle = {data for data, use in computation.shared.items() if use.automatic and not use.jobs}
    assert computation.closing or computation.idle.keys() == idle


def _check_placement(
    ledger: Ledger, computation: Computation, placement: Placement, places: Counter[int]
) -> None:
    for number, job in placement.inflight.items():
        assert job.id == number
        assert job.state in _INFLIGHT
        assert job.node is placement.node
        assert job.attempt >= 1
        assert job.pinned in (None, placement.node.id)
        assert placement.node.state is not NodeState.LOST, "a job is in flight at a lost node"
        _check_job(ledger, computation, job, places)
    for number, job in placement.abandoned.items():
        assert job.id == number
        assert job.state is JobState.ABANDONED
        _check_job(ledger, computation, job, places)
    assert placement.inflight_bytes == sum(len(job.body) for job in placement.inflight.values())
    if placement.node.state is NodeState.LOST:
        assert placement.state is PlacementState.CLOSED
    if placement.state is PlacementState.READY and not placement.node.reconciling:
        assert placement.data <= computation.shared.keys(), "a node keeps data that nobody wants"
    if placement.state in (PlacementState.CLOSED, PlacementState.FAILED):
        alive = [job for job in placement.pinned if job.state is JobState.QUEUED]
        assert not alive, "a job waits for a placement that is not coming"
    pause = ledger.timers.due(("pause", computation.id, placement.node.id))
    assert placement.paused == (pause is not None)
    if placement.blocked:
        assert len(placement.inflight) >= placement.slots > 0, "blocked, and no result to end that"
    if has_room(placement) and not placement.parked:
        assert not any(job.state is JobState.QUEUED for job in placement.pinned), "a pinned job could run"


def _check_job(ledger: Ledger, computation: Computation, job: Job, places: Counter[int]) -> None:
    assert ledger.jobs.get(job.id) is job
    assert job.computation == computation.id
    places[job.id] += 1


def _check_counts(computation: Computation) -> None:
    placements = computation.placements.values()
    assert all(
        placement.free == (0 if placement.parked else free_slots(placement)) for placement in placements
    ), "free slots are miscounted"
    assert computation.free == sum(placement.free for placement in placements)
    behind = {placement for placement in placements if busy_of(placement) > placement.slots}
    assert computation.behind.keys() == behind, "what is sent ahead is miscounted"


def _check_heap(ledger: Ledger, computation: Computation) -> None:
    valid = [entry[2] for entry in computation.heap if entry[1] == entry[2].entry]
    placements = computation.placements.values()
    for placement in placements:
        if placement.parked:
            entries = [entry[1] for entry in placement.node.parked if entry[3] is placement]
            assert placement.parked in entries, "a parked placement is not in the heap of its node"
            assert has_room(placement), "a placement without room is parked"
            assert is_crowded(placement), "a placement is parked at a node that has room"
        assert not placement.inflight or placement in placement.node.hosts
    open_ones = [placement for placement in placements if has_room(placement) and not placement.parked]
    assert len(set(valid)) == len(valid), "a placement has two valid entries"
    for placement in open_ones:
        assert placement in valid, "a placement with room is not in the heap"
        assert placement.load == rank_of(ledger, computation, busy_of(placement), placement.slots)
    if open_ones:
        lines = (computation.queue, *computation.ranked.values())
        assert not any(job.state is JobState.QUEUED for line in lines for job in line), (
            "a job waits though there is room"
        )
    assert len(computation.heap) <= 4 * len(computation.placements) + 17
