"""Closing ends, and in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.engine.effects import SendMessage, TellClosed, TellNode
from dispy.engine.events import JobsSubmitted
from dispy.engine.records import JobState, PlacementState
from dispy.model import JobStatus, LinkId, NodeStatus, Outcome
from dispy.wire.messages import (
    Belief,
    CloseComputation,
    ComputationClosed,
    ComputationFailed,
    JobsRejected,
    Reconcile,
)

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


def test_a_computation_without_nodes_is_closed_at_once(world: World) -> None:
    computation = world.add()
    assert world.close(computation) == [TellClosed(computation)]
    assert computation.id in world.engine.computations  # to be looked up while the news are passed on
    assert world.close(computation) == []
    assert world.engine.computations == {}
    assert world.engine.next_deadline() is None


def test_all_nodes_are_waited_for(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, 2)
    world.connect(3)
    assert world.close(computation) == [
        SendMessage(LinkId(number), CloseComputation("c1", terminate=False)) for number in (1, 2, 3)
    ]
    assert world.close(computation) == []
    assert TellClosed(computation) not in world.say(ComputationClosed("c1"), 1)
    assert TellClosed(computation) not in world.say(ComputationFailed("c1", "it was loading"), 3)
    assert world.say(ComputationClosed("c1"), 2) == [
        TellNode(world.node(2), NodeStatus.CLOSED, computation.id),
        TellClosed(computation),
    ]


def test_nodes_that_cannot_be_reached_or_used_are_not_waited_for(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, 2)
    world.connect(3)
    world.disconnect(1)
    world.disconnect(2, final=True)
    world.say(ComputationFailed("c1", "why"), 3)
    assert world.close(computation) == [TellClosed(computation)]
    # The silent one learns that nobody believes in the computation any more.
    (effect, *_) = world.connect(1)
    assert effect == SendMessage(LinkId(4), Reconcile([]))


def test_a_node_that_falls_silent_is_not_waited_for(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.close(computation)
    assert world.disconnect(1) == [TellClosed(computation)]


def test_terminating_cancels_what_is_queued_and_ends_what_runs(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 4)
    bound = world.submit(computation, 1, pinned=world.ident(1))
    world.start(jobs[0])
    effects = world.close(computation, terminate=True)
    assert effects[0] == SendMessage(LinkId(1), CloseComputation("c1", terminate=True))
    assert world.told(effects) == [(3, "CANCELLED"), (4, "CANCELLED"), (bound[0].id, "CANCELLED")]
    assert {change.reason for change in world.changes(effects)} == {"the cluster is closed"}
    assert [job.state for job in jobs[:2]] == [JobState.CANCELLING] * 2
    assert world.told(world.finish(jobs[0], outcome=int(Outcome.CANCELLED))) == [(1, "TERMINATED")]
    assert TellClosed(computation) not in world.say(ComputationClosed("c1"))
    # A result that was longer on its way than the news of the end.
    effects = world.finish(jobs[1])
    assert world.told(effects) == [(2, "FINISHED")]
    assert effects[-1] == TellClosed(computation)


def test_jobs_that_do_not_end_are_given_up(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 2)
    world.close(computation, terminate=True)
    assert world.wait(7.9) == []
    changes = world.changes(world.wait(0.2))
    assert [(change.job, change.status) for change in changes] == [
        (job, JobStatus.TERMINATED) for job in jobs
    ]
    reason = "the cluster is closed, and node node1 (10.0.0.1) has not told how the job ended"
    assert {change.reason for change in changes} == {reason}
    assert world.wait(1.8) == []
    assert world.wait(0.2) == [TellClosed(computation)]
    assert world.finish(jobs[0])[0] == world.finish(jobs[0])[0]
    assert world.engine.counters.late_results == 2
    assert world.engine.next_deadline() is None


def test_jobs_at_silent_nodes_are_given_up_at_once(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation)
    world.disconnect(1)
    effects = world.close(computation, terminate=True)
    assert world.told(effects) == [(1, "TERMINATED")]
    assert effects[-1] == TellClosed(computation)


def test_jobs_at_nodes_that_fall_silent_are_given_up(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation)
    world.close(computation, terminate=True)
    effects = world.disconnect(1)
    assert world.told(effects) == [(1, "TERMINATED")]
    assert effects[-1] == TellClosed(computation)


def test_closing_can_be_made_harder_but_not_softer(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.close(computation)
    assert job.state is JobState.ASSIGNED
    world.now += 5
    assert world.close(computation, terminate=True) == [
        SendMessage(LinkId(1), CloseComputation("c1", terminate=True)),
    ]
    assert job.state is JobState.CANCELLING
    assert world.close(computation, terminate=True) == []
    assert world.close(computation) == []
    effects = world.wait(5)  # 10 s after the first request
    assert world.told(effects) == [(1, "TERMINATED")]
    assert effects[-1] == TellClosed(computation)


def test_closing_without_terminating_is_bounded_too(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation, 3)
    assert world.told(world.close(computation)) == [(3, "CANCELLED")]
    effects = world.wait(10)
    assert world.told(effects) == [(1, "TERMINATED"), (2, "TERMINATED")]
    assert effects[-1] == TellClosed(computation)


def test_a_job_that_comes_back_after_the_close_is_cancelled(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation)
    world.close(computation)
    (change,) = world.changes(world.say(JobsRejected("c1", [(1, 1)], "closed")))
    assert (change.status, change.reason) == (JobStatus.CANCELLED, "the cluster is closed")
    assert computation.pending == 0
    world.say(ComputationClosed("c1"))
    assert world.wait(2) == []
    assert world.engine.next_deadline() is None


def test_abandoned_jobs_are_forgotten(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.disconnect(1, final=True)
    effects = world.connect(1)
    assert world.messages(effects) == [Reconcile([Belief("c1", [(1, 1)])])]
    world.say(ComputationFailed("c1", "why"))
    assert world.close(computation) == [TellClosed(computation)]
    world.wait(20)
    assert world.disconnect(1) == []
    assert world.engine.jobs == {}
    assert job.state is JobState.SETTLED


def test_a_closed_computation_takes_nothing_more(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.close(computation)
    world.connect(2)
    assert len(computation.placements) == 1
    assert world.told(world.do(JobsSubmitted(world.jobs(computation, 1)))) == [(1, "CANCELLED")]
    assert world.placement(computation).state is PlacementState.CLOSING


def test_reports_are_made_again_for_the_next_computation(world: World) -> None:
    for _ in range(2):
        computation = world.add(code="no code for you")
        effects = world.connect(1) if 1 not in world.links else []
        if effects:
            assert len(world.reports(effects)) == 1
        assert world.close(computation) == [TellClosed(computation)]


def test_what_has_gone_wrong_in_cleanup_is_told(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.close(computation)
    effects = world.say(ComputationClosed("c1", "cleanup has failed: OSError"))
    assert world.reports(effects) == ["node node1 (10.0.0.1): cleanup has failed: OSError"]
