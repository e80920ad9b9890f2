"""Tells how far a file is that takes long to send."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from dispy.logger import logger
from dispy.model import FilePart
from dispy.runtime.sources import FileSource

FIRST_S = 5.0
"""Seconds after which it is told how far a file is; most are sent by then."""

AGAIN_S = 5.0
"""Seconds between two lines about a file."""


class ToldSource(FileSource):
    """A file that is sent, with a line in the log now and then that says how much has been read of it.

    Args:
        part: what is sent.
        node: whereto, for people.
        clock: gives the time in seconds.
    """

    def __init__(self, part: FilePart, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(part.path, part)
        self._part = part
        self._node = node
        self._clock = clock
        self._read_bytes = 0
        self._began_at = 0.0
        self._due_at = 0.0

    def read(self, size_bytes: int) -> bytes:
        """Return the next piece; raises as `FileSource`."""
        data = super().read(size_bytes)
        now = self._clock()
        if not self._read_bytes:
            self._began_at, self._due_at = now, now + FIRST_S
        self._read_bytes += len(data)
        if now >= self._due_at:
            self._due_at = now + AGAIN_S
            self._tell(now - self._began_at)
        return data

    def _tell(self, seconds: float) -> None:
        part = self._part
        percent = 100 * (part.skip + self._read_bytes) // max(1, part.size)
        rate = self._read_bytes / max(seconds, 1e-3) / 1e6
        logger.info(
            "sending %s to node %s: %d %%, %.3g MB/s", os.path.basename(part.path), self._node, percent, rate
        )
