"""Wakes the engine's thread from others, once for however much there is to tell it."""

from __future__ import annotations

from collections.abc import Callable

import trio


class Waker:
    """Has a function called in a trio thread.

    Trio writes to a socket each time that it is asked for a call, also for one that it has promised already, and that
    costs more than all the rest of a submission.

    Args:
        token: of the trio run.
        function: it is called after each `wake`, perhaps once for several. It must not raise.
    """

    def __init__(self, token: trio.lowlevel.TrioToken, function: Callable[[], None]) -> None:
        self._token = token
        self._function = function
        self._is_asked = False

    def wake(self) -> None:
        """Have the function called soon, after all that was done before this; safe from any thread.

        Raises:
            trio.RunFinishedError: the run has ended.
        """
        if self._is_asked:  # trio makes every call that it has accepted, also when it ends
            return
        try:
            self._is_asked = True
            self._token.run_sync_soon(self._call)
        except BaseException:  # Ctrl-C at any point above: to be called once too often does no harm
            self._is_asked = False
            raise

    def _call(self) -> None:
        # First: whoever has seen that a call was asked for has done his part before, and the function finds it.
        self._is_asked = False
        self._function()
