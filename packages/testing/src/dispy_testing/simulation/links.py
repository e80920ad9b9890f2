"""Connections between clients and nodes, and what can happen to them.

Within a connection everything arrives in order, as with TCP; what is lost is lost with all that follows, and both
ends learn of it, each in its own time. Connections do not wait for each other. A *cut* keeps back what is sent, as
a dead cable does; ends that hear nothing for `SILENT_S` take the other for lost.

A `Connection` carries messages as values and streams whole. `dispy_testing.simulation.wire` has one that carries
bytes, `dispy_testing.simulation.unreliable` one that loses, doubles and reorders messages.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from dispy.model import LinkId
from dispy.wire.messages import Hello, Message
from dispy.wire.session import StreamSource
from dispy_testing.simulation.timeline import Action, Timeline

HEARTBEAT_S = 5.0
SILENT_S = 3 * HEARTBEAT_S
HANDSHAKE_S = 5.0
FLUSH_S = 2.0
"""How long an end that has said goodbye may still be there."""

Pair = tuple[str, str]
"""Names of a client and a node."""


class Handler(Protocol):
    """What a participant wants to know of its ends of connections."""

    def greeted(self, end: End, hello: Hello) -> None:
        """The peer has greeted: messages may be sent."""

    def message_received(self, end: End, message: Message) -> None:
        """The peer has sent a message."""

    def chunk_received(self, end: End, stream: int, data: bytes | memoryview) -> None:
        """The peer has sent a piece of a stream."""

    def stream_finished(self, end: End, stream: int, reason: str) -> None:
        """The peer has ended a stream."""

    def ended(self, end: End, reason: str, *, final: bool) -> None:
        """The connection is over for this end."""


class Network:
    """All connections, and the weather.

    Args:
        timeline: the clock.
        rng: where delays come from.
        delay_s: least and greatest delay of what is sent.
    """

    def __init__(self, timeline: Timeline, rng: random.Random, delay_s: tuple[float, float]) -> None:
        self.timeline = timeline
        self.rng = rng
        self.delay_s = delay_s
        self.messages = 0
        self.connections: dict[Connection, None] = {}
        self._cuts: dict[Pair, int] = {}
        self._last_cut = 0

    def delay(self) -> float:
        """Draw how long something takes from one end to the other."""
        least, greatest = self.delay_s
        return least + (greatest - least) * self.rng.random() ** 3

    def is_cut(self, pair: Pair) -> bool:
        """Tell whether nothing gets through between the two."""
        return pair in self._cuts

    def cut(self, pair: Pair) -> None:
        """Let nothing through until `heal`."""
        if pair in self._cuts:
            return
        self._last_cut += 1
        self._cuts[pair] = self._last_cut
        for connection in list(self.connections):
            if connection.pair == pair:
                connection.cut_began(self._last_cut)

    def heal(self, pair: Pair) -> None:
        """Let everything through again, what was kept back first."""
        if self._cuts.pop(pair, None) is not None:
            for connection in list(self.connections):
                if connection.pair == pair:
                    connection.cut_ended()

    def cut_number(self, pair: Pair) -> int:
        """Give the number of the present cut, 0 if there is none."""
        return self._cuts.get(pair, 0)


class Pipe:
    """One direction of a connection."""

    def __init__(self, network: Network, pair: Pair) -> None:
        self._network = network
        self._pair = pair
        self._free_at = 0.0
        self._kept: deque[Action] = deque()
        self._dead = False

    def push(self, deliver: Action) -> None:
        """Have *deliver* called when it arrives, after all that was pushed before."""
        self._free_at = max(self._free_at, self._network.timeline.now + self._network.delay())
        self._network.timeline.at(self._free_at, partial(self._arrive, deliver))

    def push_beside(self, deliver: Action, transfer_s: float) -> None:
        """Have *deliver* called after all that was pushed before, but possibly after what is pushed later."""
        when = max(self._free_at, self._network.timeline.now + self._network.delay()) + transfer_s
        self._network.timeline.at(when, partial(self._arrive, deliver))

    def kill(self) -> None:
        """Lose all that is on its way."""
        self._dead = True
        self._kept.clear()

    def resume(self) -> None:
        """Let what was kept back arrive."""
        if self._kept and not self._dead:
            self._free_at = max(self._free_at, self._network.timeline.now + self._network.delay())
            self._network.timeline.at(self._free_at, self._release)

    def _arrive(self, deliver: Action) -> None:
        if self._dead:
            return
        if self._kept or self._network.is_cut(self._pair):
            self._kept.append(deliver)
        else:
            deliver()

    def _release(self) -> None:
        while self._kept and not self._dead and not self._network.is_cut(self._pair):
            self._kept.popleft()()


class End:
    """One end of a connection, as its participant sees it.

    Attributes:
        number: the participant's number for it.
        greeted: the peer's greeting has arrived.
    """

    def __init__(self, connection: Connection, number: LinkId, handler: Handler, hello: Hello) -> None:
        self.connection = connection
        self.number = number
        self.handler = handler
        self.hello = hello
        self.greeted = False
        self.open = True
        """It takes in what arrives."""
        self.over = False
        """Its participant was told that it has ended."""
        self.streams: dict[int, StreamSource] = {}
        """Sources of streams that have not arrived."""
        self.batch: list[Message] = []
        self.batch_at = -1.0
        self.peer: End
        self.out: Pipe

    def send(self, message: Message) -> None:
        """Queue a message; on an end that is closing it is dropped."""
        if self.open:
            self.connection.network.messages += 1
            self.connection.send(self, message)

    def send_stream(self, stream: int, source: StreamSource, size: int) -> None:
        """Queue a stream; *source* is closed in any case."""
        if self.open:
            self.connection.send_stream(self, stream, source, size)
        else:
            source.close()

    def close(self, reason: str, *, final: bool = False) -> None:
        """Say goodbye and close; the own participant hears that it is over a little later."""
        if self.open:
            self.open = False
            self.connection.goodbye(self, reason, final=final)
            flush_s = min(FLUSH_S, self.connection.network.delay())
            self.connection.network.timeline.after(flush_s, lambda: self.finish(reason))

    def finish(self, reason: str, *, final: bool = False) -> None:
        """Be over: tell the own participant now, and the other end when the news arrives there."""
        if self.over:
            return
        self.over, self.open = True, False
        self.connection.release(self)
        self.out.push(lambda: self.peer.finish("the peer closed the connection"))
        self.handler.ended(self, reason, final=final)

    def vanish(self) -> None:
        """Be over without a word to the own participant, which is dead."""
        self.over, self.open = True, False
        self.connection.release(self)


class Connection:
    """A connection that carries messages as values.

    Args:
        network: what it is part of.
        pair: names of client and node.
        client: number, handler and greeting of the client's end.
        node: the same of the node's end.
    """

    def __init__(
        self,
        network: Network,
        pair: Pair,
        client: tuple[LinkId, Handler, Hello],
        node: tuple[LinkId, Handler, Hello],
    ) -> None:
        self.network = network
        self.pair = pair
        self.client = End(self, *client)
        self.node = End(self, *node)
        for end, peer in ((self.client, self.node), (self.node, self.client)):
            end.peer = peer
            end.out = Pipe(network, pair)
        network.connections[self] = None

    def begin(self) -> None:
        """Have both ends greet."""
        for end in (self.client, self.node):
            end.out.push(partial(self._greet, end.peer, end.hello))
            self.network.timeline.after(HANDSHAKE_S, partial(self._expect_greeting, end))
        if self.network.is_cut(self.pair):
            self.cut_began(self.network.cut_number(self.pair))

    def _greet(self, end: End, hello: Hello) -> None:
        if end.open:
            end.greeted = True
            end.handler.greeted(end, hello)

    def _expect_greeting(self, end: End) -> None:
        if end.open and not end.greeted:
            end.finish("peer did not greet")

    # -- what ends want

    def send(self, end: End, message: Message) -> None:
        """Send a message; those of one moment travel together."""
        if end.batch_at == self.network.timeline.now:
            end.batch.append(message)
            return
        end.batch_at = self.network.timeline.now
        end.batch = [message]
        end.out.push(partial(self._deliver, end.peer, end.batch))

    def _deliver(self, end: End, messages: list[Message]) -> None:
        for message in messages:
            if end.open:
                end.handler.message_received(end, message)

    def send_stream(self, end: End, stream: int, source: StreamSource, size: int) -> None:
        """Send a stream; it is read when it arrives."""
        end.batch_at = -1.0  # what is sent later must not overtake its announcement
        end.streams[stream] = source
        transfer_s = self.network.rng.random() * 0.3
        end.out.push_beside(partial(self._deliver_stream, end, stream, size), transfer_s)

    def _deliver_stream(self, end: End, stream: int, size: int) -> None:
        source, peer = end.streams.pop(stream, None), end.peer
        if source is None:
            return
        try:
            data, reason = bytes(source.read(size)), ""
        except OSError as error:
            data, reason = b"", f"what was sent cannot be read any more: {error}"
        source.close()
        if data and peer.open:
            peer.handler.chunk_received(peer, stream, data)
        if peer.open:
            peer.handler.stream_finished(peer, stream, reason)

    def goodbye(self, end: End, reason: str, *, final: bool) -> None:
        """Tell the peer that this end leaves."""
        end.batch_at = -1.0
        end.out.push(partial(self._take_leave, end.peer, reason, final))

    def _take_leave(self, end: End, reason: str, final: bool) -> None:
        if end.open:
            end.finish(reason, final=final)

    def consumed(self, end: End, stream: int, size: int) -> None:
        """Bytes of a stream are used up: nothing to do, as streams travel whole."""

    def release(self, end: End) -> None:
        """Close what an end that is over still had to send."""
        for source in end.streams.values():
            source.close()
        end.streams.clear()
        if self.client.over and self.node.over:
            self.network.connections.pop(self, None)

    # -- what the world does to it

    def reset(self, notice: Callable[[End], tuple[float, bool]]) -> None:
        """Lose all that is on its way; *notice* tells for each end after how long it notices, and if by silence."""
        for end in (self.client, self.node):
            end.out.kill()
            if not end.over:
                delay_s, silent = notice(end)
                text = "nothing came for too long" if silent else "connection lost"
                final = silent and end is self.client
                self.network.timeline.after(delay_s, partial(end.finish, text, final=final))

    def cut_began(self, number: int) -> None:
        """Have both ends find out that they hear nothing, if the cut lasts."""
        for end in (self.client, self.node):
            silent_s = SILENT_S - self.network.rng.random() * HEARTBEAT_S
            self.network.timeline.after(silent_s, partial(self._fall_silent, end, number))

    def _fall_silent(self, end: End, number: int) -> None:
        if end.open and self.network.cut_number(self.pair) == number:
            # A client does not wait for a node that it has not heard of for so long; see dispy.runtime.driver.
            end.finish("nothing came for too long", final=end is self.client)

    def cut_ended(self) -> None:
        """Go on."""
        self.client.out.resume()
        self.node.out.resume()
