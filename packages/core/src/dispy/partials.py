"""The intermediate results of one job, on their way from the engine's thread to whoever wants them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

from dispy.packing.results import load_value
from dispy.packing.safe import decode


def decode_partial(body: bytes, *, safe: bool) -> Any:
    """Give the value of an intermediate result.

    Raises:
        JobBroken: it cannot be loaded here.
    """
    return decode(memoryview(body)) if safe else load_value(body)


class Partials:
    """Intermediate results that no `stream` has taken, in order.

    Attributes:
        shown: (thread, value): in that thread, which is in a callback, the job looks as it was when this came.
        last: the value that a callback has seen last.
    """

    __slots__ = ("_changed", "_ended", "_waiting", "last", "shown")

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._ended = False
        self.shown: tuple[int, Any] | None = None
        self.last: Any = None

    def add(self, body: bytes) -> None:
        """Take one more."""
        with self._changed:
            self._waiting.append(body)
            self._changed.notify_all()

    def end(self) -> None:
        """Let nobody wait for more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self, *, timeout: float | None) -> Iterator[bytes]:
        """Give one after another until the job has ended.

        Raises:
            TimeoutError: nothing came for so long (seconds).
        """
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._waiting or self._ended, timeout):
                    raise TimeoutError(f"no intermediate result and no end of the job within {timeout:g} s")
                if not self._waiting:
                    return
                body = self._waiting.popleft()
            yield body
