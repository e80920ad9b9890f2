"""Scripts for the scheduler as a whole: this event, exactly these effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispy.engine.effects import CloseLink, JobChange, SendMessage, TellClosed, TellJobs, TellNode
from dispy.engine.events import (
    CancelRequested,
    ComputationAdded,
    ComputationClosing,
    JobsSubmitted,
    LinkClosed,
    LinkOpened,
    MessageReceived,
    NodesWidened,
    TimePassed,
)
from dispy.engine.records import JobState, NodeState, PlacementState
from dispy.engine.scheduler import SchedulerEngine
from dispy.errors import LocalProtocolError
from dispy.model import Avail, ComputationId, JobId, JobStatus, LinkId, NodeId, NodeStatus
from dispy.wire.messages import (
    AckResults,
    AssignJobs,
    CloseComputation,
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    Goodbye,
    Heartbeat,
    JobAssignment,
    JobResults,
    JobsStarted,
    JobStart,
    NodeChanged,
    OpenComputation,
    Reconcile,
    Reconciled,
    StreamCredit,
    StreamEnded,
)

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


def test_the_life_of_a_job(world: World) -> None:
    computation = world.add(observed=True)
    assert world.connect() == [
        SendMessage(LinkId(1), Reconcile([])),
        SendMessage(
            LinkId(1), OpenComputation("c1", "compute1", "function", "process", b"code", 0, 0, [], 0)
        ),
    ]
    assert world.say(Reconciled([])) == []
    assert world.say(ComputationReady("c1")) == [
        TellNode(world.node(), NodeStatus.INITIALIZED, computation.id),
    ]
    (job,) = jobs = world.jobs(computation, 1)
    assert world.do(JobsSubmitted(jobs)) == [
        SendMessage(LinkId(1), AssignJobs("c1", [JobAssignment(1, 1, b"args")])),
    ]
    assert (job.state, job.attempt, job.node) == (JobState.ASSIGNED, 1, world.node())
    assert computation.pending == 1
    assert world.say(JobsStarted("c1", [JobStart(1, 1, 12.5)])) == [
        TellJobs([JobChange(job, JobStatus.RUNNING, world.node())]),
    ]
    assert (job.state, job.started_at) == (JobState.RUNNING, 12.5)
    result = world.result(job)
    assert world.say(JobResults("c1", [result])) == [
        TellJobs([JobChange(job, JobStatus.FINISHED, world.node(), result)]),
        SendMessage(LinkId(1), AckResults("c1", [(1, 1)])),
    ]
    assert (job.state, job.body) == (JobState.SETTLED, b"")
    assert computation.pending == 0
    assert world.engine.jobs == {}
    assert world.close(computation) == [SendMessage(LinkId(1), CloseComputation("c1", terminate=False))]
    assert world.say(ComputationClosed("c1")) == [
        TellNode(world.node(), NodeStatus.CLOSED, computation.id),
        TellClosed(computation),
    ]
    assert world.do(TimePassed()) == []
    assert world.engine.computations == {}
    assert world.engine.next_deadline() is None
    assert vars_of(world.engine) == {}


def vars_of(engine: SchedulerEngine) -> dict[str, int]:
    """Give the counters that are not zero."""
    names = type(engine.counters).__dataclass_fields__
    return {name: count for name in names if (count := getattr(engine.counters, name))}


def test_news_come_before_acknowledgements_and_those_before_assignments(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    first, _ = world.submit(computation, 2)
    kinds = [
        type(effect.message if isinstance(effect, SendMessage) else effect).__name__
        for effect in world.finish(first)
    ]
    assert kinds == ["TellJobs", "AckResults", "AssignJobs"]


def test_jobs_of_a_computation_that_is_not_there_are_refused(world: World) -> None:
    computation = world.add()
    jobs = world.jobs(computation, 1)
    world.close(computation)
    assert world.do(JobsSubmitted(jobs)) == [
        TellJobs([JobChange(jobs[0], JobStatus.CANCELLED, None, None, "the cluster is closed")]),
    ]
    assert jobs[0].state is JobState.SETTLED
    assert world.engine.jobs == {}


def test_jobs_of_a_closing_computation_are_refused(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.close(computation)
    (job,) = world.jobs(computation, 1)
    assert world.told(world.do(JobsSubmitted([job]))) == [(1, "CANCELLED")]
    assert computation.pending == 0


@pytest.mark.parametrize("known", [False, True])
def test_a_job_bound_to_a_node_that_is_not_used_is_refused(world: World, known: bool) -> None:
    computation = world.add(accepts=lambda node: 0)
    if known:
        world.connect(1)
    (job,) = world.jobs(computation, 1, pinned=world.ident(1))
    (change,) = world.changes(world.do(JobsSubmitted([job])))
    name = "node node1 (10.0.0.1)" if known else world.ident(1)
    assert change.status is JobStatus.CANCELLED
    assert change.reason == f"it is bound to {name}, which compute1 does not use"
    assert computation.pending == 0


def test_a_job_bound_to_a_node_that_cannot_run_it_is_refused(world: World) -> None:
    computation = world.add()
    world.connect(1)
    world.say(ComputationFailed("c1", "no such module"))
    (job,) = world.jobs(computation, 1, pinned=world.ident(1))
    (change,) = world.changes(world.do(JobsSubmitted([job])))
    assert change.reason == "it is bound to node node1 (10.0.0.1), which cannot be used: no such module"


def test_a_job_bound_to_a_node_that_is_getting_ready_waits(world: World) -> None:
    computation = world.add()
    world.connect(1)
    world.connect(2)
    (job,) = world.submit(computation, pinned=world.ident(1))
    assert world.assigned(world.say(ComputationReady("c1"), 2)) == []
    assert world.assigned(world.say(ComputationReady("c1"), 1)) == [(1, [(job.id, 1)])]


def test_contradictions_of_the_application_are_errors(world: World) -> None:
    computation = world.add()
    (job,) = world.submit(computation)
    with pytest.raises(LocalProtocolError, match="job 1 was submitted twice"):
        world.engine.handle(JobsSubmitted([job]), 0.0)
    with pytest.raises(LocalProtocolError, match="computation c1 was added twice"):
        world.engine.handle(ComputationAdded(computation), 0.0)
    world.connect(1)
    with pytest.raises(LocalProtocolError, match="link 1 was opened twice"):
        world.engine.handle(LinkOpened(LinkId(1), world.hello(2), None, "h"), 0.0)


def test_events_about_what_is_not_there_do_nothing(world: World) -> None:
    assert world.do(NodesWidened(ComputationId("none"))) == []
    assert world.do(ComputationClosing(ComputationId("none"), terminate=True)) == []
    assert world.do(CancelRequested([JobId(9)])) == []
    assert world.do(LinkClosed(LinkId(9), "reset")) == []
    assert world.do(TimePassed()) == []
    assert world.engine.next_deadline() is None


def test_messages_of_closed_links_are_counted(world: World) -> None:
    assert world.do(MessageReceived(LinkId(5), ComputationReady("c1"))) == []
    assert world.engine.counters.stray_messages == 1


def test_messages_about_other_computations_are_counted(world: World) -> None:
    world.connect(1)
    for message in (ComputationReady("none"), ComputationFailed("none", "why"), ComputationClosed("none")):
        assert world.say(message) == []
    assert world.engine.counters.stray_messages == 3


@pytest.mark.parametrize(
    "message",
    [Heartbeat(), Goodbye("end"), StreamCredit(1, 5), StreamEnded(1)],
    ids=lambda item: type(item).__name__,
)
def test_what_is_the_drivers_business_is_passed_over(world: World, message: Heartbeat) -> None:
    world.connect(1)
    assert world.say(message) == []
    assert world.engine.counters.stray_messages == 0


def test_a_message_that_no_node_sends_closes_the_link(world: World) -> None:
    world.connect(1)
    assert world.say(AssignJobs("c1", [])) == [CloseLink(LinkId(1), "a node does not send AssignJobs")]
    assert world.node().state is NodeState.SILENT
    assert world.disconnect() == []


def test_the_number_of_slots_of_a_node_changes(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    world.submit(computation, 4)
    assert world.assigned(world.say(NodeChanged(3))) == [(1, [(2, 1), (3, 1)])]
    assert world.placement(computation).slots == 3
    world.say(NodeChanged(0))
    assert world.placement(computation).slots == 0
    assert world.placement(computation).state is PlacementState.READY


def test_a_negative_number_of_slots_closes_the_link(world: World) -> None:
    world.connect(1)
    assert world.say(NodeChanged(-1)) == [CloseLink(LinkId(1), "node node1 (10.0.0.1) has -1 cpus")]


def test_a_draining_node_gets_no_more_jobs_until_it_does_not_drain(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.say(NodeChanged(2, draining=True))
    world.submit(computation, 1)
    assert world.placement(computation).inflight == {}
    later = world.add(2)
    assert later.placements == {}
    effects = world.say(NodeChanged(2, draining=False))
    assert world.assigned(effects) == [(1, [(1, 1)])]
    assert world.node().id in later.placements


def test_what_a_node_has_free_is_told_to_those_who_want_to_know(world: World) -> None:
    curious = world.add(1, observed=True)
    quiet = world.add(2)
    late = world.add(3, observed=True)
    world.use(curious, 1)
    world.use(quiet, 1)
    avail = (12.5, 100, 200, 1.0)
    assert world.say(NodeChanged(2, avail)) == [TellNode(world.node(), NodeStatus.AVAIL_INFO, curious.id)]
    assert world.node().avail == Avail(*avail)
    assert world.say(NodeChanged(2, avail)) == []
    assert world.say(NodeChanged(2)) == []
    assert world.node().avail == Avail(*avail)
    assert not world.placement(late).initialized


def test_ready_again_is_counted(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    assert world.say(ComputationReady("c1")) == []
    assert world.engine.counters.stray_messages == 1


def test_views_cannot_be_written(world: World) -> None:
    for view in (world.engine.nodes, world.engine.jobs, world.engine.computations):
        assert not hasattr(view, "__setitem__")
    world.connect(1)
    assert set(world.engine.nodes) == {NodeId(world.ident(1))}
