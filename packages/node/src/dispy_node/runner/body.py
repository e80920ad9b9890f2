"""The body of a result: value, error text and captured output, as the client reads it.

    body = value + error + stdout + stderr + trailer        trailer = lengths of the four

The trailer stands at the end so that output can be appended to a value that already lies in a file, in which
there is then one trailer less. A body in which everything is empty is empty itself. Daemons never look inside.
"""

from __future__ import annotations

import os
import struct

RETURNED = 0
"""The outcomes, numbered as in `dispy.model.Outcome`, which would import ``enum`` (a test compares them)."""
EXITED = 1
RAISED = 2
DIED = 3
BROKEN = 4
CANCELLED = 5
EXCEEDED = 6

TRAILER = struct.Struct("<QIII")
"""Lengths of value, error, stdout and stderr."""


def make_body(value: bytes = b"", error: bytes = b"", stdout: bytes = b"", stderr: bytes = b"") -> bytes:
    """Make a body."""
    if not (value or error or stdout or stderr):
        return b""
    return b"".join(
        (value, error, stdout, stderr, TRAILER.pack(len(value), len(error), len(stdout), len(stderr)))
    )


def split_body(body: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Undo `make_body`.

    Raises:
        ValueError: the lengths do not fit.
    """
    if not body:
        return b"", b"", b"", b""
    if len(body) < TRAILER.size:
        raise ValueError("the body of a result is too short")
    value, error, stdout, stderr = TRAILER.unpack_from(body, len(body) - TRAILER.size)
    if value + error + stdout + stderr + TRAILER.size != len(body):
        raise ValueError("the lengths in the body of a result do not fit")
    first, second, third = value + error, value + error + stdout, len(body) - TRAILER.size
    return body[:value], body[value:first], body[first:second], body[second:third]


def write_body(path: str, parts: tuple[bytes, ...]) -> None:
    """Write a new file, readable by its owner only; on failure nothing is left.

    Raises:
        OSError: it could not be written, such as on a full disk.
    """
    try:
        target = _create(path)
    except FileExistsError:
        # Left by a process that was killed while it wrote: names belong to one attempt each, nobody reads this.
        os.unlink(path)
        target = _create(path)
    try:
        try:
            _write_all(target, parts)
        finally:
            os.close(target)
    except OSError:
        os.unlink(path)
        raise


def append_output(path: str, stdout: bytes, stderr: bytes) -> None:
    """Put captured output into a body that lies in a file and has none yet; on failure the file is removed.

    Raises:
        OSError: it could not be written.
        ValueError: the file does not end in a trailer.
    """
    target = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        end = os.fstat(target).st_size - TRAILER.size
        if end < 0:
            raise ValueError("the body of a result is too short")
        value, error, _, _ = TRAILER.unpack(os.pread(target, TRAILER.size, end))
        os.lseek(target, end, os.SEEK_SET)
        _write_all(target, (stdout, stderr, TRAILER.pack(value, error, len(stdout), len(stderr))))
    except (OSError, ValueError):
        os.unlink(path)
        raise
    finally:
        os.close(target)


def _create(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _write_all(target: int, parts: tuple[bytes, ...]) -> None:
    for part in parts:
        view = memoryview(part)
        while view:
            view = view[os.write(target, view) :]
