"""One connection at run time: a reader task, a writer task, a clock, and the session between them.

Used by every participant. What the peer says is handed, in order, to one synchronous callback; what is to be
said is queued in the session, and the writer sends all that has gathered since its last write at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

import trio

from dispy.errors import RemoteProtocolError, TransportError
from dispy.interfaces import Peer
from dispy.model import LinkId
from dispy.wire.messages import Message
from dispy.wire.owing import OWED_HIGH, OWED_LOW, OWED_MAX, STALL_S
from dispy.wire.session import Greeted, PeerLeft, PeerSilent, Session, SessionEvent, StreamSource

READ_BYTES = 1024 * 1024
"""Bytes asked of the transport at once: several chunks of a stream, most of which need not be buffered then."""

JOIN_BYTES = 128 * 1024
"""Pieces are joined up to this size, to save system calls; larger ones are written as they are."""

FLUSH_S = 2.0
"""How long a link that is to be closed may take to send what is queued."""

EventHandler = Callable[["Link", Sequence[SessionEvent]], None]


class Link:
    """A connection to another participant, after it was dialled or accepted.

    Attributes:
        number: identifies the link in this process.
        peer: the other end, as the transport knows it.
        session: the protocol machine; use `send` and `send_stream`, which also wake the writer.
        final: True if the peer said that it ends for good.
    """

    def __init__(self, number: LinkId, stream: trio.abc.Stream, peer: Peer, session: Session) -> None:
        self.number = number
        self.peer = peer
        self.session = session
        self.final = False
        self.bytes_sent = 0
        self.bytes_received = 0
        self._stream = stream
        self._wake = trio.Event()
        self._greeted = trio.Event()
        self._closing = ""
        self._writing = False
        self._written: trio.Event | None = None
        """Awaited by the reader while we owe the peer too much; set after each write."""
        self._flushing = trio.CancelScope()
        """Around every write; gets a deadline when the link is to be closed, also if a write hangs by then."""

    def send(self, message: Message) -> None:
        """Queue a message; after `close_soon` it is dropped, as it would be on a broken link."""
        if not self._closing:
            self.session.send(message)
            self._wake.set()

    def send_stream(self, stream: int, source: StreamSource, size_bytes: int) -> None:
        """Queue a stream that an earlier message has announced; *source* is closed in any case."""
        if self._closing:
            source.close()
            return
        self.session.send_stream(stream, source, size_bytes)
        self._wake.set()

    def consumed(self, stream: int, size_bytes: int) -> None:
        """Let the peer send as many more bytes on a stream."""
        if not self._closing:
            self.session.consumed(stream, size_bytes)
            self._wake.set()

    def close_soon(self, reason: str, *, final: bool = False) -> None:
        """Say goodbye, send what is queued for a short while, and close."""
        if not self._closing:
            self._closing = reason or "closed"
            self._flushing.deadline = trio.current_time() + FLUSH_S
            self.session.goodbye(reason, final=final)
            self._wake.set()

    async def run(self, handle: EventHandler) -> str:
        """Serve the link until it ends; return why. The stream is closed in any case.

        What *handle* raises is raised again, in a group, after the peer was told that the link is closed.
        """
        reason = ""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                nursery.start_soon(self._keep_time, handle, nursery.cancel_scope)
                reason = await self._read(handle)
                nursery.cancel_scope.cancel()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError, TransportError) as group:
            reason = reason or f"connection lost: {group.exceptions[0]}"
        except* Exception:
            # A bug, for the caller to report. What the peer has here is still here: it may come back.
            await self._take_leave("internal error on the other side", final=False)
            raise
        finally:
            try:
                if not reason:  # cancelled: we end, not the peer, which need not wait for our return
                    await self._take_leave("the other side has ended", final=True)
            finally:
                # From here on sending does nothing: others run while the stream is being closed.
                self._closing = self._closing or reason or "connection lost"
                self.session.close()
                await trio.aclose_forcefully(self._stream)
        return self._closing

    async def _take_leave(self, reason: str, *, final: bool) -> None:
        if self._closing or self._writing:
            return
        self.close_soon(reason, final=final)
        with (
            trio.CancelScope(shield=True),
            suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            await self._flush()

    async def _read(self, handle: EventHandler) -> str:
        session, stream = self.session, self._stream
        allowed = 0
        """Bytes that may be read although we owe the peer too much."""
        try:
            while True:
                if allowed <= 0 and session.owed_bytes > OWED_HIGH:
                    await self._let_peer_read()
                    allowed = READ_BYTES  # whatever the transport gives at once
                data = await stream.receive_some(READ_BYTES)
                allowed -= len(data)
                if not data:
                    session.receive_eof()
                    return "the peer closed the connection"
                self.bytes_received += len(data)
                reason = self._deliver(session.receive_data(data, trio.current_time()), handle)
                if reason:
                    return reason
        except RemoteProtocolError as error:
            # The goodbye tells the peer what was wrong with it. The writer sends it, for a short while, and then
            # ends this task too; the peer may or may not be listening.
            self.close_soon(str(error))
            await trio.sleep(FLUSH_S)
            return str(error)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            return f"connection lost: {error.__cause__ or error}"

    async def _let_peer_read(self) -> None:
        """Wait until the peer has read answers, or for `STALL_S` at most: it may be waiting for us in the same way.

        Raises:
            RemoteProtocolError: it has not, and we owe it too much to go on.
        """
        with trio.move_on_after(STALL_S):
            while self.session.owed_bytes > OWED_LOW:
                self._written = trio.Event()
                await self._written.wait()
        self._written = None
        if self.session.owed_bytes > OWED_MAX:
            raise RemoteProtocolError(
                f"peer goes on sending, but does not read the answers: {self.session.owed_bytes} bytes wait for it"
            )

    def _deliver(self, events: Sequence[SessionEvent], handle: EventHandler) -> str:
        """Pass events on; return a reason if the link is over."""
        if not events:
            if self.session.has_data:  # credit, or an answer that the session gives by itself
                self._wake.set()
            return ""
        last = events[-1]
        if isinstance(events[0], Greeted):
            self._greeted.set()
        handle(self, events)
        self._wake.set()
        if isinstance(last, PeerLeft):
            self.final = last.final
            return last.reason or "the peer said goodbye"
        if isinstance(last, PeerSilent):
            return last.reason
        return ""

    async def _write(self, scope: trio.CancelScope) -> None:
        while True:
            await self._flush()
            if self._closing:
                scope.cancel()
                return
            if not self.session.has_data:
                self._wake = trio.Event()
                await self._wake.wait()

    async def _flush(self) -> None:
        self._flushing = trio.CancelScope(
            deadline=trio.current_time() + FLUSH_S if self._closing else float("inf")
        )
        with self._flushing:
            while True:
                pieces = self.session.data_to_send()
                if self._written is not None:
                    self._written.set()
                if not pieces:
                    return
                # Cancelled in the middle of a frame, nothing more can be said on this stream.
                self._writing = True
                await self._send_pieces(pieces)
                self._writing = False

    async def _send_pieces(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        stream = self._stream
        small: list[bytes | bytearray | memoryview] = []
        size = 0
        for piece in pieces:
            self.bytes_sent += len(piece)
            if len(piece) >= JOIN_BYTES:
                if small:
                    await stream.send_all(b"".join(small))
                    small, size = [], 0
                await stream.send_all(piece)
                continue
            small.append(piece)
            size += len(piece)
            if size >= JOIN_BYTES:
                await stream.send_all(b"".join(small))
                small, size = [], 0
        if small:
            await stream.send_all(b"".join(small) if len(small) > 1 else small[0])

    async def _keep_time(self, handle: EventHandler, scope: trio.CancelScope) -> None:
        with trio.move_on_at(self.session.next_deadline()):
            await self._greeted.wait()  # then heartbeats begin, sooner than the greeting was due
        while True:
            await trio.sleep_until(self.session.next_deadline())
            reason = self._deliver(self.session.on_time(trio.current_time()), handle)
            if reason:
                self._closing = reason
                scope.cancel()
                return
