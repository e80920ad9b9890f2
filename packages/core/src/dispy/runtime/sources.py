"""Where the bytes of outgoing streams come from: memory or a file."""

from __future__ import annotations

import os
from typing import BinaryIO

from dispy.model import FilePart, Pieces
from dispy.wire.session import StreamSource


class BytesSource:
    """Bytes in memory, cut without copying."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def read(self, size_bytes: int) -> memoryview:
        """Return the next piece."""
        piece = self._rest[:size_bytes]
        self._rest = self._rest[size_bytes:]
        return piece

    def close(self) -> None:
        """Let go of the bytes."""
        self._rest.release()


class FileSource:
    """A file, opened at the first read and closed at the end.

    Args:
        path: where it is.
        expected: what it was like when it was announced; None if nobody can change it.

    An error while opening or reading, or a file that has changed, is raised as OSError, which ends the stream with
    that reason.
    """

    def __init__(self, path: str, expected: FilePart | None = None) -> None:
        self._path = path
        self._expected = expected
        self._left = 0 if expected is None else len(expected)
        self._file: BinaryIO | None = None

    def read(self, size_bytes: int) -> bytes:
        """Return the next piece; b"" at the end of the file."""
        if self._file is None:
            self._file = open(self._path, "rb", buffering=0, opener=_open_at_once)  # noqa: SIM115 (see close)
            self._check()
            if self._expected is not None and self._expected.skip:
                self._file.seek(self._expected.skip)
        data = self._file.read(size_bytes)
        self._left -= len(data)
        if not data or not self._left:
            self._check()
        return data

    def _check(self) -> None:
        assert self._file is not None
        if self._expected is not None:
            status = os.fstat(self._file.fileno())
            if (status.st_size, status.st_mtime) != (self._expected.size, self._expected.modified_at):
                raise OSError(
                    f"file {self._path!r} has changed since it was named; make it complete before that"
                )

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class PiecesSource:
    """Bytes in several parts, cut without copying; what is read never crosses from one part into the next."""

    def __init__(self, pieces: Pieces) -> None:
        self._waiting = [part for part in reversed(pieces.parts) if len(part)]
        self._rest = memoryview(b"")
        self._file: FileSource | None = None
        self._file_left = 0

    def read(self, size_bytes: int) -> bytes | memoryview:
        """Return the next piece, which may be shorter than asked for before the end; raises as `FileSource`."""
        if not self._rest and self._file is None and self._waiting:
            part = self._waiting.pop()
            if isinstance(part, FilePart):
                self._file, self._file_left = FileSource(part.path, part), len(part)
            else:
                self._rest = memoryview(part)
        if self._file is not None:
            return self._read_file(self._file, size_bytes)
        piece = self._rest[:size_bytes]
        self._rest = self._rest[size_bytes:]
        return piece

    def _read_file(self, file: FileSource, size_bytes: int) -> bytes:
        data = file.read(min(size_bytes, self._file_left))
        self._file_left -= len(data)
        if not self._file_left:
            file.close()
            self._file = None
        return data

    def close(self) -> None:
        """Let go of the bytes."""
        self._waiting.clear()
        self._rest.release()
        if self._file is not None:
            self._file.close()


def open_source(source: bytes | FilePart | Pieces) -> StreamSource:
    """Make the source of a stream from bytes, or from a file."""
    if isinstance(source, FilePart):
        return FileSource(source.path, source)
    return PiecesSource(source) if isinstance(source, Pieces) else BytesSource(source)


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting, as a named pipe that has taken the place of a file would make us do."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
