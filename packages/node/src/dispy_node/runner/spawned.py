"""A child that was not forked: a fresh interpreter, which loads the computation itself.

It is told on its command line which descriptors are its own, and where the rest stands that it needs. When it can
take a job it says so (`replies.BORN`); from then on it is like any other child.
"""

from __future__ import annotations

import os
import sys

from dispy_node.runner import explain
from dispy_node.runner.bare import Libc, loads, signals
from dispy_node.runner.child import CELLS_BYTES, ChannelClosed, Child, Worker, open_streams
from dispy_node.runner.frames import KEY
from dispy_node.runner.inside import Inside
from dispy_node.runner.namespace import load
from dispy_node.runner.replies import BORN, reply
from dispy_node.runner.settings import Settings, read_settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Never

    from dispy_node.runner.namespace import Computation

COMMAND = (
    "import sys; sys.path[:] = [part for part in sys.path if part]; "
    "from dispy_node.runner.spawned import main; main()"
)
"""What the interpreter is to execute. Its own modules must not come from the working folder, which is that of jobs."""


def main() -> Never:
    """Live the life of a child; never returns."""
    channel, stdout, stderr, cells, parent = map(int, sys.argv[1:6])
    status = 1
    try:
        os.setsid()
        libc = Libc()
        if libc.die_with_parent(load=True) and os.getppid() != parent:
            os._exit(1)  # the runner ended before the kernel knew that this one must follow
        for descriptor in (channel, stdout, stderr):
            os.set_inheritable(descriptor, False)
        child = _prepare(channel, sys.argv[6], libc)
        for descriptor, standard in ((stdout, 1), (stderr, 2)):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        shared = None
        if isinstance(child, Worker):
            import mmap

            shared = mmap.mmap(cells, CELLS_BYTES)
            os.close(cells)
        _tell(channel, "")
        signals.pthread_sigmask(signals.SIG_UNBLOCK, (signals.SIGINT, signals.SIGTERM))
        if shared is not None and isinstance(child, Worker):
            child.serve(channel, shared)
        else:
            child.serve_one(channel)
        status = 0
    except ChannelClosed:
        status = 0
    except KeyboardInterrupt:
        # Cancelled before its first line or after its last one. The runner knows what to make of it.
        status = 130
    except BaseException:
        # The runner tells the user that the process has ended without a result; this is the reason.
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(status)


def _prepare(channel: int, path: str, libc: Libc) -> Child:
    """Load what jobs need; if that cannot be done, tell the runner and exit."""
    with open(path, "rb") as file:
        given = loads(file.read())
    settings = read_settings(given["settings"])
    open_streams()
    if settings.program:
        return Child(settings, None, libc, len(sys.modules))
    sys.path[:], sys.argv[:] = given["path"], given["argv"]
    if given["authkey"]:
        from multiprocessing import current_process

        current_process().authkey = given["authkey"]
    known = len(sys.modules)
    try:
        computation = _load(settings, given)
    except BaseException as error:
        # Whatever code of the user does at import, SystemExit included.
        _tell(channel, explain.not_born(error, settings.place))
        os._exit(1)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    modules = len(sys.modules) if len(sys.modules) == known else -1
    child = (Worker if settings.reuse else Child)(settings, computation, libc, modules)
    child.connect(computation)
    return child


def _load(settings: Settings, given: dict[str, Any]) -> Computation:
    computation = load(given["code"], Inside(settings))
    sys.modules["__mp_main__"] = sys.modules["__main__"]  # as multiprocessing calls it where it does not fork
    if given["memory"]:
        from dispy_node.runner.handover import restore

        restore(given["memory"])
    computation.lacking = given["left"]
    return computation


def _tell(channel: int, failure: str) -> None:
    """Tell the runner that jobs may come, or why none may."""
    data = reply(BORN, KEY.pack(0, 0) + failure.encode("utf-8", "replace"))
    while data:
        data = data[os.write(channel, data) :]
