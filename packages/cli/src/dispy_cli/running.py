"""Runs the jobs of ``dispy run``: submits them, and hands them on in order as they end.

Jobs are submitted in a thread of its own, since the next arguments may come from standard input much later than the
results of the first. That thread is at most WINDOW_JOBS ahead of what is handed on, so that neither endless input
nor one slow job fills the memory.
"""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from dispy.errors import NoNodesError
from dispy.job import DispyJob
from dispy.status import ClusterStatus
from dispy_cli.exits import Stopped
from dispy_cli.outcomes import JobEnd
from dispy_cli.progress import NoProgress, ProgressLine, Standing
from dispy_cli.wording import why_given_up

WINDOW_JOBS = 10_000
"""Jobs that may wait behind one that is not done: enough for the slots of hundreds of nodes."""

TICK_S = 0.1
"""How often nodes and progress are looked at while nothing else happens."""

JOIN_S = 1.0
"""How long the submitting thread may take to notice that it is to end."""


class Cluster(Protocol):
    """What is used of `dispy.JobCluster`."""

    def submit(self, *args: str) -> DispyJob:
        """Schedule a job."""

    def status(self) -> ClusterStatus:
        """Return nodes in use and the number of jobs that are not done."""

    def explain(self) -> str:
        """Tell why there is no node."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job on its way, with its number from 1."""

    number: int
    arguments: Sequence[str]
    job: DispyJob


class Feeder:
    """Submits jobs in a daemon thread.

    Attributes:
        submitted: how many were submitted so far.
        is_done: True when there are no more to submit.
    """

    def __init__(
        self, submit: Callable[..., DispyJob], jobs: Iterator[list[str]], window: int = WINDOW_JOBS
    ) -> None:
        self.submitted = 0
        self.is_done = False
        self._submit = submit
        self._jobs = jobs
        self._queue: queue.Queue[Submitted | Exception | None] = queue.Queue(window)
        self._stopped = False
        self._thread = threading.Thread(target=self._feed, name="dispy-feeder", daemon=True)

    def start(self) -> None:
        """Begin to submit."""
        self._thread.start()

    def take(self, timeout_s: float) -> Submitted | None:
        """Return the next job in order; None if there are no more.

        Raises:
            queue.Empty: *timeout_s* passed before the next one was submitted.
            Exception: what went wrong with reading or submitting it; no more will come.
        """
        item = self._queue.get(timeout=timeout_s)
        if isinstance(item, Exception):
            raise item
        return item

    def stop(self) -> None:
        """Submit no more. The thread is left alone if it waits for input, which nobody can interrupt."""
        self._stopped = True
        while not self._queue.empty():
            self._queue.get_nowait()  # it may be waiting for room
        if self.is_done:
            self._thread.join(JOIN_S)

    def _feed(self) -> None:
        last: Exception | None = None
        try:
            for number, arguments in enumerate(self._jobs, 1):
                if self._stopped:
                    return
                job = self._submit(*arguments)
                self.submitted = number
                self._queue.put(Submitted(number, arguments, job))
        except Exception as error:  # it is raised again by `take`, in the thread that can act
            last = error
        self.is_done = True
        if not self._stopped:
            self._queue.put(last)


@dataclass(slots=True)
class Tally:
    """Counts of jobs that were handed on."""

    done: int = 0
    failed: int = 0


class Run:
    """One run over all jobs.

    Args:
        hand_on: called with each job that is over, in order.
        node_timeout_s: how long to wait for the first usable node; infinity for ever.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        cluster: Cluster,
        feeder: Feeder,
        hand_on: Callable[[JobEnd], None],
        progress: ProgressLine | NoProgress,
        *,
        node_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tally = Tally()
        self._cluster = cluster
        self._feeder = feeder
        self._hand_on = hand_on
        self._progress = progress
        self._node_timeout_s = node_timeout_s
        self._clock = clock
        self._nodes_due_at = clock() + node_timeout_s
        self._has_node = False

    def run(self) -> Tally:
        """Hand all jobs on; return what became of them.

        Raises:
            NoNodesError: no node was usable in time.
            UsageError: standard input has a line that cannot be split.
            OSError: reading input or writing output failed.
        """
        self._feeder.start()
        try:
            while (submitted := self._next()) is not None:
                while not submitted.job.wait(TICK_S):
                    self._tick()
                end = JobEnd.of(submitted.number, submitted.arguments, submitted.job)
                self._has_node = self._has_node or end.exit_status is not None
                self.tally.done += 1
                self.tally.failed += not end.is_success
                self._hand_on(end)
                self._tick()
        finally:
            self._feeder.stop()
        return self.tally

    def _next(self) -> Submitted | None:
        while True:
            try:
                return self._feeder.take(TICK_S)
            except queue.Empty:
                self._tick()

    def _tick(self) -> None:
        if not self._has_node:
            self._look_for_node()
        if self._progress.is_due():
            status = self._cluster.status()
            # Those that are done but wait for an earlier one count too: else it would look stuck.
            submitted = self._feeder.submitted
            self._progress.draw(
                Standing(
                    done=max(self.tally.done, submitted - status.jobs_pending),
                    failed=self.tally.failed,
                    total=submitted if self._feeder.is_done else None,
                    nodes=len(status.nodes),
                )
            )

    def _look_for_node(self) -> None:
        self._has_node = bool(self._cluster.status().nodes)
        if not self._has_node and self._clock() >= self._nodes_due_at:
            raise NoNodesError(why_given_up(self._cluster.explain(), self._node_timeout_s))


@contextmanager
def signals_stop() -> Iterator[None]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, so that jobs at nodes end too; only for the main thread.

    A signal that is ignored (``nohup``) stays so. Raises `Stopped` in the block when one comes.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def describe_tally(tally: Tally, took_s: float) -> str:
    """Sum a run up in a line."""
    jobs = f"{tally.done} job{'' if tally.done == 1 else 's'}"
    failed = f"{tally.failed} failed" if tally.failed else "none failed"
    return f"{jobs}, {failed}, {took_s:.1f} s"
