"""What waits behind long jobs is taken back when slots elsewhere are free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispy.engine.placing import LOOK_S
from dispy.engine.recalling import WAIT_S
from dispy.engine.records import Computation, Job, JobState
from dispy.wire.messages import JobsRejected, RecallJobs, Reconciled

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


def recalls(effects: list) -> list[RecallJobs]:
    from tests.unit.core.conftest import World

    return [message for message in World.messages(effects) if isinstance(message, RecallJobs)]


@pytest.fixture
def stuck(world: World) -> tuple[Computation, list[Job]]:
    """Node 1 has 1 slot and 4 jobs, ahead because of a short one before; node 2 has just come and has nothing."""
    computation = world.add()
    world.use(computation, 1, cpus=1)
    (short,) = world.submit(computation)
    world.finish(short, ended_at=10.01)
    jobs = world.submit(computation, 4)
    world.start(jobs[0])
    world.use(computation, 2, cpus=2)
    return computation, jobs


def test_jobs_behind_one_that_takes_long_go_where_a_slot_is_free(world: World, stuck) -> None:
    computation, jobs = stuck
    assert recalls(world.wait(WAIT_S - LOOK_S / 2)) == []
    assert recalls(world.wait(2 * LOOK_S)) == [RecallJobs("c1", world.keys(jobs[1:]))]
    effects = world.say(JobsRejected("c1", world.keys(jobs[1:]), "asked for"))
    assert world.assigned(effects) == [(2, [(jobs[1].id, 2), (jobs[2].id, 2)])]
    assert jobs[3].state is JobState.QUEUED
    assert not world.placement(computation).paused
    counters = world.engine.counters
    assert (counters.recalled_jobs, counters.rejected_jobs) == (3, 0)


def test_each_attempt_is_asked_for_once_on_each_link(world: World, stuck) -> None:
    _, jobs = stuck
    assert len(recalls(world.wait(10.0))) == 1
    world.disconnect(1)
    world.connect(1, cpus=1)
    world.start(jobs[1])
    again = world.say(Reconciled([_finding()]))
    assert recalls(again) == [RecallJobs("c1", world.keys(jobs[2:]))]
    assert recalls(world.wait(1.0)) == []


def _finding():
    from dispy.wire.messages import Finding

    return Finding("c1", "ready", [])


def test_a_node_that_rejects_more_than_it_was_asked_for_is_left_alone(world: World, stuck) -> None:
    computation, jobs = stuck
    world.wait(1.0)
    world.say(JobsRejected("c1", world.keys(jobs[1:2]), "asked for"))
    assert not world.placement(computation).paused
    extra = world.submit(computation, 2)
    assert extra[0].node is world.node(2)
    world.say(JobsRejected("c1", world.keys(extra[:1]), "no"), 2)
    assert world.placement(computation, 2).paused
    assert world.engine.counters.rejected_jobs == 1


def test_bound_jobs_stay(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    (short,) = world.submit(computation)
    world.finish(short, ended_at=10.01)
    bound = world.submit(computation, 3, pinned=world.ident(1))
    free = world.submit(computation, 2)
    world.use(computation, 2)
    assert recalls(world.wait(5.0)) == [RecallJobs("c1", world.keys(free))]
    assert all(job.node is world.node(1) for job in bound)


def test_nothing_is_taken_back_while_the_queue_has_jobs_or_no_slot_is_free(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    (short,) = world.submit(computation)
    world.finish(short, ended_at=10.01)
    world.submit(computation, 20)
    assert computation.queue
    assert recalls(world.wait(5.0)) == []
    world.use(computation, 2, cpus=1)
    assert recalls(world.wait(5.0)) == []


def test_jobs_that_start_soon_stay(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    (short,) = world.submit(computation)
    world.finish(short, ended_at=10.01)
    jobs = world.submit(computation, 8)
    world.use(computation, 2, cpus=2)
    for job in jobs:
        assert recalls(world.wait(0.01)) == []
        world.finish(job, ended_at=10.01)
    assert not recalls(world.wait(1.0))
    assert world.engine.next_deadline() is None, "nothing is looked at when nothing is ahead"


def test_jobs_that_turn_out_to_be_long_are_shared_with_free_slots(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    (short,) = world.submit(computation)
    world.finish(short, ended_at=10.01)
    jobs = world.submit(computation, 7)
    world.finish(jobs[0], ended_at=12.0)
    world.use(computation, 2, cpus=1)
    assert recalls(world.wait(LOOK_S)) == [RecallJobs("c1", world.keys(jobs[6:]))]


def test_a_node_that_gave_back_jobs_gets_none_ahead_until_something_ends_there(world: World, stuck) -> None:
    computation, jobs = stuck
    world.wait(1.0)
    world.say(JobsRejected("c1", world.keys(jobs[1:]), "asked for"))
    world.submit(computation, 5)
    assert list(world.placement(computation, 1).inflight) == [jobs[0].id]
    world.finish(jobs[0], ended_at=10.01)
    assert len(world.placement(computation, 1).inflight) > 1


def test_nobody_looks_while_no_slot_is_free_or_nothing_waits_behind_another(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    (short,) = world.submit(computation)
    world.finish(short, ended_at=10.01)
    jobs = world.submit(computation, 4)
    assert list(computation.behind) == [world.placement(computation)]
    assert world.engine.next_deadline() is None, "no slot is free"
    world.use(computation, 2, cpus=2)
    assert computation.free == 2
    assert world.engine.next_deadline() is not None
    for job in jobs:
        world.finish(job, ended_at=10.01)
    world.wait(LOOK_S)
    assert not computation.behind
    assert world.engine.next_deadline() is None, "nothing waits"
