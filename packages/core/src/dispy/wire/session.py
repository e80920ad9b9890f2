"""One link, seen from one of its ends, without I/O.

Rules of this file: no I/O, no clock, no threads; time comes in as an argument (seconds, monotonic). Bad bytes of
the peer raise `RemoteProtocolError` and nothing else does; `LocalProtocolError` means that the caller asked for
something illegal. All changes of state stand in `TRANSITIONS`.

Theory of operation. Each side writes the preface and its Hello at once, without waiting for the other's; nothing
else is written until the peer's Hello has arrived and was found good, for only then do we know what the peer
understands. From then on the link is *open*: messages go out in batches, all that was queued since the last
write in one, and before any chunk; chunks go out round robin, one for each stream that has credit. So a message
waits for the chunks of one write at most, whatever is being transferred.

Each side writes at least once in its own ``heartbeat_s`` and takes the other for lost when nothing came for
three times the other's. To write in time without being told the time of each write, the session looks at every
half of the interval (a *beat*) whether anything was written since the last look, and queues a Heartbeat if not.

A link ends in one of three ways: we say Goodbye (*leaving*: queued messages and the Goodbye still go out,
nothing comes in any more), the peer does, or one of them fails (*parted*: nothing goes out but a Goodbye that
says what was wrong). Chunks that were not sent then are dropped, and the sources of streams are closed, at once.

A driver does this: after each call it writes what `data_to_send` returns while `has_data` is true; it calls
`on_time` at `next_deadline`, `receive_data` and `receive_eof` as the transport has something; upon
`RemoteProtocolError` or `PeerSilent` it calls `goodbye` with the text, writes what there is, and closes the
connection, as it does after `PeerLeft`; and whatever happens it calls `close` in the end.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from dispy.errors import LocalProtocolError, RemoteProtocolError
from dispy.model import MAX_FRAME_BYTES, AccessRole, Role
from dispy.wire.frames import (
    CONTROL,
    GREETING_BYTES,
    PREFACE,
    FrameDecoder,
    decode_batch,
    encode_batch,
    encode_chunk_header,
    encode_some,
)
from dispy.wire.greeting import MIN_FRAME_BYTES, check_greeting, describe_peer, find_defect
from dispy.wire.messages import Goodbye, Heartbeat, Hello, Message, StreamCredit, StreamEnded
from dispy.wire.owing import COST_OF
from dispy.wire.rights import (
    STREAMING,
    allowed_messages,
    describe_refusal,
    describe_roles,
    entry_role,
    expand,
)
from dispy.wire.streams import IncomingStreams, OutgoingStreams, StreamSource, sendable_reason
from dispy.wire.words import REASONS, clean_greeting, clean_reason

__all__ = [
    "TRANSITIONS",
    "VIOLATIONS",
    "ChunkReceived",
    "Greeted",
    "Input",
    "MessagesReceived",
    "PeerLeft",
    "PeerSilent",
    "Session",
    "SessionEvent",
    "State",
    "StreamFinished",
    "StreamSource",
]


class State(enum.Enum):
    """Where a link is."""

    GREETING = "greeting"
    """Our Hello is on its way, the peer's has not arrived."""
    OPEN = "open"
    PARTED = "parted"
    """The peer left, fell silent or broke the protocol. What it still sends is ignored."""
    LEAVING = "leaving"
    """We said goodbye. What the peer still sends is ignored."""
    CLOSED = "closed"


class Input(enum.Enum):
    """What can happen to a link."""

    HELLO = "hello received"
    BATCH = "messages received"
    CHUNK = "chunk received"
    GOODBYE = "goodbye received"
    EOF = "end of bytes"
    FAULT = "bad bytes or silence"
    LEAVE = "goodbye sent"
    CLOSE = "closed"


TRANSITIONS: dict[State, dict[Input, State]] = {
    State.GREETING: {
        Input.HELLO: State.OPEN,
        Input.BATCH: State.PARTED,
        Input.CHUNK: State.PARTED,
        Input.GOODBYE: State.PARTED,
        Input.EOF: State.PARTED,
        Input.FAULT: State.PARTED,
        Input.LEAVE: State.LEAVING,
        Input.CLOSE: State.CLOSED,
    },
    State.OPEN: {
        Input.HELLO: State.PARTED,
        Input.BATCH: State.OPEN,
        Input.CHUNK: State.OPEN,
        Input.GOODBYE: State.PARTED,
        Input.EOF: State.PARTED,
        Input.FAULT: State.PARTED,
        Input.LEAVE: State.LEAVING,
        Input.CLOSE: State.CLOSED,
    },
    State.PARTED: {
        **dict.fromkeys(Input, State.PARTED),
        Input.LEAVE: State.LEAVING,
        Input.CLOSE: State.CLOSED,
    },
    State.LEAVING: {
        **dict.fromkeys(Input, State.LEAVING),
        Input.CLOSE: State.CLOSED,
    },
    State.CLOSED: dict.fromkeys(Input, State.CLOSED),
}
"""State -> what happened -> next state, one entry for every pair."""

VIOLATIONS: dict[tuple[State, Input], str] = {
    (State.GREETING, Input.BATCH): "peer did not begin with a greeting alone",
    (State.GREETING, Input.CHUNK): "peer sent a chunk before its greeting",
    (State.GREETING, Input.GOODBYE): "peer said goodbye before its greeting",
    (State.GREETING, Input.EOF): (
        "peer closed the connection before its greeting; it is no dispy, or expects another transport"
    ),
    (State.OPEN, Input.HELLO): "peer greeted a second time",
}
"""Those of the transitions that no correct peer causes -> what is said about it."""

HANDSHAKE_S = 5.0
"""How long a peer may take to greet; what `docs/protocol.md` promises about strangers rests on it."""

SILENT_HEARTBEATS = 3
"""Heartbeats of the peer that may fail to come: one can be late, two are lost with one retransmission."""

WRITE_BYTES = 1024 * 1024
"""Size of one write: at 100 Mbit/s a message waits 80 ms behind it."""

_INTERNAL: frozenset[type[Message]] = frozenset({Hello, Heartbeat, Goodbye, StreamEnded, StreamCredit})
"""Messages of the session itself; the caller neither sends nor gets them."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """The peer's greeting has arrived and fits; the link is open."""

    hello: Hello


@dataclass(frozen=True, slots=True)
class MessagesReceived:
    """Messages of the peer, in order; never empty."""

    messages: list[Message]


@dataclass(frozen=True, slots=True)
class ChunkReceived:
    """The next bytes of a stream, perhaps a view of what was read. Call `Session.consumed` when they are used up."""

    stream: int
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class StreamFinished:
    """A stream has ended: whole if the reason is empty, else what arrived of it is worthless."""

    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer said goodbye. ``final``: it ends for good, and what it had is gone."""

    reason: str
    final: bool


@dataclass(frozen=True, slots=True)
class PeerSilent:
    """Nothing came from the peer for too long; it must be taken for lost."""

    reason: str


SessionEvent = Greeted | MessagesReceived | ChunkReceived | StreamFinished | PeerLeft | PeerSilent
"""What a session reports, in the order in which it stood on the wire."""


class Session:
    """The protocol at one end of a link; see the module for what a driver has to do.

    Args:
        hello: our greeting.
        now: the time.
        accepts: what the peer may be.
        roles: what the peer has proved that it may do. Messages that need other roles end the link.

    Attributes:
        hello: our greeting.
        peer: the peer's greeting, None until it has arrived.
        protocol: version of the protocol that both speak, 0 until the peer has greeted.

    Raises:
        LocalProtocolError: our own greeting breaks the protocol's limits.
    """

    def __init__(
        self, hello: Hello, *, now: float, accepts: frozenset[Role], roles: frozenset[AccessRole]
    ) -> None:
        defect = find_defect(hello)
        if defect:
            raise LocalProtocolError(f"our own greeting has {defect}")
        self.hello = hello
        self.peer: Hello | None = None
        self.protocol = 0
        self._accepts = accepts
        self._roles = expand(roles)
        self._allowed: frozenset[type[Message]] = frozenset()
        self._state = State.GREETING
        self._decoder = FrameDecoder(hello.max_frame_bytes)
        self._opening: list[bytes | bytearray] = [PREFACE, *encode_batch([hello], GREETING_BYTES)]
        self._queue: list[Message] = []
        self._owed = 0
        """Bytes of answers in the queue, about."""
        self._sending = 0
        """Bytes of answers that were given out to be written last."""
        self._frame_bytes = MIN_FRAME_BYTES
        self._incoming = IncomingStreams()
        self._outgoing = OutgoingStreams()
        self._silent_at = now + HANDSHAKE_S
        self._beat_at = math.inf
        self._wrote = False
        self._excused = False

    @property
    def state(self) -> State:
        """Where the link is. Nothing is left to write for good once it is LEAVING and `has_data` is false."""
        return self._state

    # What comes in.

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> list[SessionEvent]:
        """Take bytes of the peer, at least one, and return what they mean.

        Raises:
            RemoteProtocolError: they are wrong. The link is parted; events of the same bytes are lost, which
                does no harm as the two sides compare what they have after every reconnection.
        """
        events: list[SessionEvent] = []
        if self._state is not State.GREETING and self._state is not State.OPEN:
            return events
        if self.peer is not None:
            self._heard(self.peer, now)
        try:
            for channel, payload in self._decoder.feed(data):
                if channel == CONTROL:
                    self._take_batch(decode_batch(payload), now, events)
                else:
                    self._happened(Input.CHUNK)
                    self._check_chunk()
                    self._incoming.take_chunk(channel, len(payload))
                    events.append(ChunkReceived(channel, payload))
                if self._state is not State.OPEN:
                    break
        except RemoteProtocolError:
            self._happened(Input.FAULT)
            raise
        return events

    def receive_eof(self) -> None:
        """Take note that the peer sends no more bytes. The link is parted, unless we are leaving.

        Raises:
            RemoteProtocolError: the end came before the greeting or inside a frame.
        """
        was_open = self._state is State.OPEN
        self._happened(Input.EOF)
        if was_open and not self._decoder.is_between_frames:
            raise RemoteProtocolError("peer closed the connection in the middle of a frame")

    def _take_batch(self, messages: list[Message], now: float, events: list[SessionEvent]) -> None:
        if self._state is State.GREETING:
            first = messages[0]
            if len(messages) == 1 and isinstance(first, Hello):
                hello = clean_greeting(first)
                self._greet(hello, now)
                events.append(Greeted(hello))
                return
        self._happened(Input.BATCH)
        if not self._allowed.issuperset(map(type, messages)):
            self._refuse(messages)
        if not REASONS.keys().isdisjoint(map(type, messages)):
            messages = [clean_reason(message) for message in messages]
        if _INTERNAL.isdisjoint(map(type, messages)):
            events.append(MessagesReceived(messages))
            return
        plain: list[Message] = []
        for message in messages:
            if type(message) not in _INTERNAL:
                plain.append(message)
                continue
            if plain:
                events.append(MessagesReceived(plain))
                plain = []
            self._take_internal(message, events)
            if self._state is not State.OPEN:
                return  # a Goodbye is the last message, whatever follows it
        if plain:
            events.append(MessagesReceived(plain))

    def _take_internal(self, message: Message, events: list[SessionEvent]) -> None:
        match message:
            case StreamCredit(stream, size):
                self._outgoing.add_credit(stream, size)
            case StreamEnded(stream, reason):
                self._incoming.take_end(stream)
                events.append(StreamFinished(stream, reason))
            case Goodbye(reason, final):
                self._happened(Input.GOODBYE)
                events.append(PeerLeft(reason, final))
            case Hello():
                self._happened(Input.HELLO)
            case _:
                pass  # a Heartbeat: that it came is all it says

    def _greet(self, peer: Hello, now: float) -> None:
        self.protocol = check_greeting(self.hello, peer, self._accepts)
        role = Role(peer.role)
        if entry_role(role) not in self._roles:
            raise RemoteProtocolError(
                f"the {describe_peer(peer)} may not take part as {role}: {describe_roles(self._roles)}"
            )
        self._allowed = allowed_messages(role, self._roles)
        self._happened(Input.HELLO)
        self.peer = peer
        self._frame_bytes = min(peer.max_frame_bytes, MAX_FRAME_BYTES)
        self._beat_at = now + self.hello.heartbeat_s / 2
        self._heard(peer, now)

    def _check_chunk(self) -> None:
        if STREAMING.isdisjoint(self._roles):
            raise RemoteProtocolError(f"peer sent a chunk, which it may not; {describe_roles(self._roles)}")

    def _refuse(self, messages: list[Message]) -> None:
        assert self.peer is not None  # before the greeting nothing but a greeting comes this far
        kind = next(type(message) for message in messages if type(message) not in self._allowed)
        raise RemoteProtocolError(describe_refusal(kind, Role(self.peer.role), self._roles))

    def _heard(self, peer: Hello, now: float) -> None:
        self._silent_at = now + SILENT_HEARTBEATS * peer.heartbeat_s
        self._excused = False

    def consumed(self, stream: int, size_bytes: int) -> None:
        """Say that bytes of a `ChunkReceived` are used up, so that the peer may send more.

        Credit goes back when half of the window is used up. Does nothing for a stream that has ended, or when
        the link is not open.

        Raises:
            LocalProtocolError: so much of this stream has not been received.
        """
        if self._state is not State.OPEN:
            return
        credit = self._incoming.consume(stream, size_bytes)
        if credit:
            self._push(StreamCredit(stream, credit))

    # What goes out.

    def send(self, message: Message) -> None:
        """Queue a message. It is dropped without a word if the peer has parted.

        Raises:
            LocalProtocolError: we have said goodbye or closed, or the message is one of the session's own.
        """
        if type(message) in _INTERNAL:
            raise LocalProtocolError(f"{type(message).__name__} is sent by the session itself")
        if self._may_send(f"{type(message).__name__}"):
            self._push(message)

    def _push(self, message: Message) -> None:
        self._queue.append(message)
        cost = COST_OF.get(type(message))
        if cost is not None:
            self._owed += cost(message)

    @property
    def owed_bytes(self) -> int:
        """What the peer's messages have made us queue and it has not read, in memory, about; see `dispy.wire.owing`.

        What `data_to_send` has given out counts until that is called again, as only then it is written.
        """
        return self._owed + self._sending

    def send_stream(self, stream: int, source: StreamSource, size_bytes: int) -> None:
        """Send *size_bytes* of *source* as stream number *stream*; send the message that announces it first.

        The source is closed when the stream has ended for whatever reason, at once if the peer has parted. A
        source that fails or is too short ends the stream with a reason for the peer; the link goes on.

        Raises:
            LocalProtocolError: we have said goodbye or closed, or the number is not larger than all before;
                the source is closed.
        """
        try:
            allowed = self._may_send(f"stream {stream}")
        except LocalProtocolError:
            source.close()
            raise
        if allowed:
            self._outgoing.add(stream, source, size_bytes)
        else:
            source.close()

    def unsent_bytes(self, stream: int) -> int:
        """Tell how much of a stream of ours is still to be sent; 0 if it has ended, or is none."""
        return self._outgoing.unsent_bytes(stream)

    def _may_send(self, what: str) -> bool:
        if self._state is State.LEAVING or self._state is State.CLOSED:
            raise LocalProtocolError(f"{what} cannot be sent: the link is {self._state.value}")
        return self._state is not State.PARTED

    def goodbye(self, reason: str, final: bool = False) -> None:
        """Queue a Goodbye as the last message and end all streams. Does nothing if that, or `close`, was done.

        What was queued before is still written, if the link was open.
        """
        before = self._state
        self._happened(Input.LEAVE)
        if before is State.LEAVING or before is State.CLOSED:
            return
        self._queue.append(Goodbye(sendable_reason(reason), final))

    def close(self) -> None:
        """Forget everything and close the sources of all streams. May be called at any time, also again."""
        self._happened(Input.CLOSE)

    @property
    def has_data(self) -> bool:
        """True if `data_to_send` would return something."""
        if self._state is State.GREETING:
            return bool(self._opening)
        return bool(self._queue or self._outgoing.has_ready or (self._opening and self._state is State.OPEN))

    def data_to_send(self, limit: int = WRITE_BYTES) -> list[bytes | bytearray | memoryview]:
        """Return what to write now, in order: messages, and if these are all, chunks until *limit* bytes are reached.

        The last message or chunk may go past the limit; at least one message goes out. An empty list means that there
        is nothing to write. Call it only when all that it returned before is written.

        Raises:
            LocalProtocolError: a queued message cannot be encoded or is too large for the peer.
        """
        out: list[bytes | bytearray | memoryview] = []
        self._sending = 0
        if not self.has_data:
            return out
        out += self._opening
        self._opening = []
        if self._state is not State.GREETING:
            self._append_messages(out, limit)
            if not self._queue:
                self._append_chunks(out, limit)
        self._wrote = True
        return out

    def _append_messages(self, out: list[bytes | bytearray | memoryview], limit: int) -> None:
        """Encode what is queued, but not much more than the limit: what is encoded takes memory a second time."""
        queue = self._queue
        frames, count = encode_some(queue, self._frame_bytes, limit)
        out += frames
        if count == len(queue):
            self._queue = []
            self._sending, self._owed = self._owed, 0
            return
        self._queue = queue[count:]
        self._sending = sum(COST_OF[type(one)](one) for one in queue[:count] if type(one) in COST_OF)
        self._owed -= self._sending

    def _append_chunks(self, out: list[bytes | bytearray | memoryview], limit: int) -> None:
        total = sum(map(len, out))
        while total < limit and self._outgoing.has_ready:
            stream, chunk, end = self._outgoing.next_chunk()
            if chunk:
                out.append(encode_chunk_header(stream, len(chunk)))
                out.append(chunk)
                total += len(chunk)
            if end is not None:
                # Not left for the next batch: the ends of streams without chunks must keep the streams' order.
                out += encode_batch([end], self._frame_bytes)

    # Time and state.

    def next_deadline(self) -> float:
        """Return when `on_time` must be called next; infinity if never."""
        if self._state is State.GREETING:
            return self._silent_at
        return min(self._silent_at, self._beat_at) if self._state is State.OPEN else math.inf

    def on_time(self, now: float) -> list[SessionEvent]:
        """Do what is due: queue a Heartbeat, or find that the peer is silent. Calling it early is harmless."""
        if now < self.next_deadline():
            return []
        if now >= self._silent_at and not self._is_excused(now):
            self._happened(Input.FAULT)
            return [PeerSilent(self._describe_silence())]
        if now >= self._beat_at:
            if not self._wrote and not self.has_data:
                self._queue.append(Heartbeat())
            self._wrote = False
            self._beat_at = now + self.hello.heartbeat_s / 2
        return []

    def _is_excused(self, now: float) -> bool:
        """Tell whether the silence may be our own fault, and if so wait for one more heartbeat, once.

        A process that was stopped for a while (a laptop asleep, a thread that kept the interpreter to itself) wakes
        with its deadlines long past, while the peer's bytes lie unread in the socket.
        """
        if self.peer is None or self._excused or now - self._silent_at < self.peer.heartbeat_s:
            return False
        self._excused = True
        self._silent_at = now + self.peer.heartbeat_s
        return True

    def _describe_silence(self) -> str:
        if self.peer is None:
            return f"peer did not greet within {HANDSHAKE_S:g} s; is something else listening there?"
        silence_s = SILENT_HEARTBEATS * self.peer.heartbeat_s
        return f"nothing came from {describe_peer(self.peer)} for {silence_s:g} s; it or the network to it is down"

    def _happened(self, what: Input) -> None:
        """Go to the next state; what the new one has no use for is released.

        Raises:
            RemoteProtocolError: no correct peer causes this here.
        """
        before = self._state
        after = TRANSITIONS[before][what]
        if after is not before:
            self._state = after
            if after is not State.OPEN:
                self._outgoing.close()
                if before is not State.OPEN or after is not State.LEAVING:
                    self._queue.clear()
                    self._owed = 0
        violation = VIOLATIONS.get((before, what))
        if violation:
            raise RemoteProtocolError(violation)
