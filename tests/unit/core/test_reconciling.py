"""Nodes come, fall silent, come back, get lost, and tell what they have."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from dispy.engine.effects import CloseLink, JobChange, Report, SendMessage, TellJobs, TellNode
from dispy.engine.events import CancelRequested, JobsSubmitted, LinkClosed, LinkOpened, MessageReceived
from dispy.engine.records import JobState, Node, NodeState, PlacementState
from dispy.model import Avail, JobStatus, LinkId, NodeStatus, PythonVersion
from dispy.wire.messages import (
    AckResults,
    Belief,
    CancelJobs,
    CloseComputation,
    ComputationClosed,
    ComputationReady,
    Finding,
    JobResults,
    JobsRejected,
    JobsStarted,
    JobStart,
    Reconcile,
    Reconciled,
)
from dispy.wire.owner import Owner

if TYPE_CHECKING:
    from tests.unit.core.conftest import World

WHY_ABANDONED = (
    "node node1 (10.0.0.1) was silent for 15 s; the job may have started there, "
    "and may not be started a second time"
)


def beliefs(effects: list[Any]) -> list[Belief]:
    first = effects[0]
    assert isinstance(first, SendMessage)
    assert isinstance(first.message, Reconcile)
    return first.message.beliefs


def found(world: World, state: str, *missing: tuple[int, int], number: int = 1) -> list[Any]:
    return world.say(Reconciled([Finding("c1", state, list(missing))]), number)


# -- greeting


def test_a_node_is_remembered_as_it_greets(world: World) -> None:
    world.connect(1, target=("host", 51348), addresses=["192.168.0.1"], avail=(1.0, 2, 3, 4.0), cpus=8)
    node = world.node()
    assert (node.name, node.epoch, node.cpus, node.python) == ("node1", 1, 8, PythonVersion(3, 11, 7))
    assert (node.state, node.link, node.avail) == (NodeState.CONNECTED, LinkId(1), Avail(1.0, 2, 3, 4.0))
    assert node.addresses == {"192.168.0.1", "10.0.0.1"}
    assert node.targets == {("host", 51348)}
    for name in ("node1", "host", "192.168.0.1", "10.0.0.1", node.id):
        assert node.is_known_as(name)
    assert not node.is_known_as("10.0.0.2")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"role": "client"}, "'node1' is a client, not a node; give the address of a node"),
        ({"python": "three"}, "'node1' greets with invalid literal for int() with base 10: 'three'"),
        ({"python": "3"}, "'node1' greets with not a Python version: '3'"),
        ({"ident": ""}, "'node1' greets with ident '', epoch 1, 2 cpus"),
        ({"epoch": 0, "ident": "ab"}, "'node1' greets with ident 'ab', epoch 0, 2 cpus"),
        ({"cpus": -1, "ident": "ab"}, "'node1' greets with ident 'ab', epoch 1, -1 cpus"),
    ],
)
def test_a_greeting_that_makes_no_sense_closes_the_link(
    world: World, fields: dict[str, Any], reason: str
) -> None:
    assert world.connect(1, **fields) == [CloseLink(LinkId(1), reason)]
    assert world.engine.nodes == {}
    assert world.say(ComputationReady("c1")) == []


def test_an_older_epoch_is_refused(world: World) -> None:
    world.connect(1, epoch=3)
    world.disconnect(1)
    (effect,) = world.connect(1, epoch=2)
    assert isinstance(effect, CloseLink)
    assert "greets as start number 2, but number 3 was seen before" in effect.reason
    assert world.node().state is NodeState.SILENT


@pytest.mark.parametrize("impostor", [Owner("alpha", b"x" * 32), Owner("beta", b"a" * 32), Owner()])
@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("away", [False, True])
def test_nobody_stands_in_for_another_node(world: World, impostor: Owner, epoch: int, away: bool) -> None:
    alpha = Owner("alpha", b"a" * 32)
    world.do(LinkOpened(LinkId(90), world.hello(1), ("host", 1), "10.0.0.1", owner=alpha))
    if away:
        world.do(LinkClosed(LinkId(90), "reset"))
    before = (world.node().state, world.node().link, set(world.node().targets), set(world.node().addresses))
    said = LinkOpened(LinkId(91), world.hello(1, epoch=epoch), ("evil", 1), "10.0.0.66", owner=impostor)
    close, report = world.do(said)
    assert isinstance(close, CloseLink)
    assert close.link == 91
    assert isinstance(report, Report)
    assert (
        "the node at 10.0.0.66 is refused: it greets with the ident of node node1 (10.0.0.1)" in report.text
    )
    node = world.node()
    assert (node.state, node.link, node.targets, node.addresses, node.epoch) == (*before, 1)
    assert [type(one) for one in world.do(replace(said, link=LinkId(92)))] == [CloseLink], "it is said once"
    assert world.do(LinkClosed(LinkId(91), "it has left", final=True)) == []
    if away:
        world.do(LinkOpened(LinkId(93), world.hello(1, epoch=epoch), None, "10.0.0.1", owner=alpha))
        assert world.node().link == 93


def test_a_second_link_is_refused_but_its_address_counts(world: World) -> None:
    def accepts(node: Node) -> int:
        return node.cpus if ("other", 1) in node.targets else 0

    computation = world.add(accepts=accepts)
    world.connect(1, target=("host", 1))
    assert computation.placements == {}
    second = LinkOpened(LinkId(9), world.hello(1), ("other", 1), "10.0.0.9")
    effects = world.do(second)
    assert effects[0] == CloseLink(LinkId(9), "already connected to this node by 10.0.0.1")
    assert isinstance(effects[1], SendMessage)
    assert effects[1].link == LinkId(1)
    assert world.placement(computation).state is PlacementState.PREPARING
    assert world.node().targets == {("host", 1), ("other", 1)}
    assert world.node().peer_host == "10.0.0.1"
    assert world.do(MessageReceived(LinkId(9), ComputationReady("c1"))) == []
    assert len(world.do(second)) == 1


# -- silence


def test_a_silent_node_keeps_its_jobs_and_gets_no_new_ones(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    assert world.disconnect(1) == []
    assert (world.node().state, world.node().lease_ends_at) == (NodeState.SILENT, world.now + 15)
    assert world.engine.next_deadline() == world.now + 15
    assert world.do(JobsSubmitted(world.jobs(computation, 1))) == []
    assert job.state is JobState.ASSIGNED
    assert world.do(CancelRequested([job.id])) == []
    assert computation.pending == 2


def test_a_node_that_returns_in_time_goes_on(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 3)
    world.start(jobs[0])
    world.disconnect(1)
    world.wait(14.9)
    effects = world.connect(1)
    assert effects == [SendMessage(LinkId(2), Reconcile([Belief("c1", [(1, 1), (2, 1)])]))]
    assert world.engine.next_deadline() is None
    # Nothing is assigned before the answer.
    assert world.finish(jobs[0])[-1] == SendMessage(LinkId(2), AckResults("c1", [(1, 1)]))
    assert world.assigned(found(world, "ready")) == [(2, [(3, 1)])]
    assert world.told(world.finish(jobs[1], jobs[2])) == [(2, "FINISHED"), (3, "FINISHED")]


def test_what_the_node_never_received_goes_back_to_the_front(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 3)
    world.disconnect(1)
    world.connect(1)
    effects = found(world, "ready", (1, 1), (2, 1), (3, 7), (9, 1))
    assert world.assigned(effects) == [(2, [(1, 2), (2, 2)])]
    assert [job.attempt for job in jobs] == [2, 2, 0]


def test_a_running_job_that_the_node_does_not_know_is_lost(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.start(job)
    world.disconnect(1)
    world.connect(1)
    (change,) = world.changes(found(world, "ready", (1, 1)))
    assert change.status is JobStatus.ABANDONED
    assert "does not know the job any more; the job may have started" in change.reason


def test_a_node_that_has_forgotten_the_computation_may_have_started_its_jobs(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 2)
    world.disconnect(1)
    world.connect(1)
    effects = found(world, "unknown", (1, 1))
    assert world.told(effects) == [(1, "ABANDONED")]
    assert [type(message).__name__ for message in world.messages(effects)] == ["OpenComputation"]
    assert TellNode(world.node(), NodeStatus.CLOSED, computation.id) in effects
    assert world.placement(computation).state is PlacementState.PREPARING
    # It still has a result of the other.
    assert world.told(world.finish(jobs[1])) == [(2, "FINISHED")]
    assert TellNode(world.node(), NodeStatus.INITIALIZED, computation.id) in world.say(ComputationReady("c1"))


@pytest.mark.parametrize(
    ("before", "finding", "after"),
    [
        ("preparing", "unknown", "preparing"),
        ("preparing", "preparing", "preparing"),
        ("preparing", "ready", "ready"),
        ("preparing", "closing", "closing"),
        ("ready", "unknown", "preparing"),
        ("ready", "preparing", "preparing"),
        ("ready", "ready", "ready"),
        ("ready", "closing", "closing"),
        ("closing", "unknown", "closed"),
        ("closing", "preparing", "closing"),
        ("closing", "ready", "closing"),
        ("closing", "closing", "closing"),
    ],
)
def test_findings(world: World, before: str, finding: str, after: str) -> None:
    computation = world.add()
    world.connect(1)
    world.connect(2)  # keeps the computation from being closed at once
    if before != "preparing":
        world.use(computation, 1)
    if before == "closing":
        world.close(computation)
    world.disconnect(1)
    (belief,) = beliefs(world.connect(1))
    assert belief == Belief("c1", [])
    effects = found(world, finding)
    assert world.placement(computation).state is PlacementState(after)
    sent = [type(message).__name__ for message in world.messages(effects)]
    if (before, finding) in {("closing", "preparing"), ("closing", "ready")}:
        assert sent == ["CloseComputation"]
    elif before != "closing" and finding == "unknown":
        assert sent == ["OpenComputation"]
    else:
        assert sent == []


def test_a_computation_that_the_node_closes_is_opened_anew_after_that(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    waiting = world.submit(computation, 3, pinned=world.ident(1))
    world.disconnect(1)
    world.connect(1)
    effects = found(world, "closing")
    assert effects == [TellNode(world.node(), NodeStatus.CLOSED, computation.id)]
    world.finish(waiting[0])
    effects = world.say(ComputationClosed("c1"))
    assert [type(message).__name__ for message in world.messages(effects)] == ["OpenComputation"]
    world.finish(waiting[1])
    assert world.assigned(world.say(ComputationReady("c1"))) == [(2, [(3, 1)])]


def test_what_the_node_closes_and_nobody_wants_stays_closed(world: World) -> None:
    wanted = 1
    computation = world.add(accepts=lambda node: wanted)
    world.use(computation, 1)
    first, second = world.submit(computation, 2, pinned=world.ident(1))
    world.disconnect(1)
    world.connect(1)
    found(world, "closing")
    wanted = 0
    world.finish(first)
    (change,) = world.changes(world.say(ComputationClosed("c1")))
    assert (change.job, change.status) == (second, JobStatus.CANCELLED)
    assert change.reason.endswith("which cannot be used: it has closed the computation")
    assert world.placement(computation).state is PlacementState.CLOSED


def test_cancellations_are_asked_for_again(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=4)
    jobs = world.submit(computation, 4)
    world.do(CancelRequested([jobs[0].id]))
    world.disconnect(1)
    world.do(CancelRequested([jobs[1].id]))
    world.connect(1)
    assert world.do(CancelRequested([jobs[2].id, jobs[3].id])) == []
    effects = found(world, "ready", (4, 1))
    assert effects == [
        SendMessage(LinkId(2), CancelJobs("c1", [(1, 1), (2, 1), (3, 1)])),
        TellJobs([JobChange(jobs[3], JobStatus.CANCELLED, world.node(), None, "it had not started")]),
    ]


def test_closing_is_asked_for_when_the_node_has_told_what_it_has(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.disconnect(1)
    world.connect(1)
    assert world.close(computation) == []
    assert found(world, "ready") == [SendMessage(LinkId(2), CloseComputation("c1", terminate=False))]


def test_findings_that_nobody_asked_for_are_counted(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    assert world.say(Reconciled([])) == []
    assert world.engine.counters.stray_messages == 0
    assert found(world, "ready", (1, 1)) == []
    assert world.engine.counters.stray_messages == 1
    assert job.state is JobState.ASSIGNED


def test_an_unknown_finding_closes_the_link(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.disconnect(1)
    world.connect(1)
    text = "computation 'c1' is 'strange', which is no state"
    assert found(world, "strange") == [CloseLink(LinkId(2), text)]


def test_two_findings_for_one_computation_close_the_link(world: World) -> None:
    """Each of them could make us send a computation anew."""
    computation = world.add()
    world.use(computation, 1)
    world.disconnect(1)
    world.connect(1)
    twice = [Finding(computation.id, "unknown", [])] * 2
    assert [type(effect) for effect in world.say(Reconciled(twice))] == [CloseLink]


def test_findings_about_what_is_not_there_do_nothing(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.disconnect(1)
    world.connect(1)
    assert world.say(Reconciled([Finding("none", "ready", [(1, 1)])])) == []
    assert not world.node().reconciling


def test_a_failed_placement_with_jobs_is_reconciled_too(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.start(job)
    world.say(ComputationClosed("c1"))
    assert world.placement(computation).state is PlacementState.FAILED
    world.disconnect(1)
    assert beliefs(world.connect(1)) == [Belief("c1", [(1, 1)])]
    assert world.told(found(world, "ready", (1, 1))) == [(1, "ABANDONED")]
    assert world.placement(computation).state is PlacementState.FAILED
    world.disconnect(1)
    assert beliefs(world.connect(1)) == [Belief("c1", [(1, 1)])]
    assert found(world, "unknown", (1, 1)) == []
    assert world.placement(computation).state is PlacementState.FAILED


# -- loss


@pytest.mark.parametrize("started", [False, True])
def test_jobs_of_a_lost_node_are_abandoned(world: World, started: bool) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    if started:
        world.start(job)
    world.disconnect(1)
    assert world.wait(14.9) == []
    assert world.wait(0.2) == [
        TellNode(world.node(), NodeStatus.CLOSED, computation.id),
        TellJobs([JobChange(job, JobStatus.ABANDONED, world.node(), None, WHY_ABANDONED)]),
    ]
    assert world.node().state is NodeState.LOST
    assert (job.state, computation.pending) == (JobState.ABANDONED, 0)
    assert world.engine.counters.lost_attempts == 1


def test_a_node_that_ends_is_lost_at_once(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation)
    bound = world.submit(computation, 2, pinned=world.ident(1))
    changes = world.changes(world.disconnect(1, reason="drained", final=True))
    assert [(change.job.id, change.status.name) for change in changes] == [
        (1, "ABANDONED"),
        (2, "ABANDONED"),
        (3, "CANCELLED"),
    ]
    assert changes[0].reason.startswith("node node1 (10.0.0.1) has ended: drained; the job may")
    assert changes[2].job is bound[1]
    assert changes[2].reason.endswith("which cannot be used: it has ended: drained")
    assert world.node().state is NodeState.LOST


def test_jobs_that_may_run_again_do_so(make_world: type[World]) -> None:
    world = make_world(make_world.RerunPolicy())
    computation = world.add(reentrant=True)
    world.use(computation, 1)
    jobs = world.submit(computation, 3)
    world.start(jobs[0])
    world.use(computation, 2)
    world.finish(jobs[2], number=2)
    world.disconnect(1)
    assert world.assigned(world.wait(15)) == [(2, [(1, 2), (2, 2)])]
    assert jobs[0].started_at == 0.0
    assert world.engine.counters.reruns == 2
    assert world.told(world.finish(*jobs[:2], number=2)) == [(1, "FINISHED"), (2, "FINISHED")]


def test_jobs_that_are_run_again_come_before_others(make_world: type[World]) -> None:
    world = make_world(make_world.RerunPolicy())
    computation = world.add(reentrant=True)
    world.use(computation, 1)
    world.submit(computation, 4)
    world.disconnect(1, final=True)
    assert [job.id for job in computation.queue] == [1, 2, 3, 4]


def test_a_bound_job_cannot_run_again_without_its_node(make_world: type[World]) -> None:
    world = make_world(make_world.RerunAllPolicy())
    computation = world.add(reentrant=True)
    world.use(computation, 1)
    (job,) = world.submit(computation, pinned=world.ident(1))
    assert world.told(world.disconnect(1, final=True)) == [(job.id, "ABANDONED")]


def test_a_bound_job_can_run_again_at_its_node(make_world: type[World]) -> None:
    world = make_world(make_world.RerunAllPolicy())
    computation = world.add(reentrant=True)
    world.use(computation, 1)
    (job,) = world.submit(computation, pinned=world.ident(1))
    world.disconnect(1)
    world.connect(1)
    found(world, "unknown", (1, 1))
    assert world.assigned(world.say(ComputationReady("c1"))) == [(2, [(job.id, 2)])]


def test_a_job_that_was_being_cancelled_is_cancelled(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.do(CancelRequested([job.id]))
    (change,) = world.changes(world.disconnect(1, final=True, reason=""))
    assert change.status is JobStatus.CANCELLED
    assert change.reason == "it was being cancelled when node node1 (10.0.0.1) has ended"
    assert world.engine.jobs == {}


def test_a_late_result_settles_an_abandoned_job(world: World) -> None:
    computation = world.add(observed=True)
    world.use(computation, 1, cpus=3)
    jobs = world.submit(computation, 3)
    world.disconnect(1)
    world.wait(15)
    effects = world.connect(1)
    assert beliefs(effects) == [Belief("c1", [(1, 1), (2, 1), (3, 1)])]
    assert len(effects) == 1
    effects = found(world, "ready", (2, 1))
    assert effects == [TellNode(world.node(), NodeStatus.INITIALIZED, computation.id)]
    assert jobs[1].state is JobState.SETTLED
    assert set(world.engine.jobs) == {1, 3}
    assert world.say(JobsStarted("c1", [JobStart(1, 1, 9.0), JobStart(3, 2, 9.0)])) == []
    assert world.engine.counters.late_starts == 1
    assert world.told(world.finish(jobs[0])) == [(1, "FINISHED")]
    fields = {"outcome": 5, "started_at": 0.0, "ended_at": 0.0}
    assert world.told(world.finish(jobs[2], **fields)) == [(3, "CANCELLED")]
    assert computation.pending == 0
    assert world.engine.jobs == {}


def test_abandoned_jobs_are_asked_for_again_on_each_link(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation)
    world.disconnect(1, final=True)
    for _ in range(2):
        assert beliefs(world.connect(1)) == [Belief("c1", [(1, 1)])]
        world.disconnect(1)


def test_a_lost_node_that_is_not_wanted_any_more_is_asked_about_its_results_only(world: World) -> None:
    wanted = 2
    computation = world.add(accepts=lambda node: wanted)
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.disconnect(1, final=True)
    wanted = 0
    assert beliefs(world.connect(1)) == [Belief("c1", [(1, 1)])]
    found(world, "ready")
    assert world.placement(computation).state is PlacementState.CLOSED
    assert world.told(world.finish(job)) == [(1, "FINISHED")]


def test_a_new_epoch_loses_what_the_old_one_had(make_world: type[World]) -> None:
    world = make_world(make_world.RerunPolicy())
    once, often = world.add(1), world.add(2, reentrant=True)
    world.use(once, 1, cpus=3)
    world.use(often, 1)
    (single,) = world.submit(once)
    (double,) = world.submit(often)
    bound = world.submit(often, 3, pinned=world.ident(1))
    world.disconnect(1)
    effects = world.connect(1, epoch=2)
    assert [type(message).__name__ for message in world.messages(effects)] == [
        "Reconcile",
        "OpenComputation",
        "OpenComputation",
    ]
    (belief,) = [message for message in world.messages(effects) if isinstance(message, Reconcile)]
    assert belief.beliefs == []
    assert world.told(effects) == [(single.id, "ABANDONED"), (bound[0].id, "ABANDONED")]
    assert single.state is JobState.SETTLED  # no epoch will come back with it
    assert single.id not in world.engine.jobs
    assert world.assigned(world.say(ComputationReady("c2"))) == [(2, [(3 + 1, 1), (5, 1)])]
    assert double.state is JobState.QUEUED


def test_a_new_epoch_replaces_a_link_that_nobody_has_missed(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    effects = world.connect(1, epoch=2)
    assert effects[0] == CloseLink(LinkId(1), "the node has started again")
    (change,) = world.changes(effects)
    assert (change.job, change.status) == (job, JobStatus.ABANDONED)
    assert "node node1 (10.0.0.1) has started again; the job may have started" in change.reason
    assert world.node().link == LinkId(2)
    assert world.do(MessageReceived(LinkId(1), JobResults("c1", [world.result(job)]))) == []


def test_jobs_bound_to_a_node_that_is_not_used_after_its_return_are_cancelled(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    first, second = world.submit(computation, 2, pinned=world.ident(1))
    effects = world.connect(1, epoch=2, cpus=0)
    assert world.told(effects) == [(first.id, "ABANDONED"), (second.id, "CANCELLED")]


def test_a_job_that_is_rejected_by_a_failed_placement_is_over_if_it_is_bound(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation, pinned=world.ident(1))
    world.say(ComputationClosed("c1"))
    assert job.state is JobState.SETTLED
    assert world.say(JobsRejected("c1", [(1, 1)], "closed")) == []


def test_a_computation_that_does_not_use_the_node_is_left_alone(world: World) -> None:
    computation, other = world.add(1), world.add(2, accepts=lambda node: 0)
    world.use(computation, 1)
    (job,) = world.submit(other)
    world.disconnect(1)
    assert beliefs(world.connect(1)) == [Belief("c1", [])]
    found(world, "ready")
    assert world.placement(computation).is_usable
    world.disconnect(1, final=True)
    assert not world.placement(computation).is_usable
    assert beliefs(world.connect(1)) == [Belief("c1", [])]
    world.disconnect(1)
    assert beliefs(world.connect(1, epoch=2)) == []
    assert (other.placements, job.state) == ({}, JobState.QUEUED)
    assert repr(job) == "<Job 1 queued attempt 0>"
