"""The owner's rules: hours, numbers of computations, and clients that want the node to end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dispy.model import Outcome
from dispy.wire.messages import CancelJobs, CloseComputation, Hello, JobsRejected, NodeChanged, RecallJobs
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.attempts import RECALLED
from dispy_node.engine.duty import OVER
from dispy_node.engine.hours import Phase

if TYPE_CHECKING:
    from conftest import NodeScript

HOURS = "20:00 to 06:00, end 07:00"
PAUSE = f"its service hours are {HOURS}"
REFUSED = f"the node takes no jobs: {PAUSE}"


def change(node: NodeScript, phase: Phase) -> list[fx.Effect]:
    return [effect for effect in node.do(ev.HoursChanged(phase, HOURS)) if not isinstance(effect, fx.Report)]


def test_when_hours_stop_what_has_not_started_goes_back(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 3)
    node.assign_stream(4, stream=1)
    node.start(1)
    assert change(node, Phase.CLOSING) == [
        node.said(NodeChanged(2, draining=True, reason=PAUSE)),
        fx.DropStream(1, 1),
        fx.RecallAttempts("a", [(2, 1), (3, 1)]),
        node.said(JobsRejected("a", [(4, 1)], REFUSED)),
    ]
    assert node.assign(5) == [node.said(JobsRejected("a", [(5, 1)], REFUSED))]
    told = node.end(2, 3, outcome=Outcome.CANCELLED, started_at=0.0)
    assert node.said(JobsRejected("a", [(2, 1), (3, 1)], PAUSE)) in told
    (results,) = node.end(1)
    assert results.message.results[0].outcome == Outcome.RETURNED


def test_job_that_starts_as_it_is_recalled_goes_on_and_can_be_cancelled(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    change(node, Phase.CLOSING)
    node.start(1)
    assert node.send(CancelJobs("a", [(1, 1)])) == [fx.CancelAttempts("a", [(1, 1)])]
    (results,) = node.end(1, outcome=Outcome.CANCELLED)
    assert results.message.results[0].outcome == Outcome.CANCELLED
    (results,) = node.end(2)
    assert results.message.results[0].outcome == Outcome.RETURNED


def test_what_the_scheduler_has_recalled_is_not_recalled_again(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.send(RecallJobs("a", [(1, 1)]))
    assert fx.RecallAttempts("a", [(2, 1)]) in change(node, Phase.CLOSING)
    told = node.end(1, 2, outcome=Outcome.CANCELLED, started_at=0.0)
    assert node.said(JobsRejected("a", [(1, 1)], RECALLED)) in told
    assert node.said(JobsRejected("a", [(2, 1)], PAUSE)) in told


def test_when_hours_end_what_runs_is_ended(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.start(1)
    change(node, Phase.CLOSING)
    assert change(node, Phase.SHUT)[-1] == fx.CancelAttempts("a", [(1, 1), (2, 1)])
    (results,) = node.end(1, outcome=Outcome.CANCELLED)
    (result,) = results.message.results
    assert (result.outcome, result.detail) == (Outcome.DIED, f"the node ended it: {OVER}")
    rejected = node.end(2, outcome=Outcome.CANCELLED, started_at=0.0)
    assert node.said(JobsRejected("a", [(2, 1)], OVER)) in rejected


def test_when_hours_begin_jobs_are_taken_by_the_same_computation(node: NodeScript) -> None:
    change(node, Phase.SHUT)
    assert node.engine.refusal == PAUSE
    node.ready()
    assert change(node, Phase.OPEN) == [node.said(NodeChanged(2))]
    assert node.assign(1)[0] == fx.RunJobs("a", [((1, 1), b"args")])


def test_clients_that_come_are_told_unless_the_greeting_has(node: NodeScript) -> None:
    change(node, Phase.SHUT)
    told = node.said(NodeChanged(2, draining=True, reason=PAUSE), link=2)
    assert node.connect(2, "c2") == [told]
    link = ev.LinkOpened(3, make_hello("c3"), told_refusal=PAUSE)
    assert node.do(link) == []
    change(node, Phase.OPEN)
    link = ev.LinkOpened(4, make_hello("c4"), told_refusal=PAUSE)
    assert node.do(link) == [node.said(NodeChanged(2), link=4)]


def make_hello(ident: str) -> Hello:
    return Hello(1, 1, "client", ident, 1, ident, "1.0", "3.11.1", "linux", 4 << 20, 5.0)


def test_a_drain_outside_service_hours_still_ends_the_node(node: NodeScript) -> None:
    change(node, Phase.SHUT)
    assert fx.EndDaemon() in node.do(ev.DrainRequested())
    assert change(node, Phase.OPEN) == []
    assert node.engine.refusal == "it is about to end"


def test_node_ends_after_so_many_computations(make_node: Callable[..., NodeScript]) -> None:
    node = make_node(serve=2)
    node.connect()
    for name, left in (("a", 1), ("b", 0)):
        node.ready(name)
        node.send(CloseComputation(name))
        assert not node.engine.draining
        effects = node.do(ev.RunnerEnded(name))
        assert node.engine.serve_left == left
    assert effects[-1] == fx.EndDaemon()
    assert node.engine.served == 2


def test_cleanup_ends_the_node_if_it_may(make_node: Callable[..., NodeScript]) -> None:
    for allowed in (False, True):
        node = make_node(client_shutdown=allowed)
        node.connect()
        node.ready()
        node.send(CloseComputation("a"))
        report, *_ = node.do(ev.ShutdownAsked("a"))
        assert report.warning is not allowed
        assert "the cleanup of 'compute' of 'host-c1'" in report.text
        assert node.engine.draining is allowed
        node.do(ev.RunnerEnded("a"))
        node.do(ev.ShutdownAsked("a"))
        assert node.engine.counters.stale == 1
