"""Where the bytes of outgoing streams come from: memory or a file."""

from __future__ import annotations

from typing import BinaryIO

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


def open_source(source: bytes | str) -> StreamSource:
    """Make the source of a stream from bytes, or from the path of a file."""
    return BytesSource(source) if isinstance(source, bytes) else FileSource(source)
