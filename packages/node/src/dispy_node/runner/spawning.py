"""Children that are not forked: each is a fresh interpreter, for which nothing of the runner's memory is left.

That takes tens of milliseconds and the import of all that the computation needs, so processes are started ahead; and
a job is given only to one that has told that it is there, so that its time and its limits count from then on. All
that children need stands in one file in the runner's private folder. Where the system cannot fork, this is the only
way; so nothing here, and nothing that is imported for it, asks for more at import.
"""

from __future__ import annotations

import os
import sys

from dispy_node.runner import explain
from dispy_node.runner.bare import READABLE, dumps
from dispy_node.runner.child import CELLS_BYTES
from dispy_node.runner.handover import Memory
from dispy_node.runner.offspring import Nursery, Offspring
from dispy_node.runner.pool import Pool
from dispy_node.runner.replies import BORN, KEY_BYTES, GarbledReplies
from dispy_node.runner.spawned import COMMAND
from dispy_node.runner.tree import kill_rest
from dispy_node.runner.workers import WorkerPool

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable

    from dispy_node.runner.bare import Libc, Poll
    from dispy_node.runner.namespace import Computation
    from dispy_node.runner.pool import Host
    from dispy_node.runner.replies import Reply
    from dispy_node.runner.settings import Settings
    from dispy_node.runner.tree import Strangers

FILE_NAME = "spawn"
"""In the runner's private folder: all that children are given."""


class Spawning:
    """What children of a runner are given at their start; made before ``setup`` is called.

    Args:
        settings: what the daemon said.
        code: the code bundle, or what is behind the name of a program.
        computation: that, loaded; None if there is only a program.
    """

    def __init__(self, settings: Settings, code: bytes, computation: Computation | None) -> None:
        self._settings = settings
        self._code = b"" if settings.program else code
        self._memory: Memory | None = None
        if computation is not None and computation.setup is not None and not settings.program:
            self._memory = Memory(computation.setup)
        self.path = os.path.join(settings.spool, FILE_NAME)

    def write(self) -> str:
        """Write it down, when setup has done its work; tell what has gone wrong, or nothing."""
        memory = b"" if self._memory is None else self._memory.pack()
        process = sys.modules.get("multiprocessing.process")
        data = dumps(
            {
                "settings": self._settings.text,
                "code": self._code,
                "memory": memory,
                "left": self.left,
                "path": sys.path,
                "argv": sys.argv,
                # With it, proxies of managers that setup has started work in children.
                "authkey": None if process is None else bytes(process.current_process().authkey),
            },
            5,
        )
        try:
            target = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(target, "wb") as file:
                file.write(data)
        except OSError as error:
            return explain.spool(error, "what processes of jobs start with", len(data), self._settings.place)
        return ""

    def make_nursery(
        self, computation: Computation | None, libc: Libc, poll: Poll
    ) -> tuple[Nursery, type[Pool]]:
        """Make what starts children, and tell which pool fits.

        Args:
            computation: what jobs call; None if they are runs of a program.
            libc, poll: as for `Nursery`.
        """
        nursery = SpawnNursery(self.path, self._settings, computation, libc, poll)
        return nursery, SpawnWorkerPool if self._settings.reuse and computation is not None else SpawnPool

    def remarks(self) -> list[str]:
        """Say what jobs do not have, for the operator."""
        return [
            f"jobs of {self._settings.computation!r} do not have {name!r}, which setup has set: {reason}"
            for name, reason in self.left.items()
        ]

    @property
    def left(self) -> dict[str, str]:
        """Global variables that setup has set and jobs do not have, with the reason."""
        return {} if self._memory is None else self._memory.left


class SpawnNursery(Nursery):
    """Starts children as fresh interpreters.

    Args:
        path: the file that tells them everything.
        settings, computation, libc, poll: as for `Nursery`.
    """

    def __init__(
        self, path: str, settings: Settings, computation: Computation | None, libc: Libc, poll: Poll
    ) -> None:
        super().__init__(settings, computation, libc, poll, (), True)
        self._path = path
        self._cells_end = -1
        self._command = [sys.executable, *_interpreter_options(), "-c", COMMAND]

    def fork(self, count: int, siblings: Iterable[int]) -> list[Offspring]:
        """Start children; see `Nursery.fork`."""
        born: list[Offspring] = []
        for _ in range(count):
            try:
                born.append(self._spawn())
            except OSError:
                if not born:
                    raise
                break
        return born

    def _spawn(self) -> Offspring:
        child, *ends = self._prepare()
        given = [*ends, self._cells_end]
        try:
            for descriptor in given:
                if descriptor >= 0:
                    os.set_inheritable(descriptor, True)
            arguments = [str(part) for part in (*given, os.getpid())]
            child.pid = os.posix_spawn(self._command[0], [*self._command, *arguments, self._path], os.environ)
        except OSError:
            for descriptor in (child.channel, child.stdout, child.stderr):
                os.close(descriptor)
            raise
        finally:
            self._cells_end = -1
            for descriptor in given:
                if descriptor >= 0:
                    os.close(descriptor)
        self._register(child)
        if self._program:
            self._poll.register(child.channel, READABLE)  # until it has told that it is there
        return child

    def _make_cells(self) -> mmap.mmap:
        end = _open_nameless(self._settings.spool)
        try:
            os.write(end, bytes(CELLS_BYTES))
            cells = self._map(end, CELLS_BYTES)
        except OSError:
            os.close(end)
            raise
        self._cells_end = end
        return cells


class _Spawned(Pool):
    """What is different for a pool whose children take time to be born."""

    def __init__(
        self, settings: Settings, nursery: Nursery, poll: Poll, strangers: Strangers, host: Host
    ) -> None:
        super().__init__(settings, nursery, poll, strangers, host)
        self._unborn: set[Offspring] = set()
        self._refused: dict[Offspring, str] = {}
        """Children that cannot take jobs, and why."""

    def top_up(self) -> None:
        """Start processes ahead of need, or dismiss those too many."""
        wanted = 0 if self.draining else self._idle_wanted()
        while len(self._idle) > wanted:
            self._family.dismiss(self._idle.pop())
        missing = wanted - len(self._idle) - len(self._unborn)
        if missing > 0:
            self._start(missing)

    def _fork(self, count: int) -> None:
        """See that one is under way; how many there should be, `top_up` knows."""
        if not self._unborn:
            self._start(count)

    def _start(self, count: int) -> None:
        before = len(self._idle)
        super()._fork(count)
        while len(self._idle) > before:
            self._unborn.add(self._idle.pop())

    def _heard(self, child: Offspring, replies: list[Reply]) -> None:
        if child in self._unborn and replies:
            flags, record = replies.pop(0)
            if flags != BORN:
                raise GarbledReplies("an answer before it was there")
            self._unborn.discard(child)
            if self._settings.program:
                self._family.forget(child.channel)  # it is closed when the program begins
            failure = record[KEY_BYTES:].decode("utf-8", "replace")
            if failure:
                self._refused[child] = failure
                return
            self._stillborn.end()
            self._idle.append(child)
        if replies:
            super()._heard(child, replies)

    def _gone(self, child: Offspring, code: int) -> None:
        if child in self._unborn:
            self._talk.hear(child)  # its last words
        if child not in self._unborn and child not in self._refused:
            super()._gone(child, code)
            return
        self._unborn.discard(child)
        failure = child.garbled or self._refused.pop(child, "")
        child.leaving = True
        kill_rest(child.pid)
        self._family.close(child)
        if self.queue or not self.draining:
            text = f"a process on {self._settings.place} ended while it was started: {explain.death(code)}"
            self._postpone(self._stillborn, failure or text)


class SpawnPool(_Spawned):
    """Runs each job in a fresh interpreter."""

    def _idle_wanted(self) -> int:
        room = max(0, self.slots + self.apart - len(self.busy))
        return min(room, len(self.queue)) + super()._idle_wanted()


class SpawnWorkerPool(_Spawned, WorkerPool):
    """Runs jobs in as many interpreters as there are slots."""


def _interpreter_options() -> list[str]:
    """Give the options with which this interpreter was started."""
    words = sys.orig_argv[1:]
    ends = [words.index(word) for word in ("-m", "-c") if word in words]
    return words[: min(ends)] if ends else []


def _open_nameless(folder: str) -> int:
    """Open memory that another program can be handed."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cells")
    path = os.path.join(folder, "cells")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return descriptor
