from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from dispy.model import LinkId, Role
from dispy.wire.messages import Hello, Message
from dispy_testing.simulation.links import Connection, End, Network
from dispy_testing.simulation.node import make_hello
from dispy_testing.simulation.timeline import Timeline

PAIR = ("c1", "n1")


class Listener:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[object] = []
        self.data = bytearray()
        self.end_reason: tuple[str, bool] | None = None

    def greeted(self, end: End, hello: Hello) -> None:
        self.seen.append(hello.role)

    def message_received(self, end: End, message: Message) -> None:
        self.seen.append(message)

    def chunk_received(self, end: End, stream: int, data: bytes) -> None:
        self.data += data
        end.connection.consumed(end, stream, len(data))

    def stream_finished(self, end: End, stream: int, reason: str) -> None:
        self.seen.append((stream, reason))

    def ended(self, end: End, reason: str, *, final: bool) -> None:
        assert self.end_reason is None
        self.end_reason = (reason, final)


class Pair:
    """A connection between two listeners."""

    def __init__(self, make: Callable[..., Connection], **options: float) -> None:
        self.timeline = Timeline()
        self.network = Network(self.timeline, random.Random(1), (0.01, 0.1))
        self.client, self.node = Listener(), Listener()
        self.connection = make(
            self.network,
            PAIR,
            (LinkId(1), self.client, make_hello(Role.CLIENT, "c", "c1", 1, 0)),
            (LinkId(1), self.node, make_hello(Role.NODE, "n", "n1", 1, 2)),
            **options,
        )
        self.connection.begin()

    def run(self, seconds: float) -> None:
        self.timeline.run_until(self.timeline.now + seconds)


@pytest.fixture
def make_pair() -> type[Pair]:
    """Give what connects two listeners."""
    return Pair
