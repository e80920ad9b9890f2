"""A connection that carries bytes between two real sessions, cut into pieces at random."""

from __future__ import annotations

from functools import partial

from dispy.model import LinkId, Role
from dispy.wire.messages import Hello, Message
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import (
    ChunkReceived,
    Greeted,
    MessagesReceived,
    PeerLeft,
    PeerSilent,
    Session,
    SessionEvent,
    State,
    StreamFinished,
    StreamSource,
)
from dispy_testing.simulation.links import Connection, End, Handler, Network, Pair
from dispy_testing.simulation.timeline import Alarm

SPLIT = 0.1
"""Share of writes that arrive in two pieces."""


class WireConnection(Connection):
    """A connection with a session at each end, driven as `dispy.runtime.link` does it."""

    def __init__(
        self,
        network: Network,
        pair: Pair,
        client: tuple[LinkId, Handler, Hello],
        node: tuple[LinkId, Handler, Hello],
    ) -> None:
        super().__init__(network, pair, client, node)
        now = network.timeline.now
        self._sessions = {
            self.client: Session(client[2], now=now, accepts=frozenset({Role.NODE}), roles=EVERYTHING),
            self.node: Session(node[2], now=now, accepts=frozenset({Role.CLIENT}), roles=EVERYTHING),
        }
        self._alarms = {
            end: Alarm(network.timeline, session.next_deadline, partial(self._pass_time, end))
            for end, session in self._sessions.items()
        }

    def begin(self) -> None:
        """Have both ends greet."""
        for end in self._sessions:
            self._pump(end)

    def send(self, end: End, message: Message) -> None:
        """Queue a message at the session."""
        self._sessions[end].send(message)
        self._pump_soon(end)

    def send_stream(self, end: End, stream: int, source: StreamSource, size: int) -> None:
        """Queue a stream at the session."""
        self._sessions[end].send_stream(stream, source, size)
        self._pump_soon(end)

    def goodbye(self, end: End, reason: str, *, final: bool) -> None:
        """Have the session take leave."""
        self._sessions[end].goodbye(reason, final)
        self._pump(end)

    def consumed(self, end: End, stream: int, size: int) -> None:
        """Give the peer credit."""
        self._sessions[end].consumed(stream, size)

    def release(self, end: End) -> None:
        """Close the session of an end that is over."""
        self._sessions[end].close()
        self._alarms[end].stop()
        super().release(end)

    def cut_began(self, number: int) -> None:
        """Leave it to the sessions to notice."""

    def _pump_soon(self, end: End) -> None:
        """Write when the event in hand is done, as the writer task does."""
        if end.batch_at != self.network.timeline.now:
            end.batch_at = self.network.timeline.now
            self.network.timeline.after(0.0, partial(self._pump, end))

    def _pump(self, end: End) -> None:
        end.batch_at = -1.0
        session = self._sessions[end]
        while pieces := session.data_to_send():
            data = b"".join(pieces)
            if len(data) > 1 and self.network.rng.random() < SPLIT:
                middle = self.network.rng.randrange(1, len(data))
                end.out.push(partial(self._receive, end.peer, data[:middle]))
                data = data[middle:]
            end.out.push(partial(self._receive, end.peer, data))
        self._alarms[end].renew()

    def _receive(self, end: End, data: bytes) -> None:
        if not end.over:
            self._hand_on(end, self._sessions[end].receive_data(data, self.network.timeline.now))

    def _pass_time(self, end: End) -> None:
        self._hand_on(end, self._sessions[end].on_time(self.network.timeline.now))

    def _hand_on(self, end: End, events: list[SessionEvent]) -> None:
        handler = end.handler
        for event in events:
            if end.over:
                return
            match event:
                case Greeted(hello):
                    end.greeted = True
                    handler.greeted(end, hello)
                case MessagesReceived(messages):
                    for message in messages:
                        if not end.over:  # all of a batch is handed on, as the driver does
                            handler.message_received(end, message)
                case ChunkReceived(stream, data):
                    handler.chunk_received(end, stream, data)
                case StreamFinished(stream, reason):
                    handler.stream_finished(end, stream, reason)
                case PeerLeft(reason, final):
                    end.finish(reason, final=final)
                case PeerSilent(reason):
                    end.finish(reason, final=end is self.client)
        if not end.over and self._sessions[end].state is not State.CLOSED:
            self._pump_soon(end)
