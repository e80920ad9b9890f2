"""Where the bytes of outgoing streams come from: memory or a file."""

from __future__ import annotations

from typing import BinaryIO

from dispy.model import Pieces
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


class PiecesSource:
    """Bytes in several parts, cut without copying; what is read never crosses from one part into the next."""

    def __init__(self, pieces: Pieces) -> None:
        self._waiting = [part for part in reversed(pieces.parts) if part]
        self._rest = memoryview(b"")

    def read(self, size_bytes: int) -> memoryview:
        """Return the next piece, which may be shorter than asked for before the end."""
        if not self._rest and self._waiting:
            self._rest = memoryview(self._waiting.pop())
        piece = self._rest[:size_bytes]
        self._rest = self._rest[size_bytes:]
        return piece

    def close(self) -> None:
        """Let go of the bytes."""
        self._waiting.clear()
        self._rest.release()


class FileSource:
    """A file, opened at the first read and closed at the end.

    An error while opening or reading is raised as OSError, which ends the stream with that reason.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def read(self, size_bytes: int) -> bytes:
        """Return the next piece; b"" at the end of the file."""
        if self._file is None:
            self._file = open(self._path, "rb", buffering=0)  # noqa: SIM115 (closed by close)
        return self._file.read(size_bytes)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def open_source(source: bytes | str | Pieces) -> StreamSource:
    """Make the source of a stream from bytes, or from the path of a file."""
    if isinstance(source, Pieces):
        return PiecesSource(source)
    return BytesSource(source) if isinstance(source, bytes) else FileSource(source)
