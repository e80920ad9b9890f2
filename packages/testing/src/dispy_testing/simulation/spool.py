"""A spool folder without a disk, as far as `dispy_node.spooling` and the simulated runners use one."""

from __future__ import annotations

import random

from dispy_node.engine.records import Spooled


class SimulatedSpool:
    """Files by their names.

    Args:
        rng: decides when the disk is full.
        failures: share of files that cannot be written.
    """

    def __init__(self, rng: random.Random, failures: float) -> None:
        self.files: dict[str, bytes] = {}
        self.failures = failures
        self._rng = rng
        self._made = 0

    def open_spool(self, size_bytes: int) -> SimulatedWriter:
        """Start a file.

        Raises:
            OSError: the disk is full.
        """
        if self.failures and self._rng.random() < self.failures:
            raise OSError(28, "no space left on device")
        self._made += 1
        return SimulatedWriter(self, f"in-{self._made}")

    def reopen_spool(self, begun: Spooled, size_bytes: int) -> SimulatedWriter:
        """Go on with a file.

        Raises:
            OSError: the disk is broken.
        """
        if self.failures and self._rng.random() < self.failures:
            raise OSError(5, "input/output error")
        return SimulatedWriter(self, begun.path, self.files.pop(begun.path))

    def store(self, data: bytes) -> Spooled:
        """Write a file at once."""
        self._made += 1
        name = f"out-{self._made}"
        self.files[name] = data
        return Spooled(name, len(data))

    def take(self, spooled: Spooled) -> bytes:
        """Read a file and remove it."""
        return self.files.pop(spooled.path)

    def remove_spooled(self, spooled: Spooled) -> None:
        """Remove a file, which may be gone already."""
        self.files.pop(spooled.path, None)


class SimulatedWriter:
    """A file that is being written."""

    def __init__(self, spool: SimulatedSpool, name: str, begun: bytes = b"") -> None:
        self._spool = spool
        self._name = name
        self._data = bytearray(begun)

    @property
    def written_bytes(self) -> int:
        """Bytes so far."""
        return len(self._data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append."""
        self._data += data

    def finish(self) -> Spooled:
        """Let the file stay."""
        self._spool.files[self._name] = bytes(self._data)
        return Spooled(self._name, len(self._data))

    def abandon(self) -> None:
        """Nobody wants it."""


class SpoolSource:
    """A spool file as the source of a stream, opened when it is first read, as a real one is."""

    def __init__(self, spool: SimulatedSpool, spooled: Spooled) -> None:
        self._spool = spool
        self._name = spooled.path
        self._data: bytes | None = None
        self._read = 0

    def read(self, size: int) -> bytes:
        """Return the next piece.

        Raises:
            OSError: the file is gone.
        """
        if self._data is None:
            if self._name not in self._spool.files:
                raise OSError(2, f"no file {self._name}")
            self._data = self._spool.files[self._name]
        piece = self._data[self._read : self._read + size]
        self._read += len(piece)
        return piece

    def close(self) -> None:
        """Nothing is held."""
