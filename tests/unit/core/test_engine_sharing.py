"""Shared data: each node gets it once, before the jobs that need it, and again when it has lost it."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.engine import placing, sharing
from dispy.engine.effects import SendMessage, SendStream
from dispy.engine.events import DataReleased, JobsSubmitted
from dispy.model import INLINE_BODY_BYTES, SharedData
from dispy.wire.messages import (
    AssignJobs,
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    DataLost,
    DropData,
    Finding,
    Reconciled,
    ShareData,
)


def submit(world: Any, computation: Any, *needs: SharedData, count: int = 1, **options: Any) -> Any:
    jobs = world.jobs(computation, count, **options)
    for job in jobs:
        job.needs = needs
    return jobs, world.do(JobsSubmitted(jobs))


def shared(world: Any, effects: Any) -> list[int]:
    return [message.data for message in world.messages(effects) if isinstance(message, ShareData)]


def dropped(world: Any, effects: Any) -> list[int]:
    return [
        data for message in world.messages(effects) if isinstance(message, DropData) for data in message.data
    ]


@pytest.fixture
def data() -> SharedData:
    return SharedData(1, b"array")


def test_data_goes_ahead_of_the_first_job_that_needs_it_and_once(world: Any, data: SharedData) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,), effects = submit(world, computation, data, body=b"x" * (INLINE_BODY_BYTES + 1))
    link = world.node().link
    share, stream, assign, body = effects
    assert share == SendMessage(link, ShareData(computation.id, 1, 1, 5))
    assert stream == SendStream(link, 1, b"array", 5)
    assert isinstance(assign.message, AssignJobs)
    assert assign.message.jobs[0].needs == (1,)
    assert assign.message.jobs[0].stream == body.stream == 2
    _, effects = submit(world, computation, data)
    assert shared(world, effects) == []
    assert world.finish(job)


def test_each_node_gets_it_and_those_without_a_job_do_not(world: Any, data: SharedData) -> None:
    computation = world.add()
    world.use(computation, 1, 2, 3)
    _, effects = submit(world, computation, data, count=2)
    assert [effect.link for effect in effects if isinstance(effect, SendStream)] == [
        world.node(1).link,
        world.node(2).link,
    ]


def test_job_without_needs_names_none(world: Any) -> None:
    computation = world.add()
    world.use(computation, 1)
    _, effects = submit(world, computation)
    (assign,) = world.messages(effects)
    assert assign.jobs[0].needs == ()


def test_runner_that_died_gets_it_again(world: Any, data: SharedData) -> None:
    computation = world.add()
    world.use(computation, 1)
    submit(world, computation, data)
    world.say(ComputationFailed(computation.id, "its runner ended"))
    effects = world.say(ComputationReady(computation.id))
    assert shared(world, effects) == [1]


@pytest.mark.parametrize("has", [True, False])
def test_after_a_lost_link_what_is_missing_goes_again(world: Any, data: SharedData, *, has: bool) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,), _ = submit(world, computation, data)
    world.disconnect()
    world.connect(1)
    missing = [(job.id, job.attempt)]
    effects = world.say(Reconciled([Finding(computation.id, "ready", missing, [1] if has else [])]))
    assert shared(world, effects) == ([] if has else [1])
    assert world.assigned(effects)


def test_after_a_lost_link_what_is_not_wanted_is_dropped(world: Any, data: SharedData) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,), _ = submit(world, computation, data)
    world.finish(job)
    world.disconnect()
    assert dropped(world, world.do(DataReleased(computation.id, 1))) == []
    world.connect(1)
    effects = world.say(Reconciled([Finding(computation.id, "ready", [], [1])]))
    assert dropped(world, effects) == [1]


def test_nothing_is_dropped_while_the_node_is_asked_what_it_has(world: Any, data: SharedData) -> None:
    """It may be needed again before the answer comes, which would then be wrong."""
    computation = world.add()
    world.use(computation, 1)
    (job,), _ = submit(world, computation, data)
    world.finish(job)
    world.disconnect()
    world.connect(1)
    assert dropped(world, world.do(DataReleased(computation.id, 1))) == []
    submit(world, computation, data)
    effects = world.say(Reconciled([Finding(computation.id, "ready", [], [1])]))
    assert (shared(world, effects), dropped(world, effects)) == ([], [])


def test_data_that_could_not_be_kept_goes_again_with_the_next_job(world: Any, data: SharedData) -> None:
    computation = world.add()
    world.use(computation, 1)
    submit(world, computation, data)
    world.say(DataLost(computation.id, 1, "disk full"))
    _, effects = submit(world, computation, data)
    assert shared(world, effects) == [1]
    for message in (DataLost(computation.id, 7, "?"), DataLost("other", 1, "?")):
        world.say(message)
    assert world.engine.counters.stray_messages == 2


def test_released_data_stays_until_no_job_needs_it(world: Any, data: SharedData) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,), _ = submit(world, computation, data)
    assert dropped(world, world.do(DataReleased(computation.id, 1))) == []
    effects = world.finish(job)
    assert dropped(world, effects) == [1]
    assert job.needs == ()


def test_data_that_is_not_released_stays_without_jobs(world: Any, data: SharedData) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,), _ = submit(world, computation, data)
    assert dropped(world, world.finish(job)) == []
    assert dropped(world, world.do(DataReleased(computation.id, 1))) == [1]
    world.do(DataReleased("other", 1))


def test_automatic_data_stays_as_long_as_there_is_room(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "IDLE_BYTES_MAX", 20)
    computation = world.add()
    world.use(computation, 1)
    seen = []
    for number in (1, 2, 1, 3):
        (job,), _ = submit(world, computation, SharedData(number, b"0123456789", automatic=True))
        seen += dropped(world, world.finish(job))
    assert seen == [2], "the one that was idle longest"
    assert list(computation.idle) == [1, 3]
    world.close(computation)
    world.say(ComputationClosed(computation.id))
    world.do(DataReleased(computation.id, 1))
    assert computation.idle == {}


def test_cancelled_and_refused_jobs_need_nothing(world: Any, data: SharedData) -> None:
    computation = world.add()
    (queued,), _ = submit(world, computation, data)
    world.close(computation, terminate=True)
    (late,), _ = submit(world, computation, data)
    assert queued.needs == late.needs == ()


def test_data_is_not_sent_ahead_without_bound(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "SPOOLED_BYTES_MAX", 25)
    computation = world.add()
    world.use(computation, 1)
    first = world.submit(computation, 2)
    world.finish(*first, ended_at=10.001)  # from now on jobs are sent ahead
    many = [SharedData(number, b"0123456789", automatic=True) for number in range(1, 6)]
    sent = [shared(world, submit(world, computation, data)[1]) for data in many]
    assert sent == [[1], [2], [], [], []], "for each slot, and as much ahead as there is room for"
    _, effects = submit(world, computation, many[0], pinned=world.ident(1))
    assert shared(world, effects) == []
