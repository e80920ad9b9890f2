"""Runs the user's callbacks, in order, in a thread of their own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from dispy.logger import logger


class CallbackThread:
    """Calls functions one after the other; an exception in one is logged and stops nothing (A117).

    It is started at once, because no thread can be started while the interpreter ends.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="dispy-callbacks", daemon=True)
        self._thread.start()

    def call_soon(self, function: Callable[[], None]) -> None:
        """Queue a call."""
        self._calls.put(function)

    def is_current(self) -> bool:
        """Tell whether the caller runs in this thread, that is, in a callback."""
        return threading.current_thread() is self._thread

    def close(self, timeout_s: float) -> None:
        """Run what is queued and end the thread; from within a callback, without waiting for it."""
        self._calls.put(None)
        if not self.is_current():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while function := self._calls.get():
            try:
                function()
            except BaseException:  # sys.exit() must not end the thread that all callbacks run in
                logger.exception("a callback failed")
