"""Book-keeping for the streams of one link: whose turn it is, and how much each may still send.

A *stream* carries one large body from one side to the other in chunks. Its number is chosen by the sender,
increases, and is never used again on the link. Of each stream at most `WINDOW_BYTES` are on the way or not yet
used up by the receiver; what has been used up is given back as *credit*. So a receiver that cannot keep up
with one stream stops that stream only, and never the link.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from dispy.errors import LocalProtocolError, RemoteProtocolError
from dispy.model import CHUNK_BYTES
from dispy.wire.messages import StreamEnded

WINDOW_BYTES = 4 * 1024 * 1024
"""Credit of a new stream: on loopback enough never to wait; on a path of 1 Gbit/s good for 30 ms of delay."""

MAX_OPEN_STREAMS = 64
"""Streams that a peer may have begun and not ended: bounds the memory and the open files that a link can cost us."""

MAX_SENDING_STREAMS = 16
"""Streams that we send at once, far fewer than any peer allows; later ones wait, so that the first are whole early
and their jobs can start."""

MAX_REASON_CHARS = 2000
"""Longest reason that is told to a peer; the rest is cut off."""


class StreamSource(Protocol):
    """Where the bytes of an outgoing stream come from.

    Whatever `read` returned must stay valid and unchanged after later calls, `close` included: it is written
    to the connection some time later. Reading should not block for long: a file is well, a pipe is not.
    """

    def read(self, size: int, /) -> bytes | memoryview:
        """Return 1 to *size* bytes, or ``b""`` if there is nothing more.

        Raises:
            OSError: it cannot be read; the receiver is told why.
        """

    def close(self) -> None:
        """Release what it holds. Called exactly once, whatever happens; must not raise."""


def sendable_reason(reason: str) -> str:
    """Return *reason* as something that every message can carry: bounded, and without lone surrogates."""
    return reason[:MAX_REASON_CHARS].encode(errors="backslashreplace").decode()


class _Outgoing:
    __slots__ = ("credit", "number", "remaining", "source")

    def __init__(self, number: int, source: StreamSource, size: int) -> None:
        self.number = number
        self.source = source
        self.remaining = size
        self.credit = WINDOW_BYTES


class OutgoingStreams:
    """The streams that this side sends. Every source that was added is closed in the end."""

    __slots__ = ("_last", "_ready", "_streams", "_waiting")

    def __init__(self) -> None:
        self._last = 0
        self._streams: dict[int, _Outgoing] = {}
        self._ready: deque[_Outgoing] = deque()
        self._waiting: deque[_Outgoing] = deque()

    @property
    def has_ready(self) -> bool:
        """True if some stream has something to send and may."""
        return bool(self._ready)

    def add(self, number: int, source: StreamSource, size: int) -> None:
        """Take on a stream of *size* bytes.

        Raises:
            LocalProtocolError: the number is not larger than all before, or the size is negative; the source
                is closed.
        """
        if number <= self._last or size < 0:
            source.close()
            raise LocalProtocolError(f"stream {number} of {size} bytes cannot follow stream {self._last}")
        self._last = number
        stream = _Outgoing(number, source, size)
        queue = (
            self._ready if len(self._streams) - len(self._waiting) < MAX_SENDING_STREAMS else self._waiting
        )
        self._streams[number] = stream
        queue.append(stream)

    def next_chunk(self) -> tuple[int, bytes | memoryview, StreamEnded | None]:
        """Read a chunk of the stream whose turn it is: (number, chunk, its end if this was the last one).

        The chunk is empty if only the end is left to tell. Call it only if `has_ready`.
        """
        stream = self._ready.popleft()
        chunk: bytes | memoryview = b""
        reason = ""
        if stream.remaining:
            chunk, reason = _read(stream)
        size = len(chunk)
        stream.remaining -= size
        stream.credit -= size
        if stream.remaining and not reason:
            if stream.credit:
                self._ready.append(stream)
            return stream.number, chunk, None
        self._drop(stream)
        return stream.number, chunk, StreamEnded(stream.number, sendable_reason(reason))

    def unsent_bytes(self, number: int) -> int:
        """Tell how much of a stream is still to be read; 0 if it has ended, or was not added."""
        stream = self._streams.get(number)
        return 0 if stream is None else stream.remaining

    def _drop(self, stream: _Outgoing) -> None:
        del self._streams[stream.number]
        stream.source.close()
        if self._waiting:
            self._ready.append(self._waiting.popleft())

    def add_credit(self, number: int, size: int) -> None:
        """The receiver has used up *size* bytes of a stream.

        Raises:
            RemoteProtocolError: it cannot have.
        """
        if number < 1 or number > self._last or size < 1:
            raise RemoteProtocolError(
                f"peer gave credit of {size} bytes for stream {number}, which it cannot know"
            )
        stream = self._streams.get(number)
        if stream is None:
            return  # it ended while the credit was on its way
        if stream.credit + size > WINDOW_BYTES:
            raise RemoteProtocolError(f"peer gave more credit for stream {number} than it has received bytes")
        if not stream.credit:
            self._ready.append(stream)
        stream.credit += size

    def close(self) -> None:
        """Forget all streams and close their sources."""
        streams = list(self._streams.values())
        self._streams.clear()
        self._ready.clear()
        self._waiting.clear()
        for stream in streams:
            stream.source.close()


def _read(stream: _Outgoing) -> tuple[bytes | memoryview, str]:
    """Return the next chunk and, if the stream must end here, the reason."""
    size = min(CHUNK_BYTES, stream.remaining, stream.credit)
    try:
        chunk = stream.source.read(size)
    except OSError as error:
        return b"", f"what was sent cannot be read any more: {error}"
    if not chunk:
        return b"", f"what was sent ended {stream.remaining} bytes too early"
    if len(chunk) > size:
        # Sending it would break the peer's limits, cutting it would lose bytes without a word.
        raise LocalProtocolError(
            f"source of stream {stream.number} gave {len(chunk)} bytes when asked for {size}"
        )
    return chunk, ""


class _Incoming:
    __slots__ = ("allowed", "consumed")

    def __init__(self) -> None:
        self.allowed = WINDOW_BYTES
        """Bytes that the peer may still send."""
        self.consumed = 0
        """Bytes used up and not yet given back. What is neither is received and still held by our side."""


class IncomingStreams:
    """The streams that the peer sends."""

    __slots__ = ("_last", "_streams")

    def __init__(self) -> None:
        self._last = 0
        self._streams: dict[int, _Incoming] = {}

    def take_chunk(self, number: int, size: int) -> None:
        """A chunk of *size* bytes has arrived.

        Raises:
            RemoteProtocolError: the stream has ended or comes out of order, there are too many, or the peer
                had no credit for so much.
        """
        stream = self._streams.get(number) or self._begin(number)
        stream.allowed -= size
        if stream.allowed < 0:
            raise RemoteProtocolError(
                f"peer sent {-stream.allowed} bytes more on stream {number} than it may"
            )

    def take_end(self, number: int) -> None:
        """The peer has ended a stream.

        Raises:
            RemoteProtocolError: it had ended before or comes out of order, or there are too many.
        """
        if number not in self._streams:
            self._begin(number)  # one without a chunk: empty, or broken off at once
        del self._streams[number]

    def _begin(self, number: int) -> _Incoming:
        if number <= self._last:
            raise RemoteProtocolError(f"peer sent on stream {number}, which has ended or never begun")
        if len(self._streams) >= MAX_OPEN_STREAMS:
            raise RemoteProtocolError(f"peer has more than {MAX_OPEN_STREAMS} streams open")
        self._last = number
        stream = self._streams[number] = _Incoming()
        return stream

    def consume(self, number: int, size: int) -> int:
        """Count *size* bytes of a stream as used up; return the credit to give back now, mostly 0.

        Credit is given back in halves of the window, so that it costs next to nothing and the sender, who still
        has the other half, need not wait for it.

        Raises:
            LocalProtocolError: so much has not been received.
        """
        stream = self._streams.get(number)
        if stream is None and 0 < number <= self._last:
            return 0  # it has ended and needs no more credit
        held = WINDOW_BYTES - stream.allowed - stream.consumed if stream else 0
        if stream is None or not 0 <= size <= held:
            raise LocalProtocolError(f"{size} bytes of stream {number} cannot be used up: {held} are there")
        stream.consumed += size
        if stream.consumed < WINDOW_BYTES // 2:
            return 0
        credit, stream.consumed = stream.consumed, 0
        stream.allowed += credit
        return credit
