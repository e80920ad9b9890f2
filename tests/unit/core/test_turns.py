"""Clusters that want the same slots get them in the order that was asked for, and none for ever."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.engine.events import JobsSubmitted
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job, JobState
from dispy.engine.turns import PORTION, is_crowded, room_beside
from dispy.model import ClusterOrder

if TYPE_CHECKING:
    from tests.unit.core.conftest import World

LONG_S = 10.0
"""Of jobs that long none is sent ahead."""


def make(
    order: ClusterOrder, count: int, *, slots: int = 1, nodes: int = 1
) -> tuple[World, list[Computation]]:
    from tests.unit.core.conftest import World

    world = World(CancelPolicy(), order=order)
    computations = [world.add(number) for number in range(1, count + 1)]
    for number in range(1, nodes + 1):
        for computation in computations:
            world.use(computation, number, cpus=slots)
    return world, computations


def in_flight(world: World) -> list[Job]:
    return [job for job in world.engine.jobs.values() if job.state is JobState.ASSIGNED]


def end(world: World, job: Job) -> None:
    """Have a job end that has run for long."""
    assert job.node is not None
    number = next(number for number in world.links if world.node(number) is job.node)
    world.finish(job, number=number, started_at=1.0, ended_at=1.0 + LONG_S)


def served(world: World) -> list[str]:
    """Let jobs end one after the other, and tell whose they were, in the order in which they went to nodes."""
    order = [str(job.computation) for job in in_flight(world)]
    while jobs := in_flight(world):
        before = {job.id for job in jobs}
        end(world, jobs[0])
        order += [str(job.computation) for job in in_flight(world) if job.id not in before]
    assert not world.engine.jobs
    return order


def submit_mixed(world: World, computations: list[Computation], numbers: list[int]) -> None:
    """Submit a job to each of the computations with these numbers, one by one."""
    for number in numbers:
        world.submit(computations[number - 1])


def test_the_earliest_submitted_job_goes_first() -> None:
    world, computations = make(ClusterOrder.FIRST, 3)
    submit_mixed(world, computations, [2, 2, 1, 3, 1, 2])
    assert served(world) == ["c2", "c2", "c1", "c3", "c1", "c2"]


def test_the_cluster_that_was_created_first_goes_first() -> None:
    world, computations = make(ClusterOrder.EARLY, 3)
    submit_mixed(world, computations, [3, 2, 3, 1, 2, 1])
    assert served(world) == ["c3", "c1", "c1", "c2", "c2", "c3"]


def test_the_cluster_that_was_served_least_recently_goes_first() -> None:
    world, computations = make(ClusterOrder.FAIR, 3)
    submit_mixed(world, computations, [1, 1, 1, 1, 2, 2, 3])
    assert served(world) == ["c1", "c2", "c3", "c1", "c2", "c1", "c1"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (ClusterOrder.FIRST, ["c2", "c1", "c2", "c1"]),
        (ClusterOrder.FAIR, ["c2", "c1", "c2", "c1"]),
        (ClusterOrder.EARLY, ["c1", "c1", "c2", "c2"]),
    ],
)
def test_jobs_that_are_submitted_together_are_taken_in_turn(order: ClusterOrder, expected: list[str]) -> None:
    world, (first, second) = make(order, 2, slots=4)
    jobs = [job for _ in range(2) for one in (second, first) for job in world.jobs(one, 1)]
    effects = world.do(JobsSubmitted(jobs))
    assert len(world.assigned(effects)) == 2
    assert len(in_flight(world)) == 4
    sent = [str(job.computation) for job in in_flight(world)]
    assert sorted(sent) == ["c1", "c1", "c2", "c2"]
    world, (first, second) = make(order, 2, slots=1)
    world.do(JobsSubmitted([job for _ in range(2) for one in (second, first) for job in world.jobs(one, 1)]))
    assert served(world) == expected


def test_bound_jobs_wait_for_their_turn_too() -> None:
    world, (first, second) = make(ClusterOrder.FIRST, 2)
    world.submit(first, 2)
    world.submit(second, pinned=world.ident(1))
    world.submit(first)
    assert served(world) == ["c1", "c1", "c2", "c1"]


def test_jobs_that_come_back_have_the_turn_of_their_submission() -> None:
    world, (first, second) = make(ClusterOrder.FIRST, 2, nodes=2)
    early = world.submit(first, 2)
    world.submit(second, 2)
    world.submit(first)
    assert [job.node for job in early] == [world.node(1), world.node(2)]
    from dispy.wire.messages import JobsRejected

    world.say(JobsRejected(first.id, world.keys(early[1:]), "no"), 2)
    end(world, early[0])
    assert early[1].node is world.node(1), "it was submitted before those that wait"


def test_a_cluster_alone_at_a_node_is_not_bounded() -> None:
    world, (first, second) = make(ClusterOrder.FIRST, 2, slots=2)
    placement = world.placement(first)
    assert room_beside(placement) == float("inf")
    (short,) = world.submit(first)
    assert room_beside(world.placement(second)) == 1
    world.finish(short, started_at=1.0, ended_at=1.001)
    assert room_beside(world.placement(second)) == float("inf"), "nothing is in flight"
    world.submit(first, 100)
    assert len(placement.inflight) == placement.window > 2
    assert is_crowded(world.placement(second))
    assert not is_crowded(placement)


def test_short_jobs_ahead_do_not_keep_another_cluster_out() -> None:
    world, (first, second) = make(ClusterOrder.FAIR, 2, slots=2)
    (short,) = world.submit(first)
    world.finish(short, started_at=1.0, ended_at=1.001)
    many = world.submit(first, 2 * PORTION)
    world.submit(second, 2)
    assert second.queue
    world.finish(many[0], started_at=1.0, ended_at=1.001)
    assert len(second.queue) == 1, "it was its turn"


def test_a_node_that_one_may_use_in_part_has_room_for_another() -> None:
    from tests.unit.core.conftest import World

    world = World(CancelPolicy())
    some, all_ = world.add(1, accepts=lambda node: 2), world.add(2)
    world.use(some, 1, cpus=8)
    world.use(all_, 1)
    world.submit(some, 10)
    world.submit(all_, 10)
    assert len(world.placement(some).inflight) == 2
    assert len(world.placement(all_).inflight) == 6


def test_clusters_with_nodes_of_their_own_do_not_wait_for_each_other() -> None:
    from tests.unit.core.conftest import World

    world = World(CancelPolicy())
    first = world.add(1, accepts=lambda node: node.cpus if node is world.node(1) else 0)
    second = world.add(2)
    world.use(first, 1, cpus=1)
    world.connect(2, cpus=1)
    from dispy.wire.messages import ComputationReady

    for number in (1, 2):
        world.say(ComputationReady(second.id), number)
    world.submit(first, 5)
    (late,) = world.submit(second)
    assert late.node is world.node(2)


@given(
    order=st.sampled_from(list(ClusterOrder)),
    slots=st.integers(1, 3),
    nodes=st.integers(1, 3),
    submissions=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_every_job_gets_its_turn(
    order: ClusterOrder, slots: int, nodes: int, submissions: list[tuple[int, int]], seed: int
) -> None:
    """Whatever ends when: all jobs run, and each goes to a node only when no other has an earlier turn."""
    world, computations = make(order, 4, slots=slots, nodes=nodes)
    rng = random.Random(seed)
    for number, count in submissions:
        world.submit(computations[number - 1], count)
        if rng.random() < 0.5 and (jobs := in_flight(world)):
            end(world, rng.choice(jobs))
    while jobs := in_flight(world):
        waiting = [job for computation in computations for job in computation.queue]
        if waiting:
            assert all(job.node is not None for job in jobs)
            assert len(jobs) >= slots * nodes, "a slot has nothing to do"
        end(world, rng.choice(jobs))
        if waiting and order is ClusterOrder.FIRST:
            left = [job for job in waiting if job.state is JobState.QUEUED]
            gone = [job for job in waiting if job.state is not JobState.QUEUED]
            assert not left or all(job.id < min(one.id for one in left) for job in gone)
        if waiting and order is ClusterOrder.EARLY:
            left_of = [computation.id for computation in computations if computation.queue]
            gone_of = [job.computation for job in waiting if job.state is not JobState.QUEUED]
            assert all(one <= min(left_of, default=one) for one in gone_of)
    assert not world.engine.jobs


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    slots=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_nobody_starves_when_turns_are_fair(counts: list[int], slots: int, seed: int) -> None:
    """While it has jobs that wait, a cluster is passed over at most once by each of the others between its turns."""
    world, computations = make(ClusterOrder.FAIR, len(counts), slots=slots)
    for computation, count in zip(computations, counts, strict=True):
        world.submit(computation, count)
    rng = random.Random(seed)
    passed = dict.fromkeys((computation.id for computation in computations), 0)
    while jobs := in_flight(world):
        before = {job.id for job in jobs}
        hungry = [computation.id for computation in computations if computation.queue]
        end(world, rng.choice(jobs))
        for job in in_flight(world):
            if job.id not in before:
                passed[job.computation] = 0
                for ident in hungry:
                    passed[ident] += ident != job.computation
                assert all(passed[ident] < len(counts) for ident in hungry)
    assert not world.engine.jobs
