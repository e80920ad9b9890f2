"""What jobs tell while they run, at the node."""

from __future__ import annotations

from collections.abc import Callable
from time import process_time
from typing import Any

import pytest

from dispy.model import ComputationId, LinkId
from dispy.wire.messages import (
    FILE,
    LOG,
    PARTIAL,
    AckNews,
    AckResults,
    CancelJobs,
    JobNews,
    JobResults,
    News,
    NewsAck,
)
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.news import KEPT, LOG_BYTES, NEWS_MAX, RECORD_BYTES
from dispy_node.engine.records import Spooled


@pytest.fixture
def running(node: Any) -> Any:
    """The first job of computation "a" runs."""
    node.ready()
    node.assign(1)
    node.start(1)
    return node


def news(number: int, body: bytes = b"part", kind: int = PARTIAL, **options: Any) -> News:
    return News(1, 1, number, kind, body, **options)


def tell(node: Any, number: int, path: str = "", kind: int = PARTIAL) -> list[fx.Effect]:
    spooled = Spooled(path, 9) if path else None
    return node.do(ev.NewsTold(ComputationId("a"), news(number, b"" if path else b"part", kind), spooled))


def ack(node: Any, *numbers: int, taken: bool = True, link: int = 1) -> list[fx.Effect]:
    return node.send(AckNews("a", [NewsAck(1, 1, number, taken) for number in numbers]), link)


def answer(number: int, *, taken: bool = True) -> fx.AnswerNews:
    return fx.AnswerNews(ComputationId("a"), (1, 1), number, taken)


def sent(effects: list[fx.Effect]) -> list[str]:
    """What is told to the client: numbers of news, and "result"."""
    told: list[str] = []
    for effect in effects:
        if isinstance(effect, fx.SendMessage) and isinstance(effect.message, JobNews):
            told += [str(one.number) for one in effect.message.news]
        elif isinstance(effect, fx.SendMessage) and isinstance(effect.message, JobResults):
            told.append("result")
    return told


def test_small_result_goes_out_at_once_and_the_job_goes_on(running: Any) -> None:
    assert tell(running, 1) == [answer(1), running.said(JobNews("a", [news(1)]))]
    assert ack(running, 1) == []
    assert ack(running, 1) == []
    assert running.engine.counters.stale == 1


def test_large_one_holds_back_what_comes_after_it(running: Any) -> None:
    streamed = news(1, b"", stream=1, size=9)
    expected = [
        answer(1),
        running.said(JobNews("a", [streamed])),
        fx.SendStream(LinkId(1), 1, Spooled("p", 9)),
    ]
    assert tell(running, 1, "p") == expected
    assert tell(running, 2) == [answer(2)]
    assert sent(running.end(1)) == []
    effects = ack(running, 1)
    assert fx.RemoveSpooled([Spooled("p", 9)]) in effects
    assert sent(effects) == ["2", "result"]


def test_result_does_not_wait_for_what_cannot_be_overtaken(running: Any) -> None:
    tell(running, 1)
    assert sent(running.end(1)) == ["result"]
    running.send(AckResults("a", [(1, 1)]))
    assert not running.engine.computations[ComputationId("a")].attempts


@pytest.mark.parametrize("taken", [True, False])
def test_job_waits_for_its_file(running: Any, *, taken: bool) -> None:
    effects = tell(running, 1, "f", FILE)
    assert answer(1) not in effects
    assert sent(effects) == ["1"]
    assert answer(1, taken=taken) in ack(running, 1, taken=taken)


def test_job_waits_when_too_much_is_kept(running: Any) -> None:
    running.lose()
    for number in range(1, KEPT + 1):
        assert answer(number) in tell(running, number)
    assert tell(running, KEPT + 1) == []
    running.connect(2)
    told = sent(running.reconcile(2, a=[1]))
    assert told == [str(number) for number in range(1, KEPT + 2)]
    assert ack(running, 1, link=2) == [answer(KEPT + 1)]


def test_everything_is_told_again_on_a_new_link_before_the_result(running: Any) -> None:
    tell(running, 1)
    tell(running, 2, "p")
    tell(running, 3)
    running.lose()
    running.end(1)
    running.connect(2)
    assert sent(running.reconcile(2, a=[1])) == ["1", "2"]
    assert sent(ack(running, 1, 2, link=2)) == ["3", "result"]


def test_nobody_waits_for_a_client_that_is_away_for_long(make_node: Callable[..., Any]) -> None:
    node = make_node(lease_s=15.0)
    node.connect()
    node.ready()
    node.assign(1)
    node.start(1)
    tell(node, 1)
    tell(node, 2, "f", FILE)
    node.lose()
    effects = node.wait(15.0)
    assert answer(2, taken=False) in effects
    assert fx.RemoveSpooled([Spooled("f", 9)]) in effects
    assert tell(node, 3, "g", FILE) == [fx.RemoveSpooled([Spooled("g", 9)]), answer(3, taken=False)]
    assert tell(node, 4) == [answer(4)]
    node.connect(2)
    assert sent(node.reconcile(2, a=[1])) == ["1", "4"]


def test_file_of_a_job_that_has_ended_is_dropped(running: Any) -> None:
    tell(running, 1, "f", FILE)
    running.send(CancelJobs("a", [(1, 1)]))
    effects = running.end(1)
    assert fx.RemoveSpooled([Spooled("f", 9)]) in effects
    assert sent(effects) == ["result"]
    assert ack(running, 1) == []


@pytest.mark.parametrize("number", [1, 0])
def test_numbers_that_do_not_rise_are_refused(running: Any, number: int) -> None:
    tell(running, 1)
    assert tell(running, number) == [answer(number, taken=False)]


def test_news_of_a_job_that_does_not_run_is_refused(node: Any) -> None:
    node.ready()
    assert tell(node, 1, "p") == [fx.RemoveSpooled([Spooled("p", 9)]), answer(1, taken=False)]
    node.assign(1)
    assert tell(node, 1) == [answer(1, taken=False)]


def test_nothing_is_left_of_a_job_that_nobody_believes_in(running: Any) -> None:
    tell(running, 1, "p")
    running.lose()
    running.connect(2)
    running.reconcile(2, a=[])
    assert fx.RemoveSpooled([Spooled("p", 9)]) in running.end(1)


def test_what_waited_behind_a_dropped_file_is_told(running: Any) -> None:
    tell(running, 1, "f", FILE)
    assert sent(tell(running, 2)) == []
    assert sent(running.end(1)) == ["2", "result"]


def log(node: Any, number: int, size: int = 10) -> list[fx.Effect]:
    return node.do(ev.NewsTold(ComputationId("a"), news(number, b"x" * size, LOG)))


def test_records_of_logging_are_told_and_nobody_waits(running: Any) -> None:
    for number in range(1, KEPT + 10):
        assert log(running, number) == [running.said(JobNews("a", [news(number, b"x" * 10, LOG)]))]
    assert running.end(1)[-1] == running.said(JobResults("a", [running.result(1)]))
    assert ack(running, *range(1, KEPT + 10)) == []


def test_records_without_room_are_dropped_and_counted(running: Any) -> None:
    log(running, 1, LOG_BYTES - RECORD_BYTES)
    assert log(running, 2) == log(running, 3) == []
    ack(running, 1)
    (told,) = log(running, 4)
    assert told.message.news[0].mode == 2
    assert log(running, 4) == []  # told twice, and not answered


def test_nothing_is_kept_of_records_for_a_client_that_stays_away(running: Any) -> None:
    running.lose()
    running.wait(20)
    assert log(running, 1) == []
    running.connect(2)
    assert sent(running.reconcile(2, a=[1])) == []


def test_empty_records_are_bounded_too(running: Any) -> None:
    for number in range(1, LOG_BYTES // RECORD_BYTES + 1):
        assert feed_log(running, number)
    assert not feed_log(running, LOG_BYTES // RECORD_BYTES + 1)


def feed_log(node: Any, number: int, body: bytes = b"") -> list[fx.Effect]:
    """As `log`, without looking at the invariants, which takes longer the more there is."""
    event = ev.NewsTold(ComputationId("a"), news(number, body, LOG))
    effects: list[fx.Effect] = node.engine.handle(event, node.now)
    return effects


@pytest.mark.parametrize("backwards", [False, True])
def test_what_news_costs_does_not_grow_with_what_is_kept(running: Any, *, backwards: bool) -> None:
    began = process_time()
    for turn in range(0, 12_000, 4_000):
        numbers = list(range(turn + 1, turn + 4_001))
        for number in numbers:
            assert feed_log(running, number)
        assert ack(running, *reversed(numbers) if backwards else numbers) == []
    assert not running.engine.computations[ComputationId("a")].attempts[1, 1].news
    assert process_time() - began < 2


def test_news_that_nobody_acknowledges_is_bounded(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispy_node.engine.news.NEWS_MAX", 2)
    assert NEWS_MAX > KEPT + LOG_BYTES // RECORD_BYTES
    tell(running, 1)
    tell(running, 2)
    assert tell(running, 3) == [answer(3, taken=False)]


def test_what_waits_to_be_told_is_not_told_if_its_client_stays_away(running: Any) -> None:
    tell(running, 1, "f", FILE)
    tell(running, 2)
    tell(running, 3, "g", FILE)
    running.lose()
    effects = running.wait(20)
    assert {answer(1, taken=False), answer(3, taken=False)} <= {
        one for one in effects if isinstance(one, fx.AnswerNews)
    }
    running.connect(2)
    assert sent(running.reconcile(2, a=[1])) == ["2"]
