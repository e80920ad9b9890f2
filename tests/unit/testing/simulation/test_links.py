from __future__ import annotations

import random
from typing import Any

import pytest

from dispy.runtime.sources import BytesSource
from dispy.wire.messages import CancelJobs, Message
from dispy_testing.simulation.links import Connection
from dispy_testing.simulation.wire import WireConnection

PAIR = ("c1", "n1")
KINDS = [Connection, WireConnection]


def numbered(number: int) -> Message:
    return CancelJobs("c", [(number, 1)])


@pytest.mark.parametrize("kind", KINDS)
def test_messages_arrive_in_order_and_streams_whole(kind: type[Connection], make_pair: Any) -> None:
    pair = make_pair(kind)
    pair.run(1.0)
    sent = [numbered(number) for number in range(20)]
    for message in sent:
        pair.connection.client.send(message)
        pair.run(0.005)
    body = random.Random(2).randbytes(5_000_000)
    pair.connection.client.send_stream(1, BytesSource(body), len(body))
    pair.run(5.0)
    assert pair.client.seen == ["node"]
    assert pair.node.seen == ["client", *sent, (1, "")]
    assert pair.node.data == body


@pytest.mark.parametrize("kind", KINDS)
def test_goodbye_comes_after_what_was_sent(kind: type[Connection], make_pair: Any) -> None:
    pair = make_pair(kind)
    pair.run(1.0)
    pair.connection.client.send(numbered(1))
    pair.connection.client.close("enough", final=True)
    pair.connection.client.send(numbered(2))
    pair.run(5.0)
    assert pair.node.seen == ["client", numbered(1)]
    assert pair.node.end_reason == ("enough", True)
    assert pair.client.end_reason == ("enough", False)
    assert not pair.network.connections


@pytest.mark.parametrize("kind", KINDS)
def test_reset_loses_what_is_on_its_way(kind: type[Connection], make_pair: Any) -> None:
    pair = make_pair(kind)
    pair.run(1.0)
    pair.connection.client.send(numbered(1))
    pair.run(0.0)
    pair.connection.reset(lambda end: (0.5, False))
    pair.run(5.0)
    assert pair.node.seen == ["client"]
    assert pair.client.end_reason == pair.node.end_reason == ("connection lost", False)


@pytest.mark.parametrize("kind", KINDS)
def test_short_cut_only_delays(kind: type[Connection], make_pair: Any) -> None:
    pair = make_pair(kind)
    pair.run(1.0)
    pair.network.cut(PAIR)
    sent = [numbered(number) for number in range(5)]
    for message in sent:
        pair.connection.client.send(message)
        pair.run(0.1)
    assert pair.node.seen == ["client"]
    pair.network.heal(PAIR)
    pair.run(1.0)
    assert pair.node.seen == ["client", *sent]
    assert pair.client.end_reason is pair.node.end_reason is None


@pytest.mark.parametrize("kind", KINDS)
def test_long_cut_is_noticed_by_both_ends(kind: type[Connection], make_pair: Any) -> None:
    pair = make_pair(kind)
    pair.run(1.0)
    pair.network.cut(PAIR)
    pair.run(8.0)
    assert pair.client.end_reason is None
    pair.run(9.0)
    assert pair.client.end_reason is not None
    assert pair.node.end_reason is not None
    assert (pair.client.end_reason[1], pair.node.end_reason[1]) == (True, False)


@pytest.mark.parametrize("kind", KINDS)
def test_greeting_that_does_not_come_ends_the_connection(kind: type[Connection], make_pair: Any) -> None:
    pair = make_pair(kind)
    pair.network.cut(PAIR)
    pair.run(6.0)
    assert pair.client.end_reason is not None
    assert pair.client.seen == []
