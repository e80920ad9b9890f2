"""What jobs print while they run, for an application that looks on.

Rules: output is asked for when a node says that the job runs, and told from the beginning of the attempt, without a
byte twice or left out unless it says so. The node sends it up to a limit, which rises as the application uses up what
it was told: so no more than `OUTPUT_WINDOW_BYTES` are under way or wait for a slow application. The node tells again
on a new link which attempts run; then it is asked for what has not come. When the job is settled, or abandoned,
nothing more is told: the rest is in its result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dispy.engine.effects import TellOutput
from dispy.engine.events import OutputUsed, WatchDropped, WatchWanted
from dispy.engine.ledger import Ledger
from dispy.engine.records import Job, JobState, Node
from dispy.errors import RemoteProtocolError
from dispy.model import LinkId
from dispy.wire.messages import JobOutput, JobsStarted, WatchOutput

OUTPUT_WINDOW_BYTES = 256 * 1024
"""Most output of one stream that is under way, or that the application has not used up."""

NODE_WINDOW_BYTES = 4 * 1024 * 1024
"""The same of all jobs of a computation at one node, about: less than makes a node stop listening (`wire.owing`)."""

LEAST_WINDOW_BYTES = 16 * 1024

_RUNS = (JobState.RUNNING, JobState.CANCELLING)


@dataclass(slots=True, eq=False)
class _Watch:
    """Attributes: attempt: whose output it is, 0 before any; received, used: so far it has come, was used up."""

    number: int
    job: Job
    stream: int
    viewer: Any
    attempt: int = 0
    received: int = 0
    used: int = 0
    link: LinkId | None = None
    """Where it was asked for: on a new link it is asked for again."""


class Watching:
    """Has output of jobs sent, and tells it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._watches: dict[int, _Watch] = {}
        self._of_jobs: dict[int, list[_Watch]] = {}

    def want(self, event: WatchWanted) -> None:
        """Begin to look at a job, now or when it runs."""
        job = self._ledger.jobs.get(event.job)
        if job is None or job.handle is not event.handle:
            return
        watch = _Watch(event.number, job, event.stream, event.viewer)
        self._watches[watch.number] = watch
        self._of_jobs.setdefault(job.id, []).append(watch)
        if job.state in _RUNS and job.node is not None and not job.node.reconciling:
            self._begin(watch)

    def used(self, event: OutputUsed) -> None:
        """Let more come."""
        watch = self._watches.get(event.number)
        if watch is not None and watch.attempt == event.attempt and watch.used < event.at <= watch.received:
            watch.used = event.at
            if (
                watch.job.node is not None and watch.job.attempt == watch.attempt
            ):  # else it waits to run again
                self._send(watch, -1, watch.used + self._window(watch))

    def drop(self, event: WatchDropped) -> None:
        """Look no longer."""
        watch = self._watches.pop(event.number, None)
        if watch is None:
            return
        others = self._of_jobs[watch.job.id]
        others.remove(watch)
        if not others:
            del self._of_jobs[watch.job.id]
        if watch.attempt == watch.job.attempt:
            self._send(watch, -1, -1)

    def started(self, node: Node, message: JobsStarted) -> None:
        """Begin to look at jobs that run, or go on with it on a new link."""
        if not self._of_jobs:
            return
        for start in message.starts:
            for watch in self._of_jobs.get(start.job, ()):
                job = watch.job
                # A node may say more than once that a job has started; what it makes us send must not grow by that.
                is_new = watch.attempt != job.attempt or watch.link != node.link
                if is_new and job.node is node and job.attempt == start.attempt and job.state in _RUNS:
                    self._begin(watch)

    def output(self, node: Node, message: JobOutput) -> None:
        """Tell what a job has printed, as far as it is new.

        Raises:
            RemoteProtocolError: the node sends more than it may.
        """
        watch = self._watches.get(message.number)
        if (
            watch is None
            or (watch.job.id, watch.attempt) != (message.job, message.attempt)
            or (watch.job.node, watch.job.attempt) != (node, message.attempt)
        ):
            self._ledger.counters.stale_output += 1
            return
        if watch.received >= watch.used + OUTPUT_WINDOW_BYTES:
            raise RemoteProtocolError(f"more output of job {message.job} than was asked for")
        new, offset = watch.received, message.offset
        if offset + len(message.data) <= new or offset - message.missed > new:
            # It was sent before the node was asked, on this link, for what comes next: that will come.
            self._ledger.counters.stale_output += 1
            return
        data = message.data[max(0, new - offset) :]
        missed = max(0, offset - new)
        watch.received = offset + len(message.data)
        self._ledger.effects.append(
            TellOutput(watch.viewer, watch.number, watch.stream, watch.attempt, missed, data)
        )

    def forget_settled(self) -> None:
        """Forget those who look at jobs that end by the event in hand."""
        if not self._of_jobs:
            return
        for change in self._ledger.changes:
            job = change.job
            if job.state in (JobState.SETTLED, JobState.ABANDONED):
                for watch in self._of_jobs.pop(job.id, ()):
                    del self._watches[watch.number]

    def _begin(self, watch: _Watch) -> None:
        if watch.attempt != watch.job.attempt:
            watch.attempt, watch.received, watch.used = watch.job.attempt, 0, 0
        watch.link = None if watch.job.node is None else watch.job.node.link
        self._send(watch, watch.received, watch.used + self._window(watch))

    def _window(self, watch: _Watch) -> int:
        job = watch.job
        assert job.node is not None  # it runs
        streams = 2 * len(self._ledger.computations[job.computation].placements[job.node.id].inflight)
        share = NODE_WINDOW_BYTES // max(1, streams)
        return min(OUTPUT_WINDOW_BYTES, max(LEAST_WINDOW_BYTES, share))

    def _send(self, watch: _Watch, start: int, limit: int) -> None:
        job = watch.job
        if job.node is not None:
            message = WatchOutput(
                job.computation, job.id, watch.attempt, watch.number, watch.stream, start, limit
            )
            self._ledger.send(job.node, message)
