"""A child as the runner sees it, and how it comes into being."""

from __future__ import annotations

import gc
import os
import sys
from collections import deque
from os import _exit, closerange, dup2, getppid

from dispy_node.runner.bare import READABLE, channel, dumps, signals
from dispy_node.runner.child import CELLS_BYTES, NOTHING_STARTED, STARTED_AT, ChannelClosed, Child, Worker
from dispy_node.runner.frames import JOB
from dispy_node.runner.namespace import Computation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable
    from typing import Never

    from dispy_node.runner.bare import Libc, Poll
    from dispy_node.runner.jobs import Job
    from dispy_node.runner.output import Output
    from dispy_node.runner.settings import Settings

pthread_sigmask, SIG_SETMASK = signals.pthread_sigmask, signals.SIG_SETMASK

NO_ARGUMENTS = dumps(((), {}), 5)
"""Arguments of a job, as the client packs them."""
REHEARSALS = 20
"""Python 3.13 specialises code after 8 runs or so."""
REHEARSAL = b"".join((JOB.pack(0, 0, 0, len(NO_ARGUMENTS)), NO_ARGUMENTS))


class Offspring:
    """A child as the runner sees it.

    Attributes:
        channel, stdout, stderr: the runner's ends of socket and pipes.
        process: descriptor that tells of its end, for programs; or -1.
        jobs: what it was given and has not answered, the oldest first.
        out, err: what the oldest job printed; None as long as that is nothing.
        rest: beginning of a reply that has not come completely.
        garbled: what is wrong with its replies; nothing more is heard from it then.
        unsent: records that did not fit into the channel.
        cells: memory shared with a worker, see `dispy_node.runner.child`.
        number: number of the job that a worker was given last.
        deaf: it did not take the last record; what it was given it has not started.
        used: it has been given a job.
        watched: the poll reports its output.
        leaving: its work is done, it only has to be waited for.
        ending: it will end any moment.
        emptied: in which turn of the loop its pipes were emptied last.
        seen, seen_at: its oldest job at the last look, and since when (monotonic).
        spoilt: a worker's job that was ended has left something there: it ends as soon as nobody else is disturbed.
        withdrawn_at: when a worker's jobs were withdrawn (monotonic), 0.0 if they are not.
    """

    __slots__ = (
        "cells",
        "channel",
        "deaf",
        "emptied",
        "ending",
        "err",
        "garbled",
        "jobs",
        "leaving",
        "number",
        "out",
        "pid",
        "process",
        "rest",
        "seen",
        "seen_at",
        "spoilt",
        "stderr",
        "stdout",
        "unsent",
        "used",
        "watched",
        "withdrawn_at",
    )

    def __init__(self, channel: int, stdout: int, stderr: int, cells: mmap.mmap | None) -> None:
        self.pid = 0
        self.process = -1
        self.channel = channel
        self.stdout = stdout
        self.stderr = stderr
        self.jobs: deque[Job] = deque()
        self.out: Output | None = None
        self.err: Output | None = None
        self.rest = b""
        self.garbled = ""
        self.unsent = b""
        self.cells = cells
        self.number = -1
        self.deaf = False
        self.leaving = False
        self.used = False
        self.watched = False
        self.ending = False
        self.emptied = -1
        self.seen: Job | None = None
        self.seen_at = 0.0
        self.spoilt = False
        self.withdrawn_at = 0.0


class Nursery:
    """Forks children.

    Args:
        settings: what the daemon said.
        computation: what jobs call; None if they are runs of a program.
        libc: what the standard library does not offer.
        poll: where the runner's ends are registered.
        own: descriptors of the runner, which its children must not keep.
        foreign: whether loading the computation has imported modules.

    From here on SIGINT and SIGTERM are blocked in the runner: the daemon decides when a runner ends. Children
    unblock them when they are ready for them, so that none is lost on one that is too young.
    """

    def __init__(
        self,
        settings: Settings,
        computation: Computation | None,
        libc: Libc,
        poll: Poll,
        own: Iterable[int],
        foreign: bool,
    ) -> None:
        self._settings = settings
        self._program = computation is None
        self._libc = libc
        self._poll = poll
        self._own = [descriptor for descriptor in own if descriptor >= 0]
        self._runner = os.getpid()
        self._mask = tuple(pthread_sigmask(signals.SIG_BLOCK, (signals.SIGINT, signals.SIGTERM)))
        for number, handler in (
            (signals.SIGINT, signals.default_int_handler),
            (signals.SIGTERM, signals.SIG_DFL),
            (signals.SIGCHLD, signals.SIG_DFL),
        ):
            signals.signal(number, handler)  # as children are to have them, whatever the daemon handed down
        if settings.reuse:
            import fcntl
            import mmap
            import termios

            del fcntl, termios  # workers import them, and must not have to look for them
            self._map = mmap.mmap
        modules = -1 if foreign else len(sys.modules)
        self._numpy_random = sys.modules.get("numpy.random")
        self._multiprocessing = sys.modules.get("multiprocessing.util")
        self._child = Child(settings, computation, libc, modules)
        self._worker = Worker(settings, computation, libc, modules)
        if computation is not None:
            # Inherited: a child pays nothing for it.
            (self._worker if settings.reuse else self._child).connect(computation)

    def rehearse(self) -> None:
        """Run a few jobs right here that do nothing.

        What Python and the dynamic loader write down when code is run for the first times (specialised instructions,
        caches, addresses of functions) is then in memory that children share, rather than in pages that each child
        copies and writes anew.
        """
        ours, theirs = channel()
        nothing = Child(self._settings, Computation(_do_nothing, {}), self._libc, len(sys.modules))
        try:
            for _ in range(REHEARSALS):
                os.write(ours, REHEARSAL)
                nothing.serve_one(theirs)
                os.read(ours, 4096)
                getppid()
                dup2(theirs, theirs)
        finally:
            os.close(ours)
            os.close(theirs)

    def fork(self, count: int, siblings: Iterable[int]) -> list[Offspring]:
        """Fork children, each of which waits for its first record.

        Everything else is done before the first fork and after the last: after a fork each page that this process
        writes to is copied, so that between two forks as little as possible should happen.

        Args:
            count: how many.
            siblings: descriptors that belong to other children.

        Returns:
            at least one child; fewer than *count* if no more could be had.

        Raises:
            OSError: no process, descriptor or memory is left; nothing is left open.
        """
        born: list[Offspring] = []
        prepared: list[tuple[Offspring, int, int, int]] = []
        failure: OSError | None = None
        try:
            for _ in range(count):
                prepared.append(self._prepare())
        except OSError as error:
            failure = error
        inherited = [*self._own, *siblings]
        for child, *ends in prepared:
            inherited += (child.channel, child.stdout, child.stderr, *ends)
        inherited.sort()
        plans = []
        for child, channel_end, stdout_end, stderr_end in prepared:
            plans.append((child, channel_end, stdout_end, stderr_end, ranges_without(inherited, channel_end)))
        try:
            for child, channel_end, stdout_end, stderr_end, unwanted in plans:
                child.pid = os.fork()
                if child.pid == 0:
                    self._become(channel_end, stdout_end, stderr_end, unwanted, child.cells)
                born.append(child)
        except OSError as error:
            failure = error
        for child, *ends in prepared:
            for descriptor in ends if child.pid else (child.channel, child.stdout, child.stderr, *ends):
                os.close(descriptor)
        if not born and failure is not None:
            raise failure
        for child in born:
            self._register(child)
        return born

    def _prepare(self) -> tuple[Offspring, int, int, int]:
        """Make what connects a child with the runner; give also the child's ends of it."""
        opened: list[int] = []
        try:
            opened += channel()
            opened += os.pipe()
            opened += os.pipe()
            for descriptor in opened[::2]:
                os.set_blocking(descriptor, False)
            cells = None
            if self._settings.reuse and not self._program:
                cells = self._make_cells()
                cells[STARTED_AT] = NOTHING_STARTED
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        ours, theirs, stdout, stdout_end, stderr, stderr_end = opened
        return Offspring(ours, stdout, stderr, cells), theirs, stdout_end, stderr_end

    def _make_cells(self) -> mmap.mmap:
        return self._map(-1, CELLS_BYTES)

    def _register(self, child: Offspring) -> None:
        if not self._program:
            self._poll.register(child.channel, READABLE)
            if child.cells is not None:
                self.watch_output(child)
            return
        # It answers only if the program could not be executed, which is read when its process has ended; and of
        # that only this tells at once.
        try:
            child.process = os.pidfd_open(child.pid)
            self._poll.register(child.process, READABLE)
        except (AttributeError, OSError):
            # Not Linux, or no descriptor is left: `Pool.reap` comes round often enough.
            child.process = -1

    def watch_output(self, child: Offspring) -> None:
        """Have the poll report output of a child.

        For fresh processes only when they have run for a while: most end before, and what they have printed is read
        then. A pipe holds 64 KiB for those that print more meanwhile.
        """
        if not child.watched and child.stdout >= 0:
            child.watched = True
            self._poll.register(child.stdout, READABLE)
            self._poll.register(child.stderr, READABLE)

    def _become(
        self, channel: int, stdout: int, stderr: int, unwanted: list[tuple[int, int]], cells: mmap.mmap | None
    ) -> Never:
        """Live the life of a child.

        Args:
            channel, stdout, stderr: its ends.
            unwanted: ranges of descriptors that it has inherited and must not keep, the last two included.
            cells: shared with the runner, if it is a worker.
        """
        status = 1
        try:
            os.setsid()
            if self._libc.die_with_parent() and getppid() != self._runner:
                _exit(1)  # the runner ended before the kernel knew that this one must follow
            dup2(stdout, 1)
            dup2(stderr, 2)
            for low, high in unwanted:
                closerange(low, high)
            if self._numpy_random is not None:
                self._numpy_random.seed()  # ``random`` does that by itself after each fork
            if self._multiprocessing is not None:
                # Locks, queues and proxies that setup has made are to know that this is another process.
                self._multiprocessing._run_after_forkers()
            pthread_sigmask(SIG_SETMASK, self._mask)
            if cells is None:
                self._child.serve_one(channel)
            else:
                self._worker.serve(channel, cells)
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
            _exit(status)


def ranges_without(descriptors: list[int], kept: int) -> list[tuple[int, int]]:
    """Join sorted descriptors, all but one, into ranges (low, high + 1): closing a range is one system call."""
    ranges: list[tuple[int, int]] = []
    low = high = -1
    for descriptor in descriptors:
        if descriptor == kept:
            continue
        if descriptor != high:
            if high >= 0:
                ranges.append((low, high))
            low = descriptor
        high = descriptor + 1
    if high >= 0:
        ranges.append((low, high))
    return ranges


def _do_nothing() -> None:
    pass


def freeze() -> None:
    """Exempt all objects from garbage collection: a collector that visits them makes forked pages private."""
    gc.collect()
    gc.disable()
    gc.freeze()
