"""A connection as there is none: messages are lost, come twice, or overtake others.

Engines must come to no harm by it: no exception, no broken records. Whether jobs get anywhere is not asked.
"""

from __future__ import annotations

from functools import partial

from dispy.errors import RemoteProtocolError
from dispy.model import LinkId
from dispy.wire.messages import Hello, Message
from dispy_testing.simulation.links import Connection, End, Handler, Network, Pair

DOUBLED = 0.2
"""Share of messages that come twice."""

LATE_S = 2.0
"""How much later a message may come than it should."""


class UnreliableConnection(Connection):
    """A connection that loses a share of the messages, doubles some, and keeps no order.

    Args:
        network: as for `Connection`, like the other arguments.
        pair: names of client and node.
        client: number, handler and greeting of the client's end.
        node: the same of the node's end.
        loss: share of messages that are lost.
    """

    def __init__(
        self,
        network: Network,
        pair: Pair,
        client: tuple[LinkId, Handler, Hello],
        node: tuple[LinkId, Handler, Hello],
        *,
        loss: float,
    ) -> None:
        super().__init__(network, pair, client, node)
        self._loss = loss

    def send(self, end: End, message: Message) -> None:
        """Send a message, or not, or twice."""
        rng = self.network.rng
        copies = 1 + (rng.random() < DOUBLED)
        for _ in range(copies):
            if rng.random() >= self._loss:
                delay_s = self.network.delay() + LATE_S * rng.random() ** 4
                self.network.timeline.after(delay_s, partial(self._take, end.peer, message))

    def _take(self, end: End, message: Message) -> None:
        if not (end.open and end.greeted) or self.network.is_cut(self.pair):
            return
        try:
            end.handler.message_received(end, message)
        except RemoteProtocolError as error:
            end.close(str(error))

    def _deliver_stream(self, end: End, stream: int, size: int) -> None:
        try:
            super()._deliver_stream(end, stream, size)
        except RemoteProtocolError as error:  # as its announcement was lost
            end.peer.close(str(error))
