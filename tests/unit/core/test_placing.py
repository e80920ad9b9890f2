"""Who gets the next job, and how many are sent ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.engine.effects import SendMessage, SendStream
from dispy.engine.events import CancelRequested, JobsSubmitted, LinkClosed
from dispy.engine.placing import AHEAD_MAX, BATCH_BYTES, SPOOLED_BYTES_MAX, window_of
from dispy.engine.records import Job, LimitedJob
from dispy.model import INLINE_BODY_BYTES, JobId, LinkId
from dispy.wire.messages import AssignJobs, JobAssignment, JobLimits, JobsRejected

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


@pytest.mark.parametrize(
    ("mean_s", "window"),
    [
        (None, 2),
        (0.0, 2 * 257),
        (1e-9, 2 * 257),
        (0.0005, 2 * 257),
        (0.001, 2 * 201),
        (0.01, 2 * 21),
        (0.03, 2 * 7),
        (0.05, 2 * 5),
        (0.1, 2 * 3),
        (0.11, 2 * 2),
        (2.0, 2 * 2),
        (2.1, 2),
        (1e300, 2),
    ],
)
def test_window(mean_s: float | None, window: int) -> None:
    assert window_of(2, mean_s) == window


@given(st.integers(0, 100), st.floats(0.0, 1e9))
def test_window_is_bounded(slots: int, mean_s: float) -> None:
    assert slots <= window_of(slots, mean_s) <= slots * (1 + AHEAD_MAX)


def test_jobs_go_out_in_order_in_one_message_for_each_node(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, 2)
    effects = world.do(JobsSubmitted(world.jobs(computation, 6)))
    assert world.assigned(effects) == [(1, [(1, 1), (3, 1)]), (2, [(2, 1), (4, 1)])]
    assert [job.id for job in computation.queue] == [5, 6]


def test_several_submissions_are_one_queue(world: World) -> None:
    computation = world.add()
    world.submit(computation, 2)
    world.submit(computation, 1)
    world.connect(1, cpus=3)
    world.use(computation, 1)
    assert list(world.placement(computation).inflight) == [1, 2, 3]


def test_the_least_loaded_node_is_next(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=4)
    world.use(computation, 2, cpus=1)
    world.submit(computation, 4)
    # 0/4 and 0/1 are equal, the older entry is first; then 1/4, 2/4 are less than 1/1.
    assert list(world.placement(computation, 1).inflight) == [1, 3, 4]
    assert list(world.placement(computation, 2).inflight) == [2]


def test_free_slots_are_filled_before_anything_is_sent_ahead(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=1)
    (job,) = world.submit(computation)
    world.finish(job, ended_at=10.02)  # 20 ms: ten ahead
    world.use(computation, 2, cpus=3)
    effects = world.do(JobsSubmitted(world.jobs(computation, 4)))
    assert world.assigned(effects) == [(1, [(2, 1)]), (2, [(3, 1), (4, 1), (5, 1)])]
    effects = world.do(JobsSubmitted(world.jobs(computation, 12)))
    assert world.assigned(effects) == [(1, [(number, 1) for number in range(6, 16)])]
    assert len(computation.queue) == 2


def test_nothing_is_sent_ahead_before_a_run_time_is_known(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 9)
    assert len(world.placement(computation).inflight) == 2
    effects = world.finish(jobs[0], started_at=10.0, ended_at=10.08)
    assert world.assigned(effects) == [(1, [(number, 1) for number in range(3, 8)])]
    assert world.placement(computation).window == 6


def test_bound_jobs_go_before_others(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    others = world.submit(computation, 4)
    bound = world.submit(computation, 2, pinned=world.ident(1))
    effects = world.finish(others[0])
    assert world.assigned(effects) == [(1, [(bound[0].id, 1)])]
    effects = world.finish(others[1], bound[0])
    assert world.assigned(effects) == [(1, [(bound[1].id, 1), (others[2].id, 1)])]


def test_bound_jobs_use_no_other_node(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, 2, cpus=1)
    jobs = world.submit(computation, 3, pinned=world.ident(2))
    assert list(world.placement(computation, 2).inflight) == [jobs[0].id]
    assert world.placement(computation, 1).inflight == {}


def test_bodies_in_flight_are_bounded_beyond_free_slots(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (first,) = world.submit(computation)
    world.finish(first, ended_at=10.001)
    body = b"x" * (SPOOLED_BYTES_MAX // 3 + 1)
    jobs = world.submit(computation, 4, body=body)
    placement = world.placement(computation)
    assert list(placement.inflight) == [2, 3]
    assert placement.blocked
    assert placement.inflight_bytes == 2 * len(body)
    world.submit(computation, 1)
    assert list(placement.inflight) == [2, 3]
    world.finish(jobs[0])
    assert list(placement.inflight) == [3, 4]


def test_free_slots_are_filled_whatever_the_bodies(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation, 3, body=b"x" * (SPOOLED_BYTES_MAX + 1))
    assert list(world.placement(computation).inflight) == [1, 2]


def test_large_bodies_have_a_stream_which_follows_its_message(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=3)
    large = b"x" * (INLINE_BODY_BYTES + 1)
    jobs = [
        *world.jobs(computation, 1, body=b"x" * INLINE_BODY_BYTES),
        *world.jobs(computation, 2, body=large),
    ]
    size = len(large)
    assert world.do(JobsSubmitted(jobs)) == [
        SendMessage(
            world.links[1],
            AssignJobs(
                "c1",
                [
                    JobAssignment(1, 1, b"x" * INLINE_BODY_BYTES),
                    JobAssignment(2, 1, b"", 1, size),
                    JobAssignment(3, 1, b"", 2, size),
                ],
            ),
        ),
        SendStream(world.links[1], 1, large, size),
        SendStream(world.links[1], 2, large, size),
    ]
    assert world.node().next_stream == 3


def test_streams_of_two_computations_have_rising_numbers_as_they_are_sent(world: World) -> None:
    first, second = world.add(1), world.add(2)
    world.use(first, 1, cpus=3)
    world.use(second, 1)
    large = b"x" * (INLINE_BODY_BYTES + 1)
    node = world.ident(1)
    jobs = [
        *world.jobs(first, 1, pinned=node, body=large),
        *world.jobs(second, 1, pinned=node, body=large),
        *world.jobs(first, 1, body=large),  # its placement is filled a second time, after the other
    ]
    effects = world.do(JobsSubmitted(jobs))
    assert [effect.stream for effect in effects if isinstance(effect, SendStream)] == [1, 2, 3]
    announced = [
        job.stream
        for effect in effects
        if isinstance(effect, SendMessage) and isinstance(effect.message, AssignJobs)
        for job in effect.message.jobs
    ]
    assert announced == [1, 2, 3]


def test_a_message_stays_below_the_size_of_a_frame(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=100)
    effects = world.do(JobsSubmitted(world.jobs(computation, 100, body=b"x" * INLINE_BODY_BYTES)))
    batches = [batch for _, batch in world.assigned(effects)]
    assert [key for batch in batches for key in batch] == [(number, 1) for number in range(1, 101)]
    assert len(batches) == 4
    for batch in batches:
        assert len(batch) * INLINE_BODY_BYTES <= BATCH_BYTES


def test_jobs_that_ended_in_the_queue_are_passed_over(world: World) -> None:
    computation = world.add()
    jobs = world.submit(computation, 4)
    bound = None
    world.connect(1, cpus=3)
    bound = world.submit(computation, 2, pinned=world.ident(1))
    world.do(CancelRequested([jobs[0].id, jobs[1].id, bound[0].id]))
    assert computation.dropped == 3
    world.use(computation, 1)
    assert list(world.placement(computation).inflight) == [bound[1].id, jobs[2].id, jobs[3].id]
    assert computation.dropped == 0


def test_a_queue_of_dead_jobs_leaves_nothing_to_send(world: World) -> None:
    computation = world.add()
    world.connect(1)
    jobs = world.submit(computation, 2)
    bound = world.submit(computation, 2, pinned=world.ident(1))
    world.do(CancelRequested([job.id for job in [*jobs, *bound]]))
    world.use(computation, 1)
    assert world.placement(computation).inflight == {}
    assert computation.dropped == 0


def test_the_heap_does_not_grow(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=100)
    jobs = world.submit(computation, 100)
    sizes = []
    for job in jobs:
        world.finish(job)  # each leaves an entry behind that is stale
        sizes.append(len(computation.heap))
    assert 10 < max(sizes) <= 4 + 16
    world.submit(computation, 3)
    assert len(world.placement(computation).inflight) == 3


def test_many_nodes_share_evenly(world: World) -> None:
    computation = world.add()
    world.use(computation, *range(1, 21), cpus=3)
    world.submit(computation, 40)
    assert {len(placement.inflight) for placement in computation.placements.values()} == {2}


def test_a_node_that_rejected_is_left_alone_for_a_while(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 2)
    effects = world.say(JobsRejected("c1", world.keys(jobs), "full"))
    assert world.assigned(effects) == []
    assert world.engine.next_deadline() == world.now + 1.0
    assert world.assigned(world.wait(1.0)) == [(1, [(1, 2), (2, 2)])]
    assert world.engine.next_deadline() is None


def test_limits_go_along_with_jobs_that_have_them(world: World) -> None:
    computation = world.add()
    world.connect(1, cpus=3)
    world.use(computation, 1)
    limits, large = JobLimits(timeout_s=2.5, memory_bytes=10**9), b"x" * (INLINE_BODY_BYTES + 1)
    plain = Job(JobId(1), computation.id, b"args")
    small, big = (
        LimitedJob(JobId(n), computation.id, body, limits) for n, body in ((2, b"args"), (3, large))
    )
    effects = world.do(JobsSubmitted([plain, small, big]))
    (assignment,) = [effect.message for effect in effects if isinstance(effect, SendMessage)]
    assert isinstance(assignment, AssignJobs)
    assert [job.limits for job in assignment.jobs] == [None, limits, limits]
    world.do(LinkClosed(LinkId(1), "gone"))
    assert (plain.limits, big.limits) == (None, limits), "for another attempt"


def test_jobs_without_limits_have_no_room_for_them() -> None:
    assert "limits" not in Job.__slots__


@pytest.mark.parametrize("size", [10, INLINE_BODY_BYTES + 1])
def test_that_a_job_brings_something_is_told_with_it(world: World, size: int) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.jobs(computation, 1, body=bytes(size))
    job.carries = ("data", 7)
    limits = JobLimits(timeout_s=2.5)
    limited = LimitedJob(JobId(100), computation.id, bytes(size), limits, carries=("", 0))
    (message,) = world.messages(world.do(JobsSubmitted([job, limited])))
    assert isinstance(message, AssignJobs)
    assert [(one.carries, one.limits) for one in message.jobs] == [(("data", 7), None), (("", 0), limits)]
