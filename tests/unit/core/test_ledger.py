"""What the parts of the scheduler share keeps its own books."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispy.engine.effects import Report, SendMessage
from dispy.engine.ledger import DROPPED_MIN, Ledger, describe_node, may_become_ready
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job, JobState, Placement, PlacementState
from dispy.engine.tables import JobStep
from dispy.model import ComputationId, Isolation, JobId, JobStatus, LinkId
from dispy.wire.messages import Heartbeat

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(CancelPolicy(), 15.0)


@pytest.fixture
def computation(ledger: Ledger) -> Computation:
    made = Computation(
        ComputationId("c"), "f", "function", Isolation.PROCESS, False, lambda node: 1, lambda python: b""
    )
    ledger.computations[made.id] = made
    return made


@pytest.fixture
def placement(world: World, computation: Computation) -> Placement:
    world.connect(1)
    made = Placement(world.node(), PlacementState.READY, 1)
    computation.placements[made.node.id] = made
    return made


def queued(ledger: Ledger, computation: Computation, count: int) -> list[Job]:
    jobs = [Job(JobId(number), computation.id, b"body") for number in range(1, count + 1)]
    computation.queue.extend(jobs)
    computation.pending += count
    ledger.jobs.update((job.id, job) for job in jobs)
    return jobs


def fly(ledger: Ledger, computation: Computation, placement: Placement, count: int) -> list[Job]:
    jobs = queued(ledger, computation, count)
    computation.queue.clear()
    for job in jobs:
        job.state, job.attempt, job.node = JobState.ASSIGNED, 1, placement.node
        placement.inflight[job.id] = job
        placement.inflight_bytes += len(job.body)
    return jobs


def test_reports_are_made_once_for_each_computation(ledger: Ledger) -> None:
    for _ in range(2):
        for computation in (None, ComputationId("a"), ComputationId("b")):
            ledger.report("disk full", computation)
    assert ledger.effects == [
        Report("disk full", None),
        Report("disk full", ComputationId("a")),
        Report("disk full", ComputationId("b")),
    ]
    ledger.forget_reports(ComputationId("a"))
    ledger.report("disk full", ComputationId("a"))
    assert len(ledger.effects) == 4


def test_all_placements_of_a_node_are_touched(
    ledger: Ledger, computation: Computation, placement: Placement
) -> None:
    elsewhere = ComputationId("d")
    ledger.computations[elsewhere] = Computation(
        elsewhere, "g", "function", Isolation.PROCESS, False, lambda node: 1, lambda python: b""
    )
    ledger.touch_node(placement.node)
    assert ledger.touched == {placement: computation}
    assert list(ledger.awake) == [computation.id]


def test_messages_to_nodes_without_a_link_are_not_sent(ledger: Ledger, placement: Placement) -> None:
    ledger.send(placement.node, Heartbeat())
    placement.node.link = None
    ledger.send(placement.node, Heartbeat())
    assert ledger.effects == [SendMessage(LinkId(1), Heartbeat())]


def test_a_job_is_settled_once(ledger: Ledger, computation: Computation) -> None:
    (job,) = queued(ledger, computation, 1)
    ledger.settle(computation, job, JobStep.GIVEN_UP, JobStatus.CANCELLED, reason="why")
    assert (computation.pending, computation.dropped) == (0, 1)
    assert (ledger.jobs, job.body) == ({}, b"")
    assert [(change.job, change.status, change.reason) for change in ledger.changes] == [
        (job, JobStatus.CANCELLED, "why")
    ]


def test_released_jobs_free_their_place(
    ledger: Ledger, computation: Computation, placement: Placement
) -> None:
    first, second = fly(ledger, computation, placement, 2)
    placement.blocked = True
    ledger.release(computation, placement, first)
    assert placement.inflight == {2: second}
    assert placement.inflight_bytes == 4
    assert not placement.blocked
    assert ledger.touched == {placement: computation}


def test_a_job_is_found_where_it_is(ledger: Ledger, computation: Computation, placement: Placement) -> None:
    flying, abandoned, nowhere = fly(ledger, computation, placement, 3)
    ledger.lose(computation, placement, [abandoned], "is gone")
    ledger.release(computation, placement, nowhere)
    assert ledger.release_anywhere(computation, flying) is placement
    assert ledger.release_anywhere(computation, abandoned) is placement
    assert ledger.release_anywhere(computation, nowhere) is None
    assert (placement.inflight, placement.abandoned) == ({}, {})
    nowhere.node = None
    assert ledger.release_anywhere(computation, nowhere) is None


def test_jobs_that_never_started_are_requeued_in_order(
    ledger: Ledger, computation: Computation, placement: Placement
) -> None:
    jobs = fly(ledger, computation, placement, 3)
    computation.queue.append(Job(JobId(9), computation.id, b""))
    for job in jobs:
        ledger.release(computation, placement, job)
    ledger.requeue(computation, placement, jobs, JobStep.RETURNED)
    assert [job.id for job in computation.queue] == [1, 2, 3, 9]
    assert computation.id in ledger.awake


@pytest.mark.parametrize("state", PlacementState)
def test_bound_jobs_are_requeued_only_where_they_can_run(
    ledger: Ledger, computation: Computation, placement: Placement, state: PlacementState
) -> None:
    (job,) = jobs = fly(ledger, computation, placement, 1)
    job.pinned = placement.node.id
    placement.state = state
    placement.reason = "it is broken"
    ledger.release(computation, placement, job)
    ledger.requeue(computation, placement, jobs, JobStep.RETURNED)
    if state in (PlacementState.FAILED, PlacementState.CLOSED):
        assert not may_become_ready(placement)
        assert job.state is JobState.SETTLED
        assert not placement.pinned
    else:
        assert may_become_ready(placement)
        assert list(placement.pinned) == [job]
    assert computation.dropped == 0


def test_dead_entries_are_swept_when_they_outnumber_the_living(
    ledger: Ledger, computation: Computation, placement: Placement
) -> None:
    assert not placement.pinned
    jobs = queued(ledger, computation, 2 * DROPPED_MIN + 2)
    for count, job in enumerate(jobs[: DROPPED_MIN + 1], 1):
        ledger.settle(computation, job, JobStep.GIVEN_UP, JobStatus.CANCELLED)
        ledger.sweep(computation)
        if count <= DROPPED_MIN:
            assert (len(computation.queue), computation.dropped) == (len(jobs), count)
    assert list(computation.queue) == jobs[DROPPED_MIN + 1 :]
    assert computation.dropped == 0


def test_dead_entries_go_with_the_placement_they_wait_for(
    ledger: Ledger, computation: Computation, placement: Placement
) -> None:
    first, second = jobs = queued(ledger, computation, 2)
    computation.queue.clear()
    placement.pinned.extend(jobs)
    ledger.settle(computation, first, JobStep.GIVEN_UP, JobStatus.CANCELLED)
    ledger.drop_pinned(computation, placement, "it is broken")
    assert [change.job for change in ledger.changes] == [first, second]
    assert (computation.dropped, computation.pending, len(placement.pinned)) == (0, 0, 0)


def test_nodes_are_named_for_people(placement: Placement) -> None:
    assert describe_node(placement.node) == "node node1 (10.0.0.1)"
