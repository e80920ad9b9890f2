"""What the application says about single nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dispy.engine.effects import Effect, TellNode
from dispy.engine.events import NodeCpusLimited, NodeLeft, NodeRested, NodesWidened, NodeTaken
from dispy.engine.managing import LEFT_REASON
from dispy.engine.records import JobState, PlacementState
from dispy.model import ComputationId, JobStatus, NodeId, NodeStatus, StartMethod
from dispy.wire.messages import (
    AssignJobs,
    CloseComputation,
    ComputationClosed,
    Finding,
    LimitSlots,
    NodeChanged,
    OpenComputation,
    Reconcile,
    Reconciled,
)

if TYPE_CHECKING:
    from dispy.engine.records import Computation
    from tests.unit.core.conftest import World


def ready(world: World, number: int = 1, **options: Any) -> Computation:
    """Add a computation that node 1, with two slots, has prepared."""
    options.setdefault("accepts", lambda node: node.usable_cpus)
    computation = world.add(number, **options)
    world.use(computation, 1)
    return computation


def assigned(world: World, effects: list[object]) -> list[int]:
    """Return the numbers of the jobs that are sent."""
    return [
        job.job
        for message in world.messages(effects)  # type: ignore[arg-type]
        if isinstance(message, AssignJobs)
        for job in message.jobs
    ]


def test_a_resting_node_gets_no_jobs_until_it_is_taken_again(world: World) -> None:
    computation = ready(world)
    running = world.submit(computation)
    assert world.do(NodeRested(computation.id, world.ident(1))) == []
    free, bound = world.submit(computation), world.submit(computation, pinned=world.ident(1))
    assert [job.state for job in (*running, *free, *bound)] == [
        JobState.ASSIGNED,
        JobState.QUEUED,
        JobState.QUEUED,
    ]
    effects = world.do(NodeTaken(computation.id, world.ident(1)))
    assert assigned(world, effects) == [bound[0].id]  # what is bound goes first, and there is one free slot


def test_a_node_that_is_left_ends_its_jobs_itself_and_stays_away(world: World) -> None:
    computation = ready(world)
    running, bound = world.submit(computation), world.submit(computation, 2, pinned=world.ident(1))
    effects = world.do(NodeLeft(computation.id, world.ident(1), terminate=False, again=False))
    assert CloseComputation(computation.id, False) in world.messages(effects)
    assert [effect.status for effect in effects if isinstance(effect, TellNode)] == [NodeStatus.CLOSED]
    assert bound[1].state is JobState.SETTLED, "it waited for a slot there"
    told = [change for change in world.changes(effects) if change.job is bound[1]]
    assert [(change.status, LEFT_REASON in change.reason) for change in told] == [(JobStatus.CANCELLED, True)]
    assert running[0].state is JobState.ASSIGNED
    world.submit(computation)
    world.finish(running[0])
    world.finish(bound[0])
    world.say(ComputationClosed(computation.id))
    for event in (NodesWidened(computation.id), NodeCpusLimited(world.ident(1), 1)):
        assert world.messages(world.do(event)) == []
    world.say(NodeChanged(5))
    assert world.placement(computation).state is PlacementState.CLOSED
    assert world.placement(computation).reason == LEFT_REASON
    effects = world.do(NodeTaken(computation.id, world.ident(1)))
    assert [type(message) for message in world.messages(effects)] == [OpenComputation]


def test_a_node_that_is_left_at_once_ends_what_runs(world: World) -> None:
    computation = ready(world)
    job = world.submit(computation)[0]
    effects = world.do(NodeLeft(computation.id, world.ident(1), terminate=True, again=False))
    assert world.messages(effects) == [CloseComputation(computation.id, True)]
    assert job.state is JobState.CANCELLING


def test_leaving_once_more_can_be_harder(world: World) -> None:
    computation = ready(world)
    job = world.submit(computation)[0]
    world.do(NodeLeft(computation.id, world.ident(1), terminate=False, again=False))
    effects = world.do(NodeLeft(computation.id, world.ident(1), terminate=True, again=False))
    assert world.messages(effects) == [CloseComputation(computation.id, True)]
    assert job.state is JobState.CANCELLING


def test_a_job_bound_to_a_node_that_was_left_is_refused(world: World) -> None:
    computation = ready(world)
    world.do(NodeLeft(computation.id, world.ident(1), terminate=False, again=False))
    (job,) = world.submit(computation, pinned=world.ident(1))
    assert job.state is JobState.SETTLED


def test_a_node_is_prepared_again_with_what_is_asked_for_then(world: World) -> None:
    arguments = b"old"
    computation = ready(
        world, arguments_for=lambda node: arguments, setup_timeout_s=1.0, start_method=StartMethod.SPAWN
    )
    (bound,) = world.submit(computation, 3, pinned=world.ident(1))[2:]
    first = list(world.placement(computation).inflight.values())
    arguments = b"new"
    world.do(NodeLeft(computation.id, world.ident(1), terminate=False, again=True))
    assert bound.state is JobState.QUEUED
    for job in first:
        world.finish(job)
    effects = world.say(ComputationClosed(computation.id))
    (opened,) = world.messages(effects)
    assert isinstance(opened, OpenComputation)
    assert (opened.setup_args, opened.start_method) == (b"new", "spawn")


def test_a_node_that_is_not_accepted_again_is_lost_to_it(world: World) -> None:
    slots = 2
    computation = ready(world, accepts=lambda node: slots)
    (bound,) = world.submit(computation, 3, pinned=world.ident(1))[2:]
    slots = 0
    world.do(NodeLeft(computation.id, world.ident(1), terminate=False, again=True))
    effects = world.say(ComputationClosed(computation.id))
    assert world.messages(effects) == []
    assert bound.state is JobState.SETTLED


@pytest.mark.parametrize(("limit", "slots"), [(1, 1), (0, 0), (7, 2), (None, 2)])
def test_slots_of_a_node_are_limited_for_all(world: World, limit: int | None, slots: int) -> None:
    first, second = ready(world, 1), ready(world, 2)
    world.do(NodeCpusLimited(world.ident(1), limit))
    assert [world.placement(one).slots for one in (first, second)] == [slots, slots]
    world.say(NodeChanged(5))
    assert world.placement(first).slots == (5 if limit is None else min(limit, 5))


def test_what_is_not_there_is_no_error(world: World) -> None:
    computation = ready(world)
    nowhere, nothing = NodeId("f" * 32), ComputationId("x")
    for event in (
        NodeRested(computation.id, nowhere),
        NodeTaken(computation.id, nowhere),
        NodeLeft(computation.id, nowhere, terminate=True, again=False),
        NodeCpusLimited(nowhere, 1),
        NodeRested(nothing, world.ident(1)),
        NodeTaken(nothing, world.ident(1)),
        NodeLeft(nothing, world.ident(1), terminate=True, again=False),
    ):
        assert world.do(event) == []


def limits(world: World, effects: list[Effect]) -> list[int]:
    return [message.cpus for message in world.messages(effects) if isinstance(message, LimitSlots)]


def test_the_node_is_told_of_another_number_of_slots(world: World) -> None:
    wanted = 2
    computation = ready(world, accepts=lambda node: min(wanted, node.usable_cpus))
    assert limits(world, world.do(NodeCpusLimited(world.ident(1), 1))) == [1]
    assert limits(world, world.do(NodeCpusLimited(world.ident(1), 1))) == [], "it knows"
    assert limits(world, world.do(NodeCpusLimited(world.ident(1), 0))) == [], "it ends what it has one by one"
    assert limits(world, world.do(NodeCpusLimited(world.ident(1), None))) == [0]
    wanted = 1
    assert limits(world, world.do(NodesWidened(computation.id))) == [1]


def test_the_node_is_told_again_when_it_may_have_missed_it(world: World) -> None:
    computation = ready(world)
    world.do(NodeCpusLimited(world.ident(1), 1))
    world.disconnect()
    assert limits(world, world.connect(1)) == [], "it has not said what it has"
    found = Finding(computation.id, "ready", [])
    assert limits(world, world.say(Reconciled([found]))) == [1]
    world.disconnect()
    world.do(NodeCpusLimited(world.ident(1), None))
    world.connect(1)
    assert limits(world, world.say(Reconciled([found]))) == [], "it was opened with all"


def test_a_node_that_was_given_up_and_returns_is_first_asked_what_it_has(world: World) -> None:
    computation = ready(world)
    world.disconnect(final=True)
    world.do(NodeCpusLimited(world.ident(1), 1))
    assert [type(message) for message in world.messages(world.connect(1))] == [Reconcile]
    assert limits(world, world.say(Reconciled([Finding(computation.id, "ready", [])]))) == [1]
