"""What a job printed: the first and the last part of it, when it is too much."""

from __future__ import annotations

from collections import deque

BLOCK_BYTES = 64 * 1024
"""Pieces are gathered into blocks of this size, the size of a pipe: a job that writes single bytes must not make
millions of objects here."""


class Output:
    """Takes any amount of bytes and keeps a bounded part: the first half and the last half of the limit.

    Memory never exceeds the limit by more than a block and the piece that is being added.

    Args:
        limit_bytes: how much is kept.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._head_room = limit_bytes // 2
        self._tail_limit = limit_bytes - limit_bytes // 2
        self._head = bytearray()
        self._tail: deque[bytearray] = deque()
        self._tail_bytes = 0
        self._dropped = 0

    def add(self, data: bytes) -> None:
        """Take what the job has just written."""
        if self._head_room:
            part = data[: self._head_room]
            self._head += part
            self._head_room -= len(part)
            data = data[len(part) :]
            if not data:
                return
        tail = self._tail
        if tail and len(tail[-1]) + len(data) <= BLOCK_BYTES:
            tail[-1] += data
        else:
            tail.append(bytearray(data))
        self._tail_bytes += len(data)
        while tail and self._excess() >= len(tail[0]):
            self._drop(len(tail.popleft()))

    @property
    def size(self) -> int:
        """How many bytes the job has written."""
        return len(self._head) + self._dropped + self._tail_bytes

    def read(self, at: int, most: int) -> tuple[int, bytes]:
        """Give at most *most* bytes from byte number *at* on, in one piece as it lies here.

        Returns:
            how many bytes from there on are not kept any more, and what comes behind these; nothing at the end.
        """
        head = self._head
        if at < len(head):
            return 0, bytes(head[at : at + most])
        skipped = at - len(head) - self._dropped
        missed, skipped = max(0, -skipped), max(0, skipped)
        for block in self._tail:
            if skipped < len(block):
                return missed, bytes(block[skipped : skipped + most])
            skipped -= len(block)
        return 0, b""

    def render(self) -> bytes:
        """Join what was kept, with a line in the gap that tells how much is missing."""
        excess = self._excess()
        if excess > 0:  # less than the first block: `add` has dropped whole ones
            del self._tail[0][:excess]
            self._drop(excess)
        gap = f"\n[... {self._dropped} bytes of output dropped ...]\n".encode() if self._dropped else b""
        return b"".join((self._head, gap, *self._tail))

    def _excess(self) -> int:
        return self._tail_bytes - self._tail_limit

    def _drop(self, size: int) -> None:
        self._dropped += size
        self._tail_bytes -= size
