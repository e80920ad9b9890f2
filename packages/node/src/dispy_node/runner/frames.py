"""What node daemon and runner say to each other, over the runner's control socket.

A frame is a kind (one byte), a length (four bytes, little endian) and a payload. The daemon treats arguments
and results as opaque bytes and never unpickles; the runner imports no third-party module for this. Frames are
plain structs, so that a batch of tiny jobs costs microseconds on both sides.

    daemon to runner    CONFIGURE (JSON), SETUP (arguments), LOAD (code), RUN (jobs), SLOTS, CANCEL (attempts), CLOSE,
                        TAKEN (answer to news), LIMITS (of jobs that the next RUN brings), WATCH (of a job that runs),
                        RECALL (attempts; those that have not started are ended as cancelled, without a start),
                        GRANT (of jobs that the next RUN brings, which start at once, whatever SLOTS says)
    runner to daemon    READY, FAILED (text), STARTED (starts), ENDED (results), SLOTS, LOG (text),
                        NEWS (of a job that runs), SAID (line of a job), SETUP (it begins),
                        CLEANUP (it begins, or with a text: it has failed), OUTPUT (for a WATCH),
                        SHUTDOWN (cleanup wants the node to end)

SETUP goes to the runner only if there are arguments, and comes from it only if there is setup or cleanup.

A runner ends after CLOSE, or when the daemon's end of the socket closes: then it kills every job at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

CONFIGURE = 1
LOAD = 2
RUN = 3
SLOTS = 4
CANCEL = 5
CLOSE = 6
READY = 7
FAILED = 8
STARTED = 9
ENDED = 10
LOG = 11
NEWS = 12
SAID = 13
TAKEN = 14
SETUP = 15
CLEANUP = 16
LIMITS = 17
WATCH = 18
OUTPUT = 19
RECALL = 20
SHUTDOWN = 21
GRANT = 22

HEADER = struct.Struct("<BI")
"""Kind and payload length of a frame."""
JOB = struct.Struct("<QIBI")
"""Job, attempt, how the body comes (see `SPOOLED`, `CARRIES`), length of the bytes that follow."""
SPOOLED = 1
"""Flag of a job's body: the bytes are the path of a spool file with it."""
CARRIES = 4
"""Flag of a job's body: in it are files or code for this job only, see `carried`."""
EQUIP = 8
"""In place of these, in GRANT and to a child before the job: variables that the next job has, as `NAME=VALUE` each
followed by a zero byte."""
EQUIP_ANEW = 9
"""The same, for a job that needs a process which has run no other."""
KEY = struct.Struct("<QI")
"""Job and attempt."""
START = struct.Struct("<QId")
"""Job, attempt, start in seconds since the epoch."""
RESULT = struct.Struct("<QIBiddIBI")
"""Job, attempt, outcome, code, start, end, length of detail, 1 if the body is the path of a file, its length."""
LIMIT = struct.Struct("<QIddQI")
"""Job, attempt, seconds from its start, seconds of processors' time, bytes of memory, processes; 0 is no limit."""
COUNT = struct.Struct("<I")
NEWS_HEAD = struct.Struct("<QIIBId32sBHI")
"""Job, attempt, number, kind, mode, time of modification, hash, 1 if the body is the path of a spool file, length of
the path, length of the body."""
TAKEN_HEAD = struct.Struct("<QIIB")
"""Job, attempt, number, 1 if it is taken."""
WATCH_HEAD = struct.Struct("<QIIBqq")
"""Job, attempt, number of the watch, descriptor, first byte or -1 to go on, limit or -1 to end; see `watching`."""
OUTPUT_HEAD = struct.Struct("<QIIQQ")
"""Job, attempt, number of the watch, place of the first byte that follows, how many before it are missing."""
LEVEL = struct.Struct("<B")
"""Level of a line, as `logging` has them."""

PARTIAL = 0
"""Kinds of news, numbered as in `dispy.wire.messages`: an intermediate result."""
FILE = 1
LOGGED = 2
"""A record of `logging`, which is not answered."""

ANSWER = 3
"""To a child, in place of what says how the body of a job comes: the rest of a TAKEN, from the number on."""

Start = tuple[int, int, float]
Limit = tuple[int, int, float, float, int, int]
Result = tuple[int, int, int, int, float, float, str, bool, bytes]
"""Job, attempt, outcome, code, start, end, detail, body is a path, body."""
News = tuple[int, int, int, int, str, int, float, bytes, bool, bytes]
"""Job, attempt, number, kind, path, mode, time of modification, hash, body is a path, body."""


class FrameReader:
    """Cuts a byte stream into frames.

    Args:
        limit: longest payload in bytes that is taken.
    """

    def __init__(self, limit: int = 0xFFFFFFFF) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[int, bytes]]:
        """Take bytes as they come; return the frames that are complete, as (kind, payload).

        Raises:
            ValueError: a frame is longer than the limit.
        """
        buffer = self._buffer
        buffer += data
        frames = []
        start, size = 0, HEADER.size
        while len(buffer) - start >= size:
            kind, length = HEADER.unpack_from(buffer, start)
            if length > self._limit:
                raise ValueError(f"a frame of {length} bytes; at most {self._limit} are taken")
            end = start + size + length
            if len(buffer) < end:
                break
            frames.append((kind, bytes(memoryview(buffer)[start + size : end])))
            start = end
        if start:
            del buffer[:start]
        return frames


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Make a frame."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_jobs(jobs: list[tuple[int, int, int, bytes]]) -> bytes:
    """Make the payload of RUN: (job, attempt, how its body comes, body) each."""
    parts = []
    for job, attempt, kind, body in jobs:
        parts.append(JOB.pack(job, attempt, kind, len(body)))
        parts.append(body)
    return b"".join(parts)


def unpack_jobs(payload: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Undo `pack_jobs`."""
    offset, size = 0, JOB.size
    while offset < len(payload):
        job, attempt, kind, length = JOB.unpack_from(payload, offset)
        offset += size
        yield job, attempt, kind, payload[offset : offset + length]
        offset += length


def pack_result(result: Result) -> bytes:
    """Make one record of the payload of ENDED."""
    job, attempt, outcome, code, started_at, ended_at, detail, is_path, body = result
    text = detail.encode("utf-8", "replace")
    head = RESULT.pack(job, attempt, outcome, code, started_at, ended_at, len(text), is_path, len(body))
    return head + text + body


def unpack_results(payload: bytes) -> Iterator[Result]:
    """Undo joined `pack_result` records.

    Raises:
        struct.error, ValueError: the payload ends within a record.
    """
    offset, size = 0, RESULT.size
    while offset < len(payload):
        job, attempt, outcome, code, started_at, ended_at, detail_length, is_path, length = (
            RESULT.unpack_from(payload, offset)
        )
        offset += size
        if offset + detail_length + length > len(payload):
            raise ValueError(f"the result of job {job} is cut off")
        detail = payload[offset : offset + detail_length].decode("utf-8", "replace") if detail_length else ""
        offset += detail_length
        body = payload[offset : offset + length]
        offset += length
        yield job, attempt, outcome, code, started_at, ended_at, detail, bool(is_path), body


def pack_news(
    key: bytes,
    number: int,
    kind: int,
    *,
    body: bytes,
    is_path: bool = False,
    path: str = "",
    mode: int = 0,
    modified_at: float = 0.0,
    digest: bytes = b"",
) -> bytes:
    """Make the payload of NEWS."""
    place = path.encode()
    head = NEWS_HEAD.pack(
        *KEY.unpack(key), number, kind, mode, modified_at, digest, is_path, len(place), len(body)
    )
    return head + place + body


def unpack_news(payload: bytes) -> News:
    """Undo `pack_news`.

    Raises:
        struct.error, ValueError: the payload is none.
    """
    job, attempt, number, kind, mode, modified_at, digest, is_path, place_length, length = (
        NEWS_HEAD.unpack_from(payload)
    )
    start = NEWS_HEAD.size + place_length
    if start + length != len(payload):
        raise ValueError(f"lengths in news of job {job} do not fit")
    place = payload[NEWS_HEAD.size : start].decode()
    return job, attempt, number, kind, place, mode, modified_at, digest, bool(is_path), payload[start:]


def pack_keys(keys: list[tuple[int, int]]) -> bytes:
    """Make the payload of CANCEL or RECALL."""
    return b"".join(KEY.pack(job, attempt) for job, attempt in keys)


def unpack_keys(payload: bytes) -> list[tuple[int, int]]:
    """Undo `pack_keys`."""
    return list(KEY.iter_unpack(payload))


def pack_starts(starts: list[Start]) -> bytes:
    """Make the payload of STARTED."""
    return b"".join(START.pack(*start) for start in starts)


def unpack_starts(payload: bytes) -> list[Start]:
    """Undo `pack_starts`."""
    return list(START.iter_unpack(payload))


def pack_limits(limits: list[Limit]) -> bytes:
    """Make the payload of LIMITS."""
    return b"".join(LIMIT.pack(*limit) for limit in limits)


def unpack_limits(payload: bytes) -> list[Limit]:
    """Undo `pack_limits`."""
    return list(LIMIT.iter_unpack(payload))
