from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispy.errors import LocalProtocolError
from dispy.model import Avail, LinkId
from dispy.wire.messages import (
    AckResults,
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    Goodbye,
    Heartbeat,
    Hello,
    JobResults,
    JobsRejected,
    JobsStarted,
    Message,
    NodeChanged,
    Reconciled,
    StreamCredit,
    StreamEnded,
)
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.node import NodeEngine
from dispy_node.engine.records import Spooled

if TYPE_CHECKING:
    from conftest import NodeScript

LINK = LinkId(1)


@pytest.mark.parametrize(
    "message",
    [
        Hello(1, 1, "client", "c1", 1, "x", "1", "3.11", "linux", 1 << 20, 5.0),
        ComputationReady("a"),
        ComputationFailed("a", "no"),
        ComputationClosed("a"),
        JobsStarted("a", []),
        JobResults("a", []),
        JobsRejected("a", [], "no"),
        Reconciled([]),
        NodeChanged(1),
    ],
)
def test_what_no_client_sends_ends_the_link(node: NodeScript, message: Message) -> None:
    node.ready()
    reason = f"a client does not send {type(message).__name__} here"
    assert node.send(message) == [
        fx.Report(f"client 'host-c1' broke the protocol: {reason}", warning=True),
        fx.CloseLink(LINK, reason),
    ]
    assert node.engine.clients["c1"].link is None
    assert node.assign(1) == [], "nothing more is taken from this link"
    assert node.lose() == []
    assert (node.engine.counters.violations, node.engine.counters.stale) == (1, 1)


@pytest.mark.parametrize("message", [Heartbeat(), Goodbye("bye"), StreamEnded(1), StreamCredit(1, 9)])
def test_what_the_session_handles_means_nothing_here(node: NodeScript, message: Message) -> None:
    assert node.send(message) == []


def test_a_driver_that_errs_is_told() -> None:
    with pytest.raises(LocalProtocolError, match="-1 slots"):
        NodeEngine(cpus=-1)
    engine = NodeEngine(cpus=1)
    with pytest.raises(LocalProtocolError, match="not an event"):
        engine.handle("event", 0.0)  # type: ignore[arg-type]
    with pytest.raises(LocalProtocolError, match="-2 slots"):
        engine.handle(ev.CpusChanged(-2), 0.0)


def test_a_link_opens_once(node: NodeScript) -> None:
    with pytest.raises(LocalProtocolError, match="link 1 is open"):
        node.connect(1)


def test_streams_nobody_waits_for(node: NodeScript) -> None:
    removed = [fx.RemoveSpooled([Spooled("in", 9)])]
    assert node.store(1) == removed
    assert node.store(1, link=9) == removed
    assert node.do(ev.StreamFailed(LINK, 1, "disk full")) == []
    assert node.do(ev.StreamFailed(LinkId(9), 1, "disk full")) == []
    assert node.engine.counters.stale == 4


def test_number_of_slots_changes(node: NodeScript) -> None:
    node.connect(2, "c2")
    node.ready()
    node.assign(1, 2, 3)
    assert node.do(ev.CpusChanged(3)) == [
        node.said(NodeChanged(3)),
        node.said(NodeChanged(3), link=2),
        fx.SetSlots("a", 3),
    ]
    assert node.do(ev.CpusChanged(3)) == []
    assert node.do(ev.CpusChanged(1))[-1] == fx.SetSlots("a", 1)
    assert node.do(ev.SlotsGivenUp("a", 1)) == []
    assert node.engine.cpus == 1


def test_measured_resources_are_told(node: NodeScript) -> None:
    assert node.engine.avail is None
    assert node.do(ev.AvailMeasured(Avail(12.5, 1, 2, 3.0))) == [node.said(NodeChanged(2, (12.5, 1, 2, 3.0)))]
    assert node.engine.avail == Avail(12.5, 1, 2, 3.0)


def test_shares_are_made_again_at_their_deadline(node: NodeScript) -> None:
    node.ready("a")
    node.ready("b")
    node.assign(1, name="a")
    node.assign(2, 3, 4, name="b")
    assert node.end(1, name="a")[1:] == []
    assert node.engine.next_deadline() is not None
    assert node.wait(1.0) == [fx.SetSlots("a", 0)]
    assert node.do(ev.SlotsGivenUp("a", 0)) == [fx.SetSlots("b", 2)]
    assert node.do(ev.TimePassed()) == []


class TestDrain:
    def test_an_idle_node_ends_at_once(self, node: NodeScript) -> None:
        assert node.do(ev.DrainRequested()) == [
            node.said(NodeChanged(2, draining=True, reason="it is about to end")),
            fx.EndDaemon(),
        ]
        assert node.engine.draining
        assert node.do(ev.DrainRequested()) == []

    def test_jobs_that_are_here_are_run(self, node: NodeScript) -> None:
        node.ready()
        node.assign(1, 2, 3)
        node.start(1)
        node.assign_stream(4, stream=1)
        node.do(ev.DrainRequested())
        (reject,) = node.assign(5)
        assert reject.message.reason == "the node takes no jobs: it is about to end"
        node.end(1, 2, 3)
        node.store(1)
        node.end(4)
        assert node.send(AckResults("a", [(1, 1), (2, 1), (3, 1)])) == []
        assert node.send(AckResults("a", [(4, 1)])) == [fx.EndDaemon()]

    def test_results_are_waited_for_no_longer_than_a_lease(self, node: NodeScript) -> None:
        node.ready()
        node.assign(1)
        node.do(ev.DrainRequested())
        node.now += 100.0
        node.end(1)
        assert node.engine.next_deadline() == node.now + 15.0
        assert node.wait(14.0) == []
        assert node.wait(1.0) == [fx.EndDaemon()]
        assert node.engine.next_deadline() is None

    def test_results_of_computations_that_are_gone_are_waited_for_too(self, node: NodeScript) -> None:
        node.ready()
        node.assign(1)
        node.end(1)
        node.do(ev.RunnerEnded("a", "killed"))
        assert fx.EndDaemon() not in node.do(ev.DrainRequested())
        assert node.send(AckResults("a", [(1, 1)])) == [fx.EndDaemon()]

    def test_computations_are_not_taken(self, node: NodeScript) -> None:
        node.ready()
        node.assign(1)
        node.do(ev.DrainRequested())
        reason = "the node takes no more computations: it is about to end"
        assert node.send(node.offer("b", code_stream=1)) == [
            fx.DropStream(LINK, 1),
            node.said(ComputationFailed("b", reason)),
        ]
        assert node.send(node.offer("a")) == [node.said(ComputationReady("a"))]

    def test_a_computation_that_closes_is_not_opened_again(self, node: NodeScript) -> None:
        node.ready()
        node.assign(1)
        node.reconcile()
        node.do(ev.DrainRequested())
        assert node.send(node.offer("a")) == []
        assert node.said(ComputationClosed("a")) in node.do(ev.RunnerEnded("a"))

    def test_who_comes_later_is_told(self, node: NodeScript) -> None:
        node.do(ev.DrainRequested())
        assert node.connect(2, "c2") == [
            node.said(NodeChanged(2, draining=True, reason="it is about to end"), link=2)
        ]
