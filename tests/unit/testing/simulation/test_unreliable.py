from __future__ import annotations

from typing import Any

from dispy.runtime.sources import BytesSource
from dispy.wire.messages import CancelJobs
from dispy_testing.simulation.unreliable import UnreliableConnection


def test_messages_are_lost_doubled_and_reordered(make_pair: Any) -> None:
    pair = make_pair(UnreliableConnection, loss=0.3)
    pair.run(1.0)
    for number in range(200):
        pair.connection.client.send(CancelJobs("c", [(number, 1)]))
        pair.run(0.01)
    pair.run(5.0)
    numbers = [message.attempts[0][0] for message in pair.node.seen[1:]]
    assert len(set(numbers)) < 200
    assert len(numbers) > len(set(numbers))
    assert numbers != sorted(numbers)


def test_streams_still_arrive(make_pair: Any) -> None:
    pair = make_pair(UnreliableConnection, loss=1.0)
    pair.run(1.0)
    pair.connection.client.send_stream(1, BytesSource(b"abc"), 3)
    pair.run(5.0)
    assert pair.node.data == b"abc"
