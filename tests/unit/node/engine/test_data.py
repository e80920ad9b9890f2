"""Shared data at a node: no attempt runs without what it needs."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.model import ComputationId, LinkId, Outcome
from dispy.wire.messages import (
    AssignJobs,
    Belief,
    CloseComputation,
    DataLost,
    DropData,
    JobResults,
    JobsRejected,
    Message,
    Reconcile,
    Reconciled,
    ShareData,
)
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.holding import ATTEMPT_BYTES, DATA_BYTES, NEED_BYTES, STREAM_BYTES
from dispy_node.engine.records import Spooled

A = ComputationId("a")


def share(node: Any, number: int = 1, stream: int = 1) -> Any:
    return node.send(ShareData("a", number, stream, 9))


def assign(node: Any, number: int, *needs: int, stream: int = 0) -> Any:
    return node.send(
        AssignJobs("a", [node.job(number, b"" if stream else b"args", stream=stream, needs=needs)])
    )


def ran(effects: Any) -> list[int]:
    return [key[0] for effect in effects if isinstance(effect, fx.RunJobs) for key, _ in effect.jobs]


def test_job_waits_for_what_it_needs(node: Any) -> None:
    node.ready()
    share(node)
    assert ran(assign(node, 1, 1)) == []
    assert ran(assign(node, 2)) == [2]
    kept, run, *_ = node.store(1)
    assert kept == fx.KeepData(A, 1, Spooled("in", 9))
    assert ran([run]) == [1]
    assert ran(assign(node, 3, 1)) == [3]


@pytest.mark.parametrize("body_first", [True, False])
def test_large_body_and_data_in_either_order(node: Any, *, body_first: bool) -> None:
    node.ready()
    share(node, 1, 1)
    share(node, 2, 2)
    assign(node, 1, 1, 2, stream=3)
    last = 1 if body_first else 3
    for stream in {1, 2, 3} - {last}:
        assert ran(node.store(stream)) == []
    assert ran(node.store(last)) == [1]


def test_job_that_needs_what_nobody_has_told_of_is_rejected(node: Any) -> None:
    node.ready()
    effects = assign(node, 1, 5, stream=1)
    messages = [effect.message for effect in effects if isinstance(effect, fx.SendMessage)]
    assert messages == [
        DataLost("a", 5, "it is not there"),
        JobsRejected("a", [(1, 1)], "the node does not have the shared data that it needs"),
    ]
    assert fx.DropStream(LinkId(1), 1) in effects


def test_data_that_does_not_come_whole_ends_what_waits_for_it(node: Any) -> None:
    node.ready()
    share(node)
    assign(node, 1, 1)
    assign(node, 2, 1, stream=2)
    lost, dropped, results = node.do(ev.StreamFailed(LinkId(1), 1, "disk full"))
    assert lost == node.said(DataLost("a", 1, "disk full"))
    assert dropped == fx.DropStream(LinkId(1), 2)
    assert isinstance(results.message, JobResults)
    assert [(one.job, one.outcome) for one in results.message.results] == [
        (1, Outcome.BROKEN),
        (2, Outcome.BROKEN),
    ]
    assert results.message.results[0].detail == "shared data that it needs: disk full"
    share(node, 1, 3)
    assert ran(node.store(3)) == []
    assert ran(assign(node, 3, 1)) == [3]


def test_data_for_what_is_not_ready_is_refused(node: Any) -> None:
    node.send(node.offer())
    dropped, told = share(node)
    assert dropped == fx.DropStream(LinkId(1), 1)
    assert isinstance(told.message, DataLost)


def test_data_that_is_there_already_is_passed_over(node: Any) -> None:
    node.ready()
    share(node)
    assert share(node, 1, 2) == [fx.DropStream(LinkId(1), 2)]
    node.store(1)
    assert share(node, 1, 3) == [fx.DropStream(LinkId(1), 3)]
    assert node.engine.counters.duplicates == 2


def test_lost_link_forgets_what_waits_and_keeps_what_is_there(node: Any) -> None:
    node.ready()
    share(node, 1, 1)
    node.store(1)
    share(node, 2, 2)
    assign(node, 1, 1)
    assign(node, 2, 2)
    node.lose()
    node.connect(2)
    effects = node.send(Reconcile([Belief("a", [(1, 1), (2, 1)])]), 2)
    (told,) = [effect.message for effect in effects if isinstance(effect.message, Reconciled)]
    assert told.findings[0].data == [1]
    assert told.findings[0].missing == [(2, 1)]


def test_dropped_data_is_forgotten_and_what_waits_for_it_ends(node: Any) -> None:
    node.ready()
    share(node, 1, 1)
    node.store(1)
    assert node.send(DropData("a", [1, 7])) == [fx.ForgetData(A, [1])]
    share(node, 2, 2)
    assign(node, 1, 2)
    dropped, results = node.send(DropData("a", [2]))
    assert dropped == fx.DropStream(LinkId(1), 2)
    assert results.message.results[0].outcome == Outcome.BROKEN
    assert node.send(DropData("b", [2])) == []
    assert node.engine.counters.stale == 1


@pytest.mark.parametrize("terminate", [True, False])
def test_closing_drops_what_is_arriving(node: Any, *, terminate: bool) -> None:
    node.ready()
    share(node)
    effects = node.send(CloseComputation("a", terminate))
    assert fx.DropStream(LinkId(1), 1) in effects
    node.do(ev.RunnerEnded(A))
    assert not node.engine.computations


def test_runner_that_dies_takes_it_along(node: Any) -> None:
    node.ready()
    share(node, 1, 1)
    node.store(1)
    share(node, 2, 2)
    assign(node, 1, 2)
    effects = node.do(ev.RunnerEnded(A, "it was killed"))
    assert fx.DropStream(LinkId(1), 2) in effects
    rejected = [
        effect.message for effect in effects if isinstance(getattr(effect, "message", None), JobsRejected)
    ]
    assert rejected[0].attempts == [(1, 1)]
    node.ready()
    assert node.engine.computations[A].data == set()


def test_numbers_of_streams_must_rise(node: Any) -> None:
    node.ready()
    share(node, 1, 5)
    assert any(isinstance(effect, fx.CloseLink) for effect in share(node, 2, 5))


def test_data_and_who_needs_it_count_as_memory(make_node: Any) -> None:
    node = make_node(memory_bytes=1024 * 1024)
    node.connect()
    node.ready()
    before = node.engine.held_bytes
    share(node, 1, 1)
    share(node, 2, 2)
    share(node, 3, 3)
    assert node.engine.held_bytes == before + 3 * (DATA_BYTES + STREAM_BYTES)
    assign(node, 1, 1, 2)
    needed = ATTEMPT_BYTES + len(b"args") + 2 * NEED_BYTES
    assert node.engine.held_bytes == before + 3 * (DATA_BYTES + STREAM_BYTES) + needed
    node.store(1)
    node.store(2)
    node.start(1)
    assert node.engine.held_bytes == before + 3 * DATA_BYTES + STREAM_BYTES + ATTEMPT_BYTES
    node.send(DropData("a", [1, 3, 1, 3]))
    node.do(ev.StreamThrownAway(LinkId(1), 3))
    assert node.engine.held_bytes == before + DATA_BYTES + ATTEMPT_BYTES
    node.do(ev.RunnerEnded(A, "it was killed"))
    node.send(CloseComputation("a", terminate=True))
    assert node.engine.held_bytes < before + DATA_BYTES + ATTEMPT_BYTES


def test_data_beyond_the_share_of_a_client_is_refused(make_node: Any) -> None:
    node = make_node(memory_bytes=256 * 1024)
    node.connect()
    node.ready()
    kept = 0
    while fx.DropStream(LinkId(1), kept + 1) not in share(node, kept + 1, kept + 1):
        kept += 1
    assert 0 < kept * DATA_BYTES <= 128 * 1024
    assert kept + 1 not in node.engine.computations[A].arriving


def test_numbers_that_are_repeated_count_once(node: Any) -> None:
    node.ready()
    share(node)
    node.store(1)
    assert node.send(DropData("a", [1, 1])) == [fx.ForgetData(A, [1])]


def test_data_is_named_once_for_each_computation(node: Any) -> None:
    node.ready()
    share(node)
    node.store(1)
    effects = node.send(Reconcile([Belief("a", []), Belief("a", [])]))
    (told,) = [effect.message for effect in effects if isinstance(effect.message, Reconciled)]
    assert [finding.data for finding in told.findings] == [[1], []]


def test_no_message_costs_its_length_times_the_number_of_jobs(node: Any) -> None:
    """Else a small one keeps the node from everybody else."""
    node.ready()
    share(node)
    node.send(AssignJobs("a", [node.job(number, needs=(1,)) for number in range(1, 501)]))
    computation = node.engine._ledger.computations[A]
    looks = 0

    class Counting(dict):  # type: ignore[type-arg]
        def values(self) -> Any:
            nonlocal looks
            looks += 1
            return super().values()

    def count(*messages: Message) -> int:
        nonlocal looks
        computation.attempts = Counting(computation.attempts)
        looks = 0
        for message in messages:
            node.engine.handle(ev.MessageReceived(LinkId(1), message), 0.0)
        return looks

    assert count(DropData("a", list(range(2, 102)))) == 0, "nobody can need these"
    assert count(*[ShareData("a", number, number, 9) for number in range(2, 12)]) == 0
    for number in range(2, 12):
        node.engine.handle(ev.StreamStored(LinkId(1), number, Spooled("in", 9)), 0.0)
    assert looks == 0, "nobody waits for these"
    assert count(DropData("a", list(range(2, 12)))) == 0, "not even once for all"
    assert ran(node.store(1)) == list(range(1, 501))


def test_data_that_is_named_twice_is_waited_for_once(node: Any) -> None:
    node.ready()
    node.send(ShareData("a", 1, 1, 9))
    node.send(ShareData("a", 2, 2, 9))
    assert node.send(AssignJobs("a", [node.job(1, needs=(1, 1, 2))])) == []
    assert not any(isinstance(effect, fx.RunJobs) for effect in node.store(1))
    assert any(isinstance(effect, fx.RunJobs) for effect in node.store(2))
    assert not node.engine.computations[ComputationId("a")].waiting
