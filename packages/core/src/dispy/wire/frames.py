"""Bytes to frames and batches of messages, and back.

A connection carries, in each direction, the preface and then frames. A frame is a header (payload length,
channel) and a payload. Channel 0 is *control*: its payload is a batch, a msgpack array of messages. Any other
channel is the number of a stream, and the payload is a *chunk* of it: raw bytes.

    preface  "DISPY" CR LF NUL
    frame    u32 length, u32 channel, length bytes          (big endian; length > 0)

The first frame of each direction is the greeting and is held to `GREETING_BYTES`, so that a stranger cannot
make us gather more than that. Whatever is wrong with bytes of the peer is a `RemoteProtocolError`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import msgspec

from dispy.errors import LocalProtocolError, RemoteProtocolError
from dispy.model import CHUNK_BYTES, MAX_FRAME_BYTES
from dispy.wire.messages import (
    AckResults,
    AssignJobs,
    CancelJobs,
    JobResults,
    JobsRejected,
    JobsStarted,
    Message,
)

PREFACE = b"DISPY\r\n\0"
"""First bytes in each direction. CR LF shows a path that rewrites line ends, NUL one that carries text only."""

HEADER = struct.Struct(">II")
"""Payload length and channel of a frame."""

CONTROL = 0
"""Channel of batches."""

GREETING_BYTES = 16 * 1024
"""Largest first frame. A greeting has some 300 bytes; the rest is room for long names and many addresses."""

_ARRAY = struct.Struct(">BI")
"""Head of a msgpack "array 32", which every batch of ours has: its count can be filled in afterwards."""
_ARRAY_32 = 0xDD

_FOREIGNERS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    (
        (
            b"GET ",
            b"HEAD ",
            b"POST ",
            b"PUT ",
            b"DELETE ",
            b"OPTIONS ",
            b"PATCH ",
            b"CONNECT ",
            b"PRI * ",
            b"HTTP/",
        ),
        "looks like HTTP",
    ),
    (
        (b"\x16\x03",),
        "it is TLS, and this side is open: start it without --open, or have the other side use secret=dispy.OPEN",
    ),
    ((b"\x15\x03",), "it is TLS, and this side is open: have it use the key of the other side instead"),
    ((b"SSH-",), "looks like SSH"),
)
"""First bytes of other protocols, and what to say about them."""

_SPLITTABLE: dict[type[Message], str] = {
    AssignJobs: "jobs",
    CancelJobs: "attempts",
    JobsStarted: "starts",
    JobResults: "results",
    AckResults: "attempts",
    JobsRejected: "attempts",
}
"""Messages that mean the same when they are sent in parts -> the field that is divided."""

_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[Message])


class FrameDecoder:
    """Cuts the bytes of one direction of a connection into frames.

    Args:
        max_frame_bytes: largest payload of a batch; chunks are held to `CHUNK_BYTES`, the first frame to
            `GREETING_BYTES`.
    """

    __slots__ = ("_buffer", "_channel", "_chunk_left", "_greeted", "_max_frame_bytes", "_prefaced")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        """A preface, header or batch that has begun."""
        self._channel = CONTROL
        self._chunk_left = 0
        """Bytes that are still to come of a chunk on this channel."""
        self._prefaced = False
        self._greeted = False

    @property
    def is_between_frames(self) -> bool:
        """True if nothing of a preface or frame is waiting for its rest."""
        return not self._buffer and not self._chunk_left

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[int, bytes | memoryview]]:
        """Take bytes as they come and return what is there now, as (channel, payload).

        A batch is copied, once, when it is complete. What there is of a chunk is given at once, complete or not, as a
        view of *data*: most bytes are in chunks, and so are not copied at all. After an error the decoder is of no
        further use.

        Raises:
            RemoteProtocolError: another protocol, an empty frame, or one that is too large; that is found by
                the header alone, before anything is stored for the payload.
        """
        frames: list[tuple[int, bytes | memoryview]] = []
        view = memoryview(data)
        start, end = 0, len(view)
        buffer = self._buffer
        while start < end:
            if self._chunk_left:
                piece = view[start : start + self._chunk_left]
                self._chunk_left -= len(piece)
                start += len(piece)
                frames.append((self._channel, piece))
            elif buffer:
                # Of what was read, only the rest of what has begun passes through the buffer.
                stop = start + self._missing_bytes()
                buffer += view[start:stop]
                start = stop
                with memoryview(buffer) as whole:
                    done = self._cut(whole, 0, frames)
                del buffer[:done]
            else:
                start = self._cut(view, start, frames)
                if not self._chunk_left:
                    buffer += view[start:]
                    break
        return frames

    def _missing_bytes(self) -> int:
        """Return how many bytes the frame in the buffer lacks, or, before its length is known, its header."""
        buffer = self._buffer
        if not self._prefaced:
            return len(PREFACE) + HEADER.size - len(buffer)
        if len(buffer) < HEADER.size:
            return HEADER.size - len(buffer)
        length: int = HEADER.unpack_from(buffer)[0]
        return HEADER.size + length - len(buffer)

    def _cut(self, view: memoryview, start: int, frames: list[tuple[int, bytes | memoryview]]) -> int:
        """Add the complete batches from *start* on, up to the header of a chunk; return where what is left begins."""
        if not self._prefaced:
            head = bytes(view[start : start + len(PREFACE)])
            if not PREFACE.startswith(head):
                raise RemoteProtocolError(_describe_foreign(head))
            if len(head) < len(PREFACE):
                return start
            start += len(PREFACE)
            self._prefaced = True
        end = len(view)
        while end - start >= HEADER.size:
            length, channel = HEADER.unpack_from(view, start)
            self._check(length, channel)
            payload = start + HEADER.size
            if channel != CONTROL:
                self._channel, self._chunk_left = channel, length
                return payload
            if end - payload < length:
                break
            start = payload + length
            frames.append((channel, bytes(view[payload:start])))
            self._greeted = True
        return start

    def _check(self, length: int, channel: int) -> None:
        limit = self._max_frame_bytes if channel == CONTROL else CHUNK_BYTES
        if not self._greeted:
            limit = GREETING_BYTES
        if length > limit:
            raise RemoteProtocolError(
                f"peer announced a frame of {length} bytes on channel {channel}, the limit is {limit}"
            )
        if not length:
            raise RemoteProtocolError(f"peer sent an empty frame on channel {channel}")


def _describe_foreign(head: bytes) -> str:
    """Tell what bytes that are not our preface probably are."""
    text = f"peer sent {head!r}, which is not the dispy protocol"
    for beginnings, hint in _FOREIGNERS:
        if any(head.startswith(beginning[: len(PREFACE)]) for beginning in beginnings):
            return f"{text} ({hint})"
    return text


def encode_chunk_header(stream: int, size_bytes: int) -> bytes:
    """Return what precedes a chunk of *size_bytes* bytes of a stream; the chunk itself need not be copied."""
    return HEADER.pack(size_bytes, stream)


def encode_batch(messages: Sequence[Message], max_frame_bytes: int = MAX_FRAME_BYTES) -> list[bytearray]:
    """Return *messages* as frames: one batch, or several where it would be larger than *max_frame_bytes*.

    Messages keep their order. A message that is too large by itself is sent in parts if it is a list of things
    that can as well be told apart (`AssignJobs`, `JobResults`, ...).

    Raises:
        LocalProtocolError: a message is too large and has no parts, or cannot be encoded.
    """
    return encode_some(messages, max_frame_bytes, math.inf)[0]


def encode_some(
    messages: Sequence[Message], max_frame_bytes: int, enough_bytes: float
) -> tuple[list[bytearray], int]:
    """Do as `encode_batch`, but stop when there are *enough_bytes*; return the frames and how many messages they have.

    At least one message is, if there is one.

    Raises:
        LocalProtocolError: a message is too large and has no parts, or cannot be encoded.
    """
    frames: list[bytearray] = []
    limit = HEADER.size + max_frame_bytes
    empty = HEADER.size + _ARRAY.size
    frame, count = bytearray(empty), 0
    sealed = done = 0
    for first in messages:
        if done and sealed + len(frame) >= enough_bytes:
            break
        done += 1
        todo = [first]
        while todo:
            message = todo.pop()
            before = len(frame)
            _append(message, frame)
            if len(frame) <= limit:
                count += 1
                continue
            # Too much. What came before it in the frame goes first, then it is tried alone, then in parts.
            size = len(frame) - before
            del frame[before:]
            if count:
                frames.append(_seal(frame, count))
                sealed += len(frame)
                frame, count = bytearray(empty), 0
                todo.append(message)
            else:
                todo.extend(reversed(_divide(message, size, max_frame_bytes)))
    if count:
        frames.append(_seal(frame, count))
    return frames, done


def _append(message: Message, frame: bytearray) -> None:
    try:
        _ENCODER.encode_into(message, frame, -1)
    except (TypeError, ValueError, OverflowError) as error:  # a lone surrogate is a ValueError
        raise LocalProtocolError(f"{type(message).__name__} cannot be encoded: {error}") from error


def _seal(frame: bytearray, count: int) -> bytearray:
    """Fill in the heads of a frame that holds *count* messages."""
    HEADER.pack_into(frame, 0, len(frame) - HEADER.size, CONTROL)
    _ARRAY.pack_into(frame, HEADER.size, _ARRAY_32, count)
    return frame


def _divide(message: Message, size_bytes: int, max_frame_bytes: int) -> list[Message]:
    """Divide a message of *size_bytes* so that the parts, if they are alike, fit."""
    field = _SPLITTABLE.get(type(message))
    items: list[object] = getattr(message, field) if field else []
    if not field or len(items) < 2:
        raise LocalProtocolError(
            f"{type(message).__name__} of {size_bytes} bytes does not fit into a frame of {max_frame_bytes} bytes"
        )
    parts = size_bytes // max_frame_bytes + 1
    step = -(-len(items) // max(parts, 2))
    return [
        msgspec.structs.replace(message, **{field: items[start : start + step]})
        for start in range(0, len(items), step)
    ]


def decode_batch(payload: bytes | memoryview) -> list[Message]:
    """Return the messages of a batch.

    Raises:
        RemoteProtocolError: it is no batch, is empty, or has a message of unknown kind or wrong shape.
    """
    try:
        messages = _DECODER.decode(payload)
    except (ValueError, RecursionError) as error:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        raise RemoteProtocolError(f"peer sent a batch that cannot be read: {error}") from error
    if not messages:
        raise RemoteProtocolError("peer sent an empty batch")
    return messages
