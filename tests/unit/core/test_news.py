"""What nodes tell of jobs that run, at the scheduler."""

from __future__ import annotations

from typing import Any

from dispy.engine.effects import CloseLink, TellLog
from dispy.engine.events import CancelRequested, FileArrived
from dispy.model import JobStatus, LinkId
from dispy.wire.messages import FILE, LOG, PARTIAL, AckNews, JobNews, News, NewsAck


def part(job: Any, number: int, body: bytes = b"x", *, attempt: int = 1, kind: int = PARTIAL) -> JobNews:
    return JobNews(str(job.computation), [News(job.id, attempt, number, kind, body)])


def seen(world: Any, effects: Any) -> list[tuple[JobStatus, bytes]]:
    return [(change.status, change.partial) for change in world.changes(effects)]


def begin(world: Any) -> tuple[Any, Any]:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    return computation, job


def test_result_is_told_once_and_acknowledged_each_time(world: Any) -> None:
    _, job = begin(world)
    effects = world.say(part(job, 1, b"one"))
    # That it tells something means that it runs.
    assert seen(world, effects) == [(JobStatus.RUNNING, b""), (JobStatus.PROVISIONAL_RESULT, b"one")]
    ack = AckNews(str(job.computation), [NewsAck(job.id, 1, 1, True)])
    assert world.messages(effects) == [ack]
    again = world.say(part(job, 1, b"one"))
    assert (seen(world, again), world.messages(again)) == ([], [ack])
    assert world.engine.counters.stale_news == 1
    assert seen(world, world.say(part(job, 2, b"two"))) == [(JobStatus.PROVISIONAL_RESULT, b"two")]


def test_other_attempts_are_acknowledged_without_effect(world: Any) -> None:
    _, job = begin(world)
    effects = world.say(part(job, 1, attempt=2))
    assert seen(world, effects) == []
    assert len(world.messages(effects)) == 1


def test_job_that_is_being_cancelled_shows_nothing_more(world: Any) -> None:
    _, job = begin(world)
    world.start(job)
    world.do(CancelRequested([job.id]))
    assert seen(world, world.say(part(job, 1))) == []


def test_unknown_kind_ends_the_link(world: Any) -> None:
    _, job = begin(world)
    effects = world.say(part(job, 1, kind=FILE))
    assert any(isinstance(effect, CloseLink) for effect in effects)


def test_files_are_acknowledged_as_they_went(world: Any) -> None:
    computation, job = begin(world)
    link = world.node().link
    news = News(job.id, 1, 3, FILE, b"", 1, 5, "name")
    for taken in (True, False):
        effects = world.do(FileArrived(link, str(computation.id), news, taken))
        assert world.messages(effects) == [AckNews(str(computation.id), [NewsAck(job.id, 1, 3, taken)])]
    assert world.do(FileArrived(LinkId(99), str(computation.id), news, True)) == []


def test_only_the_node_that_has_the_latest_attempt_speaks_for_it(world: Any) -> None:
    computation, job = begin(world)
    world.connect(2)
    first, second = world.node(1).link, world.node(2).link
    assert world.engine.is_running(first, computation.id, job.id, 1)
    assert not world.engine.is_running(first, computation.id, job.id, 2)
    assert not world.engine.is_running(second, computation.id, job.id, 1)
    assert not world.engine.is_running(first, "other", job.id, 1)
    assert not world.engine.is_running(LinkId(99), computation.id, job.id, 1)


def test_records_of_logging_are_told_once(world: Any) -> None:
    _, job = begin(world)
    world.start(job)
    message = JobNews(str(job.computation), [News(job.id, 1, 1, LOG, b"record", mode=3)])
    effects = world.say(message)
    assert [one for one in effects if isinstance(one, TellLog)] == [TellLog(job, world.node(), b"record", 3)]
    assert len(world.messages(effects)) == 1
    assert not [one for one in world.say(message) if isinstance(one, TellLog)]
