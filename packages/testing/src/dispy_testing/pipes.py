"""The streams of the in-memory transport: bytes that take a while, may be kept back, and may be lost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import trio

CAPACITY_BYTES = 1024 * 1024
"""What a pipe holds before its sender has to wait: like the socket buffers of both ends together."""


class Pipe:
    """One direction of a connection.

    Args:
        is_cut: tells whether data is kept back at the moment; after a change call `wake`.
        delay_s: tells how long data that is sent now will be under way.
    """

    def __init__(self, is_cut: Callable[[], bool], delay_s: Callable[[], float]) -> None:
        self._is_cut = is_cut
        self._delay_s = delay_s
        self._chunks: deque[tuple[float, bytes]] = deque()
        """When each chunk arrives, and its bytes; an empty one is the end of the stream."""
        self._size = 0
        self._ended = False
        self._reader_closed = False
        self._broken = False
        self._changed = trio.Event()

    def wake(self) -> None:
        """Have whoever waits look again."""
        self._changed.set()
        self._changed = trio.Event()

    def break_off(self) -> None:
        """Lose what is under way, and let both ends know."""
        self._broken = True
        self._chunks.clear()
        self.wake()

    def end(self) -> None:
        """Mark the end of the stream; doing it again does nothing."""
        if not self._ended:
            self._ended = True
            self._put(b"")

    def close_reader(self) -> None:
        """Nobody will read any more: what is sent is lost, and the sender learns it unless a cut is between."""
        self._reader_closed = True
        self._chunks.clear()
        self.wake()

    async def wait_writable(self, is_closed: Callable[[], bool]) -> None:
        """Wait until there is room.

        Raises:
            trio.ClosedResourceError: the writing end is closed, also while waiting.
            trio.BrokenResourceError: the connection is broken, or the reading end closed.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if is_closed():
                raise trio.ClosedResourceError("this end of the connection is closed")
            if self._broken or (self._reader_closed and not self._is_cut()):
                raise trio.BrokenResourceError("the other end of the connection is gone")
            if self._size < CAPACITY_BYTES:
                return
            await self._changed.wait()

    def write(self, data: bytes) -> None:
        """Send a piece; call `wait_writable` before."""
        self._put(data)

    async def read(self, max_bytes: int, is_closed: Callable[[], bool]) -> bytes:
        """Wait for data that has arrived; return some, or ``b""`` at the end of the stream.

        Raises:
            trio.ClosedResourceError: the reading end is closed, also while waiting.
            trio.BrokenResourceError: the connection is broken.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if is_closed():
                raise trio.ClosedResourceError("this end of the connection is closed")
            if self._broken:
                raise trio.BrokenResourceError("the connection broke")
            arrives_at = self._chunks[0][0] if self._chunks and not self._is_cut() else math.inf
            if arrives_at <= trio.current_time():
                return self._take(max_bytes)
            with trio.move_on_at(arrives_at):
                await self._changed.wait()

    def _put(self, data: bytes) -> None:
        if self._reader_closed or self._broken:
            return
        arrives_at = trio.current_time() + self._delay_s()
        if self._chunks:  # a shorter delay than before must not let bytes overtake each other
            arrives_at = max(arrives_at, self._chunks[-1][0])
        self._chunks.append((arrives_at, data))
        self._size += len(data)
        self.wake()

    def _take(self, max_bytes: int) -> bytes:
        arrives_at, data = self._chunks[0]
        if not data:
            return b""  # stays there: every later read finds the end too
        self._chunks.popleft()
        if len(data) > max_bytes:
            self._chunks.appendleft((arrives_at, data[max_bytes:]))
            data = data[:max_bytes]
        self._size -= len(data)
        self.wake()
        return data


class MemoryStream(trio.abc.HalfCloseableStream):
    """One end of a connection: writes into one pipe and reads from another."""

    def __init__(self, *, outgoing: Pipe, incoming: Pipe) -> None:
        self._outgoing = outgoing
        self._incoming = incoming
        self._sending = False
        self._ended = False
        self._receiving = False
        self.is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of *data*; see `trio.abc.SendStream.send_all`. If cancelled, some of it may have been sent."""
        with self._one_sender():
            view = memoryview(data)
            await self._outgoing.wait_writable(self._cannot_send)
            for start in range(0, len(view), CAPACITY_BYTES):
                if start:
                    await self._outgoing.wait_writable(self._cannot_send)
                self._outgoing.write(bytes(view[start : start + CAPACITY_BYTES]))

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream.wait_send_all_might_not_block`."""
        with self._one_sender():
            await self._outgoing.wait_writable(self._cannot_send)

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream.send_eof`."""
        with self._one_sender():
            await trio.lowlevel.checkpoint()
            if self.is_closed:
                raise trio.ClosedResourceError("this end of the connection is closed")
            self._ended = True
            self._outgoing.end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """See `trio.abc.ReceiveStream.receive_some`."""
        if max_bytes is None:
            max_bytes = CAPACITY_BYTES
        if not isinstance(max_bytes, int):
            raise TypeError(f"max_bytes must be an integer, not {max_bytes!r}")
        if max_bytes < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes!r}")
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            return await self._incoming.read(max_bytes, lambda: self.is_closed)
        finally:
            self._receiving = False

    async def aclose(self) -> None:
        """Close this end, also if cancelled; whoever waits at it gets a `trio.ClosedResourceError`."""
        self.close_now()
        await trio.lowlevel.checkpoint()

    def close_now(self) -> None:
        """Close this end; what was sent still arrives."""
        if not self.is_closed:
            self.is_closed = True
            self._outgoing.end()
            self._outgoing.wake()
            self._incoming.close_reader()

    def _cannot_send(self) -> bool:
        return self.is_closed or self._ended

    @contextmanager
    def _one_sender(self) -> Iterator[None]:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            yield
        finally:
            self._sending = False
