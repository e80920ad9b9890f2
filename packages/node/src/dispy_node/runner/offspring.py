"""A child as the runner sees it, and how it comes into being."""

from __future__ import annotations

import gc
import mmap
import os
import sys
from collections import deque

from dispy_node.runner.bare import READABLE, channel, signals
from dispy_node.runner.child import CELLS_BYTES, NOTHING_STARTED, STARTED_AT, ChannelClosed, Child, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Never

    from dispy_node.runner.bare import Libc, Poll
    from dispy_node.runner.jobs import Job
    from dispy_node.runner.namespace import Computation
    from dispy_node.runner.output import Output
    from dispy_node.runner.settings import Settings


class Offspring:
    """A child as the runner sees it.

    Attributes:
        channel, stdout, stderr: the runner's ends of socket and pipes.
        jobs: what it was given and has not answered, the oldest first.
        out, err: what the oldest job printed; None as long as that is nothing.
        rest: beginning of a reply that has not come completely.
        unsent: records that did not fit into the channel.
        cells: memory shared with a worker, see `dispy_node.runner.child`.
        number: number of the job that a worker was given last.
        deaf: it did not take the last record; what it was given it has not started.
        leaving: its work is done, it only has to be waited for.
        seen, seen_at: its oldest job at the last look, and since when (monotonic).
        withdrawn_at: when a worker's jobs were withdrawn (monotonic), 0.0 if they are not.
    """

    __slots__ = (
        "cells",
        "channel",
        "deaf",
        "err",
        "jobs",
        "leaving",
        "number",
        "out",
        "pid",
        "rest",
        "seen",
        "seen_at",
        "stderr",
        "stdout",
        "unsent",
        "withdrawn_at",
    )

    def __init__(self, channel: int, stdout: int, stderr: int, cells: mmap.mmap | None) -> None:
        self.pid = 0
        self.channel = channel
        self.stdout = stdout
        self.stderr = stderr
        self.jobs: deque[Job] = deque()
        self.out: Output | None = None
        self.err: Output | None = None
        self.rest = b""
        self.unsent = b""
        self.cells = cells
        self.number = -1
        self.deaf = False
        self.leaving = False
        self.seen: Job | None = None
        self.seen_at = 0.0
        self.withdrawn_at = 0.0


class Nursery:
    """Forks children.

    Args:
        settings: what the daemon said.
        computation: what jobs call; None if they are runs of a program.
        libc: what the standard library does not offer.
        poll: where the runner's ends are registered.
        own: descriptors of the runner, which its children must not keep.
    """

    def __init__(
        self, settings: Settings, computation: Computation | None, libc: Libc, poll: Poll, own: Iterable[int]
    ) -> None:
        self._settings = settings
        self._computation = computation
        self._libc = libc
        self._poll = poll
        self._own = [descriptor for descriptor in own if descriptor >= 0]
        self._runner = os.getpid()

    def fork(self, siblings: Iterable[int]) -> Offspring:
        """Fork a child, which waits for its first record.

        Args:
            siblings: descriptors that belong to other children.

        Raises:
            OSError: no process, descriptor or memory is left; nothing is left open.
        """
        opened: list[int] = []
        try:
            opened += channel()
            opened += os.pipe()
            opened += os.pipe()
            ours, theirs, stdout, stdout_end, stderr, stderr_end = opened
            os.set_blocking(ours, False)
            cells = mmap.mmap(-1, CELLS_BYTES) if self._settings.reuse and self._computation else None
            if cells is not None:
                cells[STARTED_AT] = NOTHING_STARTED
            child = Offspring(ours, stdout, stderr, cells)
            child.pid = os.fork()
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        if child.pid == 0:
            self._become(theirs, (stdout_end, stderr_end), (ours, stdout, stderr, *siblings), cells)
        os.close(theirs)
        os.close(stdout_end)
        os.close(stderr_end)
        register = self._poll.register
        register(stdout, READABLE)
        register(stderr, READABLE)
        if self._computation is not None:
            # A program answers only if it could not be executed: that is read when its process has ended.
            register(ours, READABLE)
        return child

    def _become(self, own: int, ends: tuple[int, int], others: Iterable[int], cells: mmap.mmap | None) -> Never:
        """Live the life of a child."""
        status = 1
        try:
            os.setsid()
            self._take_signals()
            if self._libc.die_with_parent() and os.getppid() != self._runner:
                os._exit(1)  # the runner ended before the kernel knew that this one must follow
            for descriptor in others:
                os.close(descriptor)
            for descriptor in self._own:
                os.close(descriptor)
            for number, end in enumerate(ends, 1):
                os.dup2(end, number)
                os.close(end)
            _reseed()
            if cells is not None and self._computation is not None:
                Worker(own, self._settings, self._computation, self._libc, cells).serve()
            else:
                Child(own, self._settings, self._computation, self._libc).serve_one()
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

    def _take_signals(self) -> None:
        signals.set_wakeup_fd(-1)
        signals.signal(signals.SIGINT, signals.default_int_handler)
        signals.signal(signals.SIGTERM, signals.SIG_DFL)
        signals.signal(signals.SIGCHLD, signals.SIG_DFL)


def _reseed() -> None:
    """Give numpy's global generator a new seed; ``random`` does that by itself after each fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def freeze() -> None:
    """Exempt all objects from garbage collection: a collector that visits them makes forked pages private."""
    gc.collect()
    gc.disable()
    gc.freeze()
