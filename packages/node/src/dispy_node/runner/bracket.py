"""What runs in the runner itself: ``setup`` before the first job, ``cleanup`` after the last.

Only runners whose computation has one of them import this module. What they print goes where the runner's own
output goes, which the daemon reads then.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

from dispy_node.runner import explain
from dispy_node.runner.bare import Libc, loads, signals
from dispy_node.runner.child import open_streams
from dispy_node.runner.frames import CLEANUP, SETUP, SHUTDOWN, frame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dispy_node.runner.namespace import Computation
    from dispy_node.runner.settings import Settings

GOOD = (0, 1, 2)
"""What setup may return. The original forked jobs from different processes for these; here there is only one."""
CLEANUP_S = 12
"""After so many seconds a cleanup that does not end is ended by the kernel, should the daemon not have done it
earlier because it is gone."""


class Bracket:
    """Calls ``setup`` and ``cleanup`` of a computation.

    Args:
        computation: whose they are.
        arguments: pickled positional arguments for both, as those of a job; empty if there are none.
        settings: what the daemon said.
        control: the socket on which the daemon is told what begins, because it watches the time.
    """

    def __init__(self, computation: Computation, arguments: bytes, settings: Settings, control: int) -> None:
        self._computation = computation
        self._data = arguments
        self._arguments: tuple[Any, ...] | None = None
        self._settings = settings
        self._control = control
        self._process = os.getpid()

    def begin(self) -> str:
        """Call setup.

        Returns:
            why jobs cannot be run, or nothing.
        """
        self._tell(frame(SETUP))
        Libc().become_subreaper()  # programs that it starts and lets go of are to end with this runner
        place = self._settings.place
        try:
            self._arguments = loads(self._data)[0] if self._data else ()
        except Exception as error:
            return explain.setup_arguments(error, place)
        finally:
            self._data = b""
        setup = self._computation.setup
        if setup is None:
            return ""
        value, failure = self._call("setup", setup)
        if failure:
            return failure
        if not isinstance(value, int) or value not in GOOD:
            return explain.bad_setup(value, place)
        return ""

    def end(self) -> str:
        """Call cleanup, then exit handlers such as those that remove temporary folders; tell the daemon.

        Returns:
            what has gone wrong, or nothing.
        """
        signals.signal(signals.SIGALRM, signals.SIG_DFL)
        signals.alarm(CLEANUP_S)
        signals.pthread_sigmask(signals.SIG_UNBLOCK, (signals.SIGINT, signals.SIGTERM, signals.SIGALRM))
        if not self._tell(frame(CLEANUP)):
            _discard_output()
        gc.enable()
        failure = ""
        cleanup = self._computation.cleanup
        if cleanup is not None and self._arguments is not None:
            inside = self._computation.inside
            if inside is not None:
                inside.ask_end = lambda: self._tell(frame(SHUTDOWN))
            _, failure = self._call("cleanup", cleanup)
        _run_exit_handlers()
        if failure:
            self._tell(frame(CLEANUP, failure.encode("utf-8", "replace")))
        return failure

    def _call(self, role: str, function: Callable[..., object]) -> tuple[object, str]:
        """Call a function of the user's, and put back what jobs rely on; give its value, or else what is wrong."""
        assert self._arguments is not None
        value: object = None
        failure = ""
        streams = sys.stdout, sys.stderr
        try:
            value = function(*self._arguments)
        except BaseException as error:
            # SystemExit included: it is for this process, which is not the user's to end.
            failure = explain.prepared(role, error, self._settings.place, __file__, self._computation.sources)
        if os.getpid() != self._process:
            os._exit(0)  # it has forked, and its child came back here
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        sys.stdout, sys.stderr = streams
        if any(stream.closed for stream in streams):
            open_streams()
        try:
            os.chdir(self._settings.folder)
        except OSError as error:
            failure = (
                failure or f"{role} has made the folder of the computation unusable: {explain.brief(error)}"
            )
        return value, failure

    def _tell(self, data: bytes) -> bool:
        """Send to the daemon; return False if it is gone."""
        try:
            os.set_blocking(self._control, True)
            while data:
                data = data[os.write(self._control, data) :]
        except OSError:
            return False
        return True


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except Exception:
        # It is closed, or something strange is in its place; then there is nothing to flush.
        return


def _discard_output() -> None:
    """Have nobody stumble over a pipe that nobody reads any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)


def _run_exit_handlers() -> None:
    try:
        atexit._run_exitfuncs()
    except BaseException:
        # Older Pythons raise what the last handler has raised; all have printed it by now.
        return
