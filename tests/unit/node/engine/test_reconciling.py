from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispy.model import LinkId
from dispy.wire.messages import (
    Belief,
    CloseComputation,
    Finding,
    JobResults,
    JobsStarted,
    JobStart,
    Reconcile,
    Reconciled,
)
from dispy.wire.owner import UNKNOWN
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.records import Spooled

if TYPE_CHECKING:
    from conftest import NodeScript

OUT = Spooled("out", 9)


def test_a_new_client_has_nothing_here(node: NodeScript) -> None:
    assert node.reconcile(a=[1, 2]) == [node.said(Reconciled([Finding("a", "unknown", [(1, 1), (2, 1)])]))]
    assert node.reconcile() == [node.said(Reconciled([]))]


def test_findings_name_the_state_of_each_computation(node: NodeScript) -> None:
    node.ready("ready")
    node.ready("closing")
    node.assign(1, name="closing")
    node.send(CloseComputation("closing"))
    node.send(node.offer("preparing"))
    node.send(node.offer("receiving", code_stream=1))
    (reconciled, _starts) = (
        *node.reconcile(ready=[], closing=[1], preparing=[], receiving=[], nope=[]),
        None,
    )
    assert {item.computation: item.state for item in reconciled.message.findings} == {
        "ready": "ready",
        "closing": "closing",
        "preparing": "preparing",
        "receiving": "preparing",
        "nope": "unknown",
    }


def test_running_and_ended_attempts_are_told_again(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 3, 4)
    node.start(1, 2)
    node.end(2)
    node.end(3, spooled=OUT, body=b"")
    node.lose()
    node.connect(2)
    large = node.result(3, body=b"", stream=1, size=9)
    assert node.reconcile(2, a=[1, 2, 3, 4, 5]) == [
        node.said(Reconciled([Finding("a", "ready", [(5, 1)])]), link=2),
        node.said(JobsStarted("a", [JobStart(1, 1, 5.0)]), link=2),
        node.said(JobResults("a", [node.result(2), large]), link=2),
        fx.SendStream(LinkId(2), 1, OUT),
    ]


def test_nothing_is_told_before_reconciliation(node: NodeScript) -> None:
    """A client that returns says first which results it wants."""
    node.ready()
    node.assign(1, 2)
    node.lose()
    node.connect(2)
    assert node.start(1) == []
    assert node.end(1) == []
    assert len(node.reconcile(2, a=[1, 2])) == 2
    assert node.end(2) == [node.said(JobResults("a", [node.result(2)]), link=2)]


def test_attempts_that_are_not_believed_in_are_ended_and_forgotten(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 3, 4)
    node.start(1)
    node.end(3, spooled=OUT, body=b"")
    node.assign_stream(5, stream=1)
    effects = node.reconcile(a=[4])
    assert effects[1:] == [
        fx.RemoveSpooled([OUT]),
        fx.DropStream(LinkId(1), 1),
        fx.CancelAttempts("a", [(1, 1), (2, 1)]),
    ]
    assert node.start(2) == []
    assert node.end(1, spooled=OUT, body=b"") == [fx.RemoveSpooled([OUT])]
    assert node.end(2) == []
    assert node.end(4) == [node.said(JobResults("a", [node.result(4)]))]


def test_an_attempt_that_was_given_up_does_not_come_back(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.start(1)
    node.reconcile(a=[])
    assert node.reconcile(a=[1]) == [node.said(Reconciled([Finding("a", "ready", [(1, 1)])]))]
    assert node.end(1) == []


def test_unwanted_attempts_of_a_runner_that_dies_are_not_told(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.start(1)
    node.reconcile(a=[])
    effects = node.do(ev.RunnerEnded("a", "killed"))
    assert [type(effect) for effect in effects] == [fx.Report, fx.RemoveFolder, fx.SendMessage]


def test_computations_that_are_not_named_are_closed(node: NodeScript) -> None:
    node.ready("a")
    node.assign(1, name="a")
    node.ready("b")
    node.send(node.offer("d", code_stream=1))
    effects = node.reconcile(b=[])
    assert effects[1:] == [fx.CloseRunner("a", terminate=True), fx.DropStream(LinkId(1), 1)]
    assert node.end(1, name="a") == []
    assert node.do(ev.RunnerEnded("a")) == [fx.RemoveFolder("a")]
    assert set(node.engine.computations) == {"b"}


def test_leftovers_are_told_and_those_not_wanted_dropped(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.end(1)
    node.end(2, spooled=OUT, body=b"")
    node.do(ev.RunnerEnded("a", "killed"))
    assert node.reconcile(a=[1, 7]) == [
        node.said(Reconciled([Finding("a", "unknown", [(7, 1)])])),
        fx.RemoveSpooled([OUT]),
        node.said(JobResults("a", [node.result(1)])),
    ]
    assert node.reconcile() == [node.said(Reconciled([]))]
    assert not node.engine.clients["c1"].leftovers


def test_others_computations_are_unknown_and_stay(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.connect(2, "c2")
    assert node.reconcile(2, a=[1]) == [node.said(Reconciled([Finding("a", "unknown", [(1, 1)])]), link=2)]
    assert node.end(1)


def test_beliefs_about_one_computation_add_up(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.send(Reconcile([Belief("a", [(1, 1)]), Belief("a", [(2, 1)])]))
    (results,) = node.end(1, 2)
    assert len(results.message.results) == 2


def test_old_lives_of_others_stay(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.start(1)
    node.send(CloseComputation("a", terminate=True))
    node.send(node.offer())
    node.connect(2, "c2")
    node.reconcile(2, a=[1])
    assert node.lose(2, final=True) == [fx.ForgetParts("c2", UNKNOWN)]
    results, _remove, _start = node.do(ev.RunnerEnded("a"))
    assert [result.job for result in results.message.results] == [1]


def test_beliefs_that_cannot_be_answered_end_the_link(node: NodeScript) -> None:
    """The answer may be longer than the question."""
    beliefs = [Belief("x", [(1, 1)])] * 500_000
    closed = [effect for effect in node.send(Reconcile(beliefs)) if isinstance(effect, fx.CloseLink)]
    assert "more jobs than can be answered for" in closed[0].reason


def test_who_asks_again_and_again_loses_the_link(node: NodeScript, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispy_node.engine.reconciling.LOOKS_MAX", 10)
    node.ready()
    node.assign(1, 2, 3)
    node.reconcile(a=[1, 2, 3])
    for _ in range(2):
        node.reconcile(a=[1, 2, 3])
    effects = node.reconcile(a=[1, 2, 3])
    assert any(isinstance(effect, fx.CloseLink) and "again" in effect.reason for effect in effects)
    node.connect(2)
    assert not any(isinstance(effect, fx.CloseLink) for effect in node.reconcile(2, a=[1, 2, 3]))
