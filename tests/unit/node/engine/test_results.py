from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.model import LinkId
from dispy.wire.messages import AckResults, CloseComputation, JobResults
from dispy.wire.owner import UNKNOWN
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.records import Spooled
from dispy_node.engine.results import RESULTS_BYTES

if TYPE_CHECKING:
    from conftest import NodeScript

LINK = LinkId(1)
OUT = Spooled("out", 100_000)


def test_large_result_goes_on_a_stream_of_its_own(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    said = node.result(1, body=b"", stream=1, size=100_000)
    assert node.end(1, spooled=OUT, body=b"") == [
        node.said(JobResults("a", [said])),
        fx.SendStream(LINK, 1, OUT),
    ]
    (message, stream) = node.end(2, spooled=OUT, body=b"")
    assert message.message.results[0].stream == stream.stream == 2


def test_results_are_kept_until_acknowledged(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.end(1, spooled=OUT, body=b"")
    node.end(2)
    assert node.send(AckResults("a", [(2, 1), (1, 1)])) == [fx.RemoveSpooled([OUT])]
    assert node.engine.computations["a"].attempts == {}
    assert node.send(AckResults("a", [(1, 1)])) == []
    assert (node.engine.counters.acknowledged, node.engine.counters.stale) == (2, 1)


def test_a_running_attempt_cannot_be_acknowledged(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    assert node.send(AckResults("a", [(1, 1)])) == []
    assert node.send(AckResults("nope", [(1, 1)])) == []
    assert node.end(1)


def test_messages_of_results_are_bounded(node: NodeScript) -> None:
    node.ready()
    numbers = range(1, 41)
    node.assign(*numbers)
    body = bytes(60_000)
    effects = node.end(*numbers, body=body)
    assert [type(effect.message) for effect in effects] == [JobResults] * 3
    sizes = [sum(len(result.body) for result in effect.message.results) for effect in effects]
    assert max(sizes) <= RESULTS_BYTES
    assert [result.job for effect in effects for result in effect.message.results] == list(numbers)


def test_a_result_above_the_bound_still_goes(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    effects = node.end(1, 2, detail="x" * RESULTS_BYTES)
    assert len(effects) == 2


def test_results_wait_while_the_client_is_away(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.lose()
    assert node.end(1, spooled=OUT, body=b"") == []
    node.connect(2)
    _reconciled, results, stream = node.reconcile(2, a=[1])
    assert results.message.results == [node.result(1, body=b"", stream=1, size=100_000)]
    assert stream == fx.SendStream(LinkId(2), 1, OUT)


def test_results_outlive_their_computation(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.end(1, spooled=OUT, body=b"")
    node.end(2)
    node.send(CloseComputation("a"))
    node.do(ev.RunnerEnded("a"))
    assert not node.engine.computations
    assert set(node.engine.clients["c1"].leftovers["a"]) == {(1, 1), (2, 1)}
    assert node.send(AckResults("a", [(1, 1)])) == [fx.RemoveSpooled([OUT])]
    assert node.send(AckResults("a", [(2, 1)])) == []
    assert node.engine.clients["c1"].leftovers == {}


def test_results_of_one_client_are_not_anothers_to_acknowledge(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.end(1)
    node.connect(2, "c2")
    node.send(AckResults("a", [(1, 1)]), link=2)
    assert (1, 1) in node.engine.computations["a"].attempts


def test_leftovers_are_dropped_when_nobody_will_fetch_them(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.end(1, spooled=OUT, body=b"")
    node.end(2)
    node.do(ev.RunnerEnded("a", "died"))
    assert node.lose(final=True) == [fx.RemoveSpooled([OUT]), fx.ForgetParts("c1", UNKNOWN)]
    assert not node.engine.clients
