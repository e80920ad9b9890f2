"""The checks see what is wrong: each is shown a scheduler whose records were spoilt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from dispy.engine.records import JobState, NodeState, PlacementState
from dispy.model import JobId, LinkId, NodeId

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


def spoil_pending(world: Any, computation: Any, idle: Any) -> None:
    computation.pending += 1


def spoil_dropped(world: Any, computation: Any, idle: Any) -> None:
    computation.dropped += 1


def lose_a_queued_job(world: Any, computation: Any, idle: Any) -> None:
    computation.queue.pop()


def queue_a_job_twice(world: Any, computation: Any, idle: Any) -> None:
    computation.queue.append(computation.queue[-1])


def queue_a_job_in_flight(world: Any, computation: Any, idle: Any) -> None:
    computation.queue.append(next(iter(world.placement(computation).inflight.values())))


def forget_a_job(world: Any, computation: Any, idle: Any) -> None:
    del world.engine._ledger.jobs[JobId(1)]


def spoil_bytes(world: Any, computation: Any, idle: Any) -> None:
    world.placement(computation).inflight_bytes += 1


def spoil_state(world: Any, computation: Any, idle: Any) -> None:
    world.placement(computation).inflight[1].state = JobState.QUEUED


def lose_the_node(world: Any, computation: Any, idle: Any) -> None:
    world.node().state = NodeState.LOST


def lose_the_link(world: Any, computation: Any, idle: Any) -> None:
    world.node().link = None


def swap_the_link(world: Any, computation: Any, idle: Any) -> None:
    world.engine._ledger.links[LinkId(77)] = world.node()


def forget_the_lease(world: Any, computation: Any, idle: Any) -> None:
    world.engine._ledger.timers.clear(("lease", world.node(2).id))


def spoil_the_name_of_a_node(world: Any, computation: Any, idle: Any) -> None:
    world.engine._ledger.nodes[NodeId("x")] = world.node(2)


def reconcile_a_silent_node(world: Any, computation: Any, idle: Any) -> None:
    world.node(2).reconciling = True


def empty_the_heap(world: Any, computation: Any, idle: Any) -> None:
    world.placement(idle, 3).entry = 0


def double_the_heap(world: Any, computation: Any, idle: Any) -> None:
    idle.heap += [entry for entry in idle.heap if entry[2].entry == entry[1]]


def spoil_the_load(world: Any, computation: Any, idle: Any) -> None:
    world.placement(idle, 3).load = 0.7


def pause_without_a_timer(world: Any, computation: Any, idle: Any) -> None:
    world.placement(computation).paused = True


def block_an_idle_placement(world: Any, computation: Any, idle: Any) -> None:
    world.placement(idle, 3).blocked = True


def close_the_placement_of_a_bound_job(world: Any, computation: Any, idle: Any) -> None:
    world.placement(computation).state = PlacementState.CLOSED


def leave_an_effect(world: Any, computation: Any, idle: Any) -> None:
    world.engine._ledger.report("left over")


def make_room(world: Any, computation: Any, idle: Any) -> None:
    world.placement(computation).window += 1


SPOILERS = [
    spoil_pending,
    spoil_dropped,
    lose_a_queued_job,
    queue_a_job_twice,
    queue_a_job_in_flight,
    forget_a_job,
    spoil_bytes,
    spoil_state,
    lose_the_node,
    lose_the_link,
    swap_the_link,
    forget_the_lease,
    spoil_the_name_of_a_node,
    reconcile_a_silent_node,
    empty_the_heap,
    double_the_heap,
    spoil_the_load,
    pause_without_a_timer,
    block_an_idle_placement,
    close_the_placement_of_a_bound_job,
    leave_an_effect,
    make_room,
]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda spoil: spoil.__name__)
def test_what_does_not_fit_is_seen(world: World, spoil: Callable[[Any, Any, Any], None]) -> None:
    computation = world.add()
    world.use(computation, 1, 2)
    world.submit(computation, 4)
    world.submit(computation, 1, pinned=world.ident(1))
    idle = world.add(2)
    world.disconnect(2)
    world.use(idle, 3)  # where the other computation is still loading
    world.submit(computation, 1)
    world.engine.check_invariants()
    spoil(world, computation, idle)
    with pytest.raises(AssertionError):
        world.engine.check_invariants()


def test_abandoned_jobs_are_checked_too(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.disconnect(1, final=True)
    world.engine.check_invariants()
    job.state = JobState.ASSIGNED
    with pytest.raises(AssertionError):
        world.engine.check_invariants()
