"""Which thread may wait for jobs and clusters: any but the one that brings them forward."""

from __future__ import annotations

import threading

from dispy.errors import UsageError


class EngineThread(threading.Thread):
    """A thread that others wait for, so that waiting in it would never end."""


def check_may_wait(what: str) -> None:
    """Check that the caller may wait.

    Args:
        what: is called and would wait, for the message.

    Raises:
        UsageError: it runs in an engine's thread.
    """
    if isinstance(threading.current_thread(), EngineThread):
        raise UsageError(
            f"{what} would wait for ever here, in the thread that moves jobs on: do not call it in "
            "NodeAllocate.allocate or in a plugin's hook, but in a callback or in a thread of your own"
        )
