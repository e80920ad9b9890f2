"""Jobs of a higher priority go first, those of the same in the order of their submission."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from dispy.engine.events import CancelRequested, JobsSubmitted
from dispy.engine.ranks import enter, enter_first, lines_in_turn, lines_of
from dispy.engine.records import LimitedJob
from dispy.model import ComputationId, JobId, NodeId
from dispy.wire.messages import JobsRejected

if TYPE_CHECKING:
    from dispy.engine.records import Computation, Job
    from tests.unit.core.conftest import World


def make(
    priorities: list[int], *, computation: str = "c1", pinned: NodeId | None = None, start: int = 1
) -> list[Job]:
    ident = ComputationId(computation)
    return [
        LimitedJob(JobId(number), ident, b"args", None, priority=priority, pinned=pinned)
        for number, priority in enumerate(priorities, start)
    ]


def run_all(world: World, computation: Computation) -> list[int]:
    """Let a node with one slot run everything; give the order of jobs."""
    order = []
    while world.engine.jobs:
        (job,) = world.placement(computation).inflight.values()
        order.append(int(job.id))
        world.finish(job)
    return order


def test_the_highest_goes_first(world: World) -> None:
    computation = world.add()
    world.do(JobsSubmitted(make([0, -1, 5, 0, 5, 7])))
    assert [[job.id for job in line] for line in lines_in_turn(computation)] == [[6], [3, 5], [1, 4], [2]]
    world.use(computation, 1, cpus=1)
    assert run_all(world, computation) == [6, 3, 5, 1, 4, 2]
    assert not computation.ranked
    assert lines_in_turn(computation) == [computation.queue]


def test_so_it_is_among_those_bound_to_a_node_which_go_before_all(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    world.do(JobsSubmitted([*make([0]), *make([9], start=2)]))
    world.do(JobsSubmitted(make([0, 2, 0, 2, -3], pinned=world.ident(1), start=3)))
    assert run_all(world, computation) == [2, 4, 6, 3, 5, 7, 1]


def test_a_job_that_comes_back_is_first_of_its_priority(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    bound = world.ident(1)
    world.do(JobsSubmitted(make([1, 1])))
    world.do(JobsSubmitted(make([3], start=3)))
    world.say(JobsRejected(computation.id, [(1, 1)], "busy"))
    world.do(JobsSubmitted(make([0, 4], pinned=bound, start=4)))
    assert [[job.id for job in line] for line in lines_in_turn(computation)] == [[3], [1, 2], []]
    world.wait(2.0)
    assert run_all(world, computation) == [5, 4, 3, 1, 2]


def test_those_that_end_while_they_wait_are_passed_over(world: World) -> None:
    computation = world.add()
    jobs = make([index % 3 for index in range(300)])
    world.do(JobsSubmitted(jobs))
    world.do(CancelRequested([job.id for job in jobs if job.priority == 2 or job.id > 30]))
    assert sum(map(len, lines_of(computation))) < 300
    world.use(computation, 1, cpus=1)
    order = run_all(world, computation)
    assert order == [job.id for rank in (1, 0) for job in jobs if job.priority == rank and job.id <= 30]


@given(st.lists(st.tuples(st.integers(-2, 2), st.booleans()), max_size=30))
def test_a_line_of_several_priorities_stays_sorted(entries: list[tuple[int, bool]]) -> None:
    line: deque[Job] = deque()
    expected: list[tuple[int, int]] = []
    for number, (priority, first) in enumerate(entries, 1):
        (job,) = make([priority], start=number)
        (enter_first if first else enter)(line, job)
        same = [at for at, (rank, _) in enumerate(expected) if rank >= priority]
        above = [at for at, (rank, _) in enumerate(expected) if rank > priority]
        expected.insert(len(above if first else same), (priority, number))
    assert [(job.priority, job.id) for job in line] == expected
