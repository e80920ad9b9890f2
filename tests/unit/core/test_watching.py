"""Output of jobs that run, at the scheduler."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.engine.effects import CloseLink, TellOutput
from dispy.engine.events import OutputUsed, WatchDropped, WatchWanted
from dispy.engine.watching import OUTPUT_WINDOW_BYTES
from dispy.model import ComputationId
from dispy.wire.messages import Finding, JobOutput, Reconciled, WatchOutput


def begin(world: Any, **options: Any) -> tuple[Any, Any]:
    computation = world.add(**options)
    world.use(computation, 1)
    (job,) = world.submit(computation)
    return computation, job


def want(world: Any, job: Any, number: int = 7) -> list[Any]:
    return world.messages(world.do(WatchWanted(job.id, job.handle, number, 1, f"viewer{number}")))


def asked(job: Any, start: int, limit: int, *, number: int = 7, attempt: int = 1) -> WatchOutput:
    return WatchOutput(str(job.computation), job.id, attempt, number, 1, start, limit)


def prints(
    world: Any, job: Any, offset: int, data: bytes, *, missed: int = 0, attempt: int = 1, node: int = 1
) -> Any:
    message = JobOutput(str(job.computation), job.id, attempt, 7, offset, missed, data)
    effects = world.say(message, node)
    return [(one.missed, one.data) for one in effects if isinstance(one, TellOutput)]


def test_output_is_asked_for_when_the_job_runs_and_told(world: Any) -> None:
    _, job = begin(world)
    assert want(world, job) == []
    assert world.messages(world.start(job)) == [asked(job, 0, OUTPUT_WINDOW_BYTES)]
    assert world.messages(world.start(job)) == [], "it is told twice, and asked for once"
    message = JobOutput(str(job.computation), job.id, 1, 7, 0, 0, b"abc")
    assert world.say(message) == [TellOutput("viewer7", 7, 1, 1, 0, b"abc")]
    assert want(world, job, 8) == [asked(job, 0, OUTPUT_WINDOW_BYTES, number=8)]  # another sees all, too


def test_what_has_come_before_is_not_told_again_and_what_does_not_fit_is_ignored(world: Any) -> None:
    _, job = begin(world)
    want(world, job)
    world.start(job)
    assert prints(world, job, 0, b"abcd") == [(0, b"abcd")]
    assert prints(world, job, 0, b"abcd") == []
    assert prints(world, job, 6, b"gh") == []
    assert prints(world, job, 2, b"cdef") == [(0, b"ef")]
    assert prints(world, job, 9, b"j", missed=4) == [(3, b"j")]
    assert prints(world, job, 10, b"k", attempt=2) == []
    assert world.engine.counters.stale_output == 3


def test_limit_rises_with_what_is_used_up(world: Any) -> None:
    _, job = begin(world)
    want(world, job)
    world.start(job)
    prints(world, job, 0, b"abcd")
    assert world.messages(world.do(OutputUsed(7, 1, 3))) == [asked(job, -1, 3 + OUTPUT_WINDOW_BYTES)]
    for used in (OutputUsed(7, 1, 3), OutputUsed(7, 1, 5), OutputUsed(7, 2, 4), OutputUsed(9, 1, 4)):
        assert world.do(used) == []
    prints(world, job, 4, bytes(OUTPUT_WINDOW_BYTES))
    effects = world.say(JobOutput(str(job.computation), job.id, 1, 7, 4 + OUTPUT_WINDOW_BYTES, 0, b"x"))
    assert any(isinstance(effect, CloseLink) and "more output" in effect.reason for effect in effects)


def test_on_a_new_link_the_rest_is_asked_for(world: Any) -> None:
    _, job = begin(world)
    want(world, job)
    world.start(job)
    prints(world, job, 0, b"abcd")
    world.disconnect()
    world.connect()
    want(world, job, 8)  # before it is known what the node has
    world.say(Reconciled([Finding(str(job.computation), "ready", [])]))
    messages = world.messages(world.start(job))
    assert messages == [asked(job, 4, OUTPUT_WINDOW_BYTES), asked(job, 0, OUTPUT_WINDOW_BYTES, number=8)]


def test_another_attempt_begins_anew(make_world: Any) -> None:
    world = make_world(make_world.RerunPolicy())
    _, job = begin(world, reentrant=True)
    want(world, job)
    world.start(job)
    assert prints(world, job, 0, b"abcd") == [(0, b"abcd")]
    world.disconnect(final=True)
    assert job.node is None
    assert world.do(OutputUsed(7, 1, 2)) == [], "there is nobody to let more come"
    world.use(world.engine.computations[ComputationId("c1")], 2)
    assert job.attempt == 2
    assert world.do(OutputUsed(7, 1, 3)) == [], "another node knows nothing of that attempt"
    assert world.messages(world.start(job, number=2)) == [asked(job, 0, OUTPUT_WINDOW_BYTES, attempt=2)]
    assert prints(world, job, 0, b"ab", attempt=2, node=2) == [(0, b"ab")]


def test_nothing_is_told_of_a_job_that_has_ended_or_that_nobody_looks_at(world: Any) -> None:
    computation, job = begin(world)
    want(world, job)
    want(world, job, 8)
    world.start(job)
    assert world.messages(world.do(WatchDropped(8))) == [asked(job, -1, -1, number=8)]
    assert world.do(WatchDropped(8)) == []
    world.finish(job)
    assert prints(world, job, 0, b"x") == []
    assert world.do(WatchDropped(7)) == []
    assert want(world, job) == []  # it is settled
    (other,) = world.submit(computation)
    want(world, other)
    world.do(WatchDropped(7))
    assert not [message for message in world.messages(world.start(other)) if isinstance(message, WatchOutput)]


@pytest.mark.parametrize("handle", [None, "another"])
def test_a_number_of_another_job_is_no_watch(world: Any, handle: Any) -> None:
    _, job = begin(world)
    world.start(job)
    job.handle = "this"
    assert world.do(WatchWanted(job.id, handle, 7, 1, "viewer")) == []
