"""A client has a share of the node's memory, whatever it does with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dispy.model import ComputationId, LinkId, Outcome
from dispy.wire.messages import (
    PARTIAL,
    AckNews,
    AckResults,
    AssignJobs,
    ComputationFailed,
    FileOffer,
    FileTaken,
    JobResults,
    JobsRejected,
    News,
    NewsAck,
    SendFile,
)
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.holding import ATTEMPT_BYTES, COMPUTATION_BYTES, CROWDED, STREAM_BYTES, Holding
from dispy_node.engine.records import Spooled
from dispy_node.engine.slots import SlotShares
from tests.unit.node.engine.conftest import NodeScript

TOTAL = 1024 * 1024
MakeNode = Callable[..., NodeScript]
BODY = bytes(60_000)


def small(make_node: MakeNode, **options: Any) -> NodeScript:
    node = make_node(memory_bytes=TOTAL, **options)
    node.connect()
    return node


def rejected(effects: list[fx.Effect]) -> list[tuple[int, int]]:
    return [
        key
        for effect in effects
        if isinstance(effect, fx.SendMessage) and isinstance(effect.message, JobsRejected)
        for key in effect.message.attempts
    ]


def slots(effects: list[fx.Effect]) -> list[int]:
    return [effect.slots for effect in effects if isinstance(effect, fx.SetSlots)]


def assign(node: NodeScript, numbers: range, body: bytes = BODY, link: int = 1) -> list[fx.Effect]:
    return node.send(AssignJobs("a", [node.job(number, body) for number in numbers]), link)


def test_jobs_that_wait_for_a_runner_are_bounded(make_node: MakeNode) -> None:
    node = small(make_node)
    node.send(node.offer())
    refused = []
    for start in range(1, 100, 3):
        refused += rejected(assign(node, range(start, start + 3)))
        assert node.engine.held_bytes <= TOTAL // 2
    assert refused
    assert refused[-1] == (99, 1)
    assert len(refused) + node.engine.counters.assigned == 99


def test_jobs_that_the_runner_has_are_bounded(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    effects = assign(node, range(1, 31))
    taken = [key for effect in effects if isinstance(effect, fx.RunJobs) for key, _ in effect.jobs]
    assert taken
    assert sorted(taken + rejected(effects)) == [(number, 1) for number in range(1, 31)]
    assert taken == sorted(taken)
    assert node.engine.held_bytes <= TOTAL // 2


def test_later_jobs_do_not_overtake_one_that_is_rejected(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    room = (TOTAL // 2 - node.engine.held_bytes) - 2 * ATTEMPT_BYTES
    jobs = [
        node.job(1, bytes(room)),
        node.job(2, bytes(room)),
        node.job(3, b""),
        node.job(4, b"", stream=1, size=9),
    ]
    effects = node.send(AssignJobs("a", jobs))
    assert rejected(effects) == [(2, 1), (3, 1), (4, 1)]
    assert fx.DropStream(1, 1) in effects
    assert node.engine.counters.violations == 0


def test_arguments_count_until_the_job_has_started(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    before = node.engine.held_bytes
    assign(node, range(1, 4))
    assert node.engine.held_bytes == before + 3 * (ATTEMPT_BYTES + len(BODY))
    node.start(1)
    assert node.engine.held_bytes == before + 3 * ATTEMPT_BYTES + 2 * len(BODY)
    node.end(1, 2, body=b"12345", detail="67")
    assert node.engine.held_bytes == before + 3 * ATTEMPT_BYTES + len(BODY) + 14
    node.send(AckResults("a", [(1, 1), (2, 1)]))
    node.end(3, body=b"")
    node.send(AckResults("a", [(3, 1)]))
    assert node.engine.held_bytes == before


def test_nothing_is_started_for_a_client_that_acknowledges_nothing(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    changes = slots(assign(node, range(1, 200), b""))
    assert changes == [2]
    number = 0
    while 0 not in changes:
        number += 1
        node.start(number)
        changes += slots(node.end(number, body=BODY))
    assert TOTAL // 2 < node.engine.held_bytes < TOTAL // 2 + 2 * len(BODY)
    node.do(ev.SlotsGivenUp(ComputationId("a"), 0))
    # It goes on when a part of that is acknowledged.
    assert slots(node.send(AckResults("a", [(job, 1) for job in range(1, 4)]))) == [2]


def test_code_of_jobs_that_tells_results_without_end_gets_no_further(make_node: MakeNode) -> None:
    """It may have got hold of the runner, which then keeps to no slots."""
    node = small(make_node)
    node.ready()
    assign(node, range(1, 200), b"")
    for number in range(1, 200):
        effects = node.end(number, body=BODY)
        (message,) = [one.message for one in effects if isinstance(one, fx.SendMessage)]
        assert isinstance(message, JobResults)
        assert node.engine.held_bytes <= TOTAL * 3 // 4
    assert message.results[0].outcome == Outcome.BROKEN
    assert CROWDED in message.results[0].detail


def test_news_is_bounded(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    assign(node, range(1, 2), b"")
    node.start(1)
    answers = []
    for number in range(1, 100):
        news = News(1, 1, number, PARTIAL, BODY)
        effects = node.do(ev.NewsTold(ComputationId("a"), news, None))
        answers.append([effect.taken for effect in effects if isinstance(effect, fx.AnswerNews)])
        assert node.engine.held_bytes <= TOTAL * 3 // 4
    # First the job goes on at once, then it has to wait, and what does not wait is refused.
    assert [answers[0], [], [False]] == [answer for answer in ([True], [], [False]) if answer in answers]
    effects = node.send(AckNews("a", [NewsAck(1, 1, number, True) for number in range(1, 100)]))
    assert any(isinstance(effect, fx.AnswerNews) and effect.taken for effect in effects)
    assert node.engine.held_bytes < TOTAL // 4


def test_computations_are_bounded(make_node: MakeNode) -> None:
    node = small(make_node)
    told = []
    for number in range(100):
        effects = node.send(node.offer(f"{number}", code_stream=2 * number + 1, code_size=5))
        told += [one.message for one in effects if isinstance(one, fx.SendMessage)]
        assert node.engine.held_bytes <= TOTAL // 2
    assert told
    assert told[-1] == ComputationFailed("99", CROWDED)
    assert len(told) == 100 - TOTAL // 2 // COMPUTATION_BYTES + 1
    node.lose()
    assert node.engine.held_bytes == 0


def test_files_on_their_way_are_bounded(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    before = node.engine.held_bytes
    refused = []
    for number in range(1, 200):
        effects = node.send(SendFile("a", number, FileOffer("x" * 5000, 1, 0o644, 1.0, number)))
        refused += [one.message for one in effects if isinstance(one, fx.SendMessage)]
        assert node.engine.held_bytes <= TOTAL // 2 + 200 * STREAM_BYTES
    assert refused[-1] == FileTaken("a", 199, CROWDED)
    node.store(1)
    node.do(ev.StreamFailed(1, 2, "disk full"))
    node.lose()
    assert node.engine.held_bytes == before


def test_streams_that_are_thrown_away_count_until_they_have_ended(make_node: MakeNode) -> None:
    node = small(make_node)
    for stream in range(1, 11):
        effects = node.assign_stream(stream, stream, name="unknown")
        assert fx.DropStream(LinkId(1), stream) in effects
    assert node.engine.held_bytes == 10 * STREAM_BYTES
    node.do(ev.StreamThrownAway(LinkId(1), 1))
    node.do(ev.StreamThrownAway(LinkId(7), 2))
    assert node.engine.held_bytes == 9 * STREAM_BYTES
    node.lose()
    assert node.engine.held_bytes == 0


def test_streams_without_end_cost_the_link(make_node: MakeNode) -> None:
    node = small(make_node)
    most = 2 * TOTAL // STREAM_BYTES
    jobs = [node.job(number, b"", stream=number, size=9) for number in range(1, most)]
    effects = node.send(AssignJobs("unknown", jobs))
    (closed,) = [effect for effect in effects if isinstance(effect, fx.CloseLink)]
    assert "send fewer at once" in closed.reason
    assert node.engine.held_bytes == 0


def test_other_clients_find_room(make_node: MakeNode) -> None:
    node = small(make_node)
    node.send(node.offer())
    assert rejected(assign(node, range(1, 100)))
    node.connect(2, "c2")
    node.send(node.offer("b"), 2)
    effects = node.send(AssignJobs("b", [node.job(1, BODY), node.job(2, BODY)]), 2)
    assert rejected(effects) == []


def test_what_is_forgotten_does_not_count(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    assign(node, range(1, 4), b"")
    node.end(1, body=BODY)
    node.assign_stream(9, 1)
    node.lose()
    node.connect(2)
    node.reconcile(2)
    node.do(ev.RunnerEnded(ComputationId("a")))
    assert node.engine.held_bytes == 0


def test_client_is_choked_and_relieved() -> None:
    class Somebody:
        held, choked = 0, False

    slots, one, other = SlotShares(1), Somebody(), Somebody()
    holding = Holding(1000, slots)
    holding.count(one, 501)  # type: ignore[arg-type]
    assert (one.choked, slots.due) == (True, True)
    holding.count(other, 100)  # type: ignore[arg-type]
    holding.count(one, -50)  # type: ignore[arg-type]
    assert one.choked
    holding.count(one, -200)  # type: ignore[arg-type]
    assert not one.choked
    assert not other.choked


def test_large_results_lie_on_disk_and_do_not_count(make_node: MakeNode) -> None:
    node = small(make_node)
    node.ready()
    assign(node, range(1, 2), b"")
    before = node.engine.held_bytes
    node.end(1, body=b"", spooled=Spooled("out", 10**9))
    assert node.engine.held_bytes == before
