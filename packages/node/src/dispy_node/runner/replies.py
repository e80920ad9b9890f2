"""What runner and child say to each other over the child's channel.

To the child go records as in the payload of RUN: `frames.JOB` and the body, where the byte that says how the body
comes is INLINE or has the flags `frames.SPOOLED` and `frames.CARRIES`, or is GO_ON in a record without a job. From it
come replies: `HEAD`, then a result as in the payload of ENDED, or, if the job was skipped, its `frames.KEY` alone; and
while a job runs, what it tells, as in the payload of NEWS or SAID. NEWS is answered by a record without arguments,
`frames.ANSWER`. A job without output costs the runner no more than cutting these bytes out and passing them on. A child
that was not forked says first that it is there (BORN).
"""

from __future__ import annotations

import struct

from dispy_node.runner.frames import JOB, KEY, RESULT

INLINE = 0
GO_ON = 2
"""The runner has read all output of the last job: the worker may start the next."""
GO_ON_RECORD = JOB.pack(0, 0, GO_ON, 0)

HEAD = struct.Struct("<BIB")
"""`MAGIC`, length of what follows, flags."""
MAGIC = 0xD1
"""First byte of each reply, so that nearly all foreign bytes are noticed at once."""
OUTPUT_WAITS = 1
"""There is output in the pipes. A worker waits for GO_ON before its next job."""
SKIPPED = 2
"""The job was withdrawn before it was started."""
INTERRUPTED = 4
"""KeyboardInterrupt ended the job."""
NEWS = 8
"""It is no result, but news of the job that runs."""
SAID = 16
"""It is a line of the job that runs."""
BORN = 32
"""A child that was not forked is there, and can take jobs; or, with a text behind the key, cannot, and exits."""

DETAIL_BYTES = 64 * 1024
"""Details are cut to this length."""
KEY_BYTES = KEY.size
OUTCOME_AT = 12
"""Where the outcome stands in a result: after its key."""


Reply = tuple[int, bytes]
"""Flags and record."""


class GarbledReplies(Exception):
    """A child sent what no child sends: the job has written to a descriptor that is not its own."""


_LENGTHS = struct.Struct("<IBI")
_LENGTHS_AT = RESULT.size - _LENGTHS.size


def is_whole(record: bytes) -> bool:
    """Tell whether a result is as long as it says: the daemon will rely on it."""
    if len(record) < RESULT.size:
        return False
    detail, _, body = _LENGTHS.unpack_from(record, _LENGTHS_AT)
    return RESULT.size + int(detail) + int(body) == len(record)


def reply(flags: int, record: bytes) -> bytes:
    """Make a reply."""
    return HEAD.pack(MAGIC, len(record), flags) + record


def cut_replies(data: bytes, inline_bytes: int) -> tuple[list[Reply], bytes, str]:
    """Cut replies out of *data*.

    Returns:
        the replies, the incomplete rest, and what is wrong with that; empty if it is the beginning of a reply.
    """
    found: list[Reply] = []
    start, size, available = 0, HEAD.size, len(data)
    longest = RESULT.size + DETAIL_BYTES + inline_bytes
    while available - start >= size:
        magic, length, flags = HEAD.unpack_from(data, start)
        if magic != MAGIC or not KEY_BYTES <= length <= longest:
            return found, data[start:], f"a reply of kind {magic} with {length} bytes"
        end = start + size + length
        if end > available:
            break
        found.append((flags, data[start + size : end]))
        start = end
    garbage = f"a reply of kind {data[start]}" if start < available and data[start] != MAGIC else ""
    return found, data[start:] if start else data, garbage


def split_result(record: bytes) -> tuple[int, float, float, bytes, bool, bytes]:
    """Take a result apart: outcome's code, start, end, detail, whether the body is a path, body.

    Raises:
        GarbledReplies: lengths in it do not fit.
    """
    if len(record) < RESULT.size:
        raise GarbledReplies(f"a result of {len(record)} bytes")
    _, _, _, code, started_at, ended_at, detail, is_path, length = RESULT.unpack_from(record)
    at = RESULT.size + detail
    if at + length != len(record):
        raise GarbledReplies("lengths in a result do not fit")
    return code, started_at, ended_at, record[RESULT.size : at], bool(is_path), record[at:]


def make_result(
    key: bytes, outcome: int, code: int, times: tuple[float, float], detail: bytes, is_path: bool, body: bytes
) -> bytes:
    """Make a result for the payload of ENDED, as `frames.pack_result` does."""
    job, attempt = KEY.unpack(key)
    detail = detail[:DETAIL_BYTES]
    return RESULT.pack(job, attempt, outcome, code, *times, len(detail), is_path, len(body)) + detail + body
