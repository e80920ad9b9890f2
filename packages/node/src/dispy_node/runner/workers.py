"""Jobs in processes that are used again.

A worker is given jobs ahead, so that it need not wait for the runner between tiny ones. Ahead means: in its channel,
where nobody can take them out. Still a job must be had back when the one before it turns out to be long, when slots
are given up, or when it is cancelled. For that each worker shares a little memory with the runner: a byte for
each job, which the runner sets to *withdraw* it, and the number of the job that was started last.

The worker writes the number first and reads the byte then; the runner writes the byte first and reads the number
`SETTLE_S` later. If by then the worker has still not written the number of a withdrawn job, it will see the byte when
it comes to it, since a write of one processor is seen by all others within microseconds. So a job that is
taken back has not been started and never will be: it is answered as SKIPPED, whenever that may be.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from time import monotonic, time

from dispy_node.runner import explain
from dispy_node.runner.bare import signals
from dispy_node.runner.child import CLOCK_AT, NOTHING_STARTED, NUMBERS, STARTED_AT, WITHDRAWN_AT
from dispy_node.runner.escalation import NEVER
from dispy_node.runner.frames import EQUIP_ANEW, RESULT
from dispy_node.runner.jobs import Job
from dispy_node.runner.pool import KIND_AT, Pool
from dispy_node.runner.replies import GO_ON_RECORD, OUTPUT_WAITS, SKIPPED, GarbledReplies, is_whole

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

    from dispy_node.runner.bare import Poll
    from dispy_node.runner.offspring import Nursery, Offspring
    from dispy_node.runner.pool import Host
    from dispy_node.runner.replies import Reply
    from dispy_node.runner.settings import Settings
    from dispy_node.runner.tree import Strangers

AHEAD = 16
"""Jobs that a worker has at most, the one that it runs included."""
AHEAD_S = 0.005
"""About so much work is given ahead: much more than a turn through the runner takes, about 0.1 ms."""
AHEAD_BYTES = 64 * 1024
"""So much is given ahead at most, to stay below the buffer of a socket (208 KiB on Linux)."""
LONG_S = 0.02
"""A job that runs for so long gives back the jobs behind it."""
SETTLE_S = 0.004
"""From withdrawing jobs to taking them back."""

SHORTEST_S = 1e-6
"""Clocks give no less for the mean run time."""

CLOCK = struct.Struct("=d")
TIMES_AT = 17
"""Where a result has its start and its end."""
TIMES = struct.Struct("<dd")


class WorkerPool(Pool):
    """Runs jobs in as many workers as there are slots."""

    def __init__(
        self, settings: Settings, nursery: Nursery, poll: Poll, strangers: Strangers, host: Host
    ) -> None:
        super().__init__(settings, nursery, poll, strangers, host)
        self._mean_s = NEVER  # smoothed run time of jobs; nothing is given ahead before it is known
        self._last_record = b""
        self._skipped: list[Job] = []

    # ---- jobs ahead

    def dispatch(self) -> None:
        """Give queued jobs to idle workers, and ahead to the others."""
        super().dispatch()
        if self.queue and self.busy and len(self.busy) <= self.slots + self.apart:
            self._fill()

    def _fill(self) -> None:
        window = min(AHEAD, 1 + int(AHEAD_S / max(self._mean_s, SHORTEST_S)))
        for child in self.busy.values():
            room = window - len(child.jobs)
            # Half the window at a time: a write for each job would cost as much as the job.
            if room > 0 and room * 2 >= window and not child.withdrawn_at and not child.deaf:
                self._give_ahead(child, min(room, 1 + len(self.queue) // len(self.busy)))

    def _give_ahead(self, child: Offspring, room: int) -> None:
        records: list[bytes] = []
        size = sum([len(job.record) for job in child.jobs])
        queue = self.queue
        while queue and len(records) < room:
            job = queue[0]
            if not job.ended:
                if job.limits is not None or job.equipment:
                    break  # it must not wait: its time counts from its start
                size += len(job.record)
                if size > AHEAD_BYTES:
                    break
                self._number(child, job)
                child.jobs.append(job)
                records.append(job.record)
            queue.popleft()
        if records:
            self._talk.send(child, b"".join(records))

    def _assign(self, child: Offspring, job: Job) -> None:
        self._number(child, job)
        if job.limits is not None or job.equipment:
            child.withdrawn_at = NEVER  # nothing behind it: what the worker uses is the job's
        if _is_anew(job):
            child.spoilt = True  # libraries choose devices once in a process, and keep their memory
        super()._assign(child, job)

    def _choose(self, job: Job) -> Offspring | None:
        if not _is_anew(job):
            return super()._choose(job)
        fresh = [child for child in self._idle if not child.used]
        if not fresh:
            self._fork(1)
            fresh = [child for child in self._idle if not child.used]
        if not fresh:
            return None
        self._idle.remove(fresh[0])
        return fresh[0]

    def _number(self, child: Offspring, job: Job) -> None:
        job.child = child
        job.number = child.number = (child.number + 1) % NUMBERS
        _cells(child)[WITHDRAWN_AT + job.number] = 0

    def _idle_wanted(self) -> int:
        return max(0, self.slots + self.apart - len(self.busy))

    # ---- replies

    def _heard(self, child: Offspring, replies: list[Reply]) -> None:
        try:
            super()._heard(child, replies)
        finally:  # what came before a reply that is none counts
            self._follow_up(child)

    def _follow_up(self, child: Offspring) -> None:
        if self._skipped:
            skipped, self._skipped = self._skipped, []
            self._take_back(skipped)
        if len(self._last_record) >= RESULT.size:
            # One of each batch is enough for a mean.
            started_at, ended_at = TIMES.unpack_from(self._last_record, TIMES_AT)
            took_s = max(0.0, ended_at - started_at)
            self._mean_s = took_s if self._mean_s == NEVER else 0.8 * self._mean_s + 0.2 * took_s
            self._last_record = b""
        if child.jobs:
            self._unseen = True

    def _answer(self, child: Offspring, flags: int, record: bytes) -> None:
        if child.leaving:
            return
        job = self._expected(child, record)
        child.jobs.popleft()
        if (
            not flags
            and job.child is child
            and not job.cancelled
            and child.out is None
            and child.err is None
            and is_whole(record)
        ):
            # What is left of all that follows for nearly every job.
            self._last_record = record
            self._end(job, record)
        elif job.ended:
            if not flags & SKIPPED:
                raise GarbledReplies("a result of a job that was withdrawn")
        elif flags & SKIPPED:
            self._skipped.append(job)
        else:
            self._last_record = record
            self._settle(child, job, flags, record)
            if job.cancelled and not child.spoilt:
                child.spoilt = job.excess is not None or self._family.note_tree(child) > 0
            if flags & OUTPUT_WAITS:
                self._talk.send(child, GO_ON_RECORD)
        # What stood behind it was withdrawn; but the worker may be at it already, and then must not be disturbed.
        if child.spoilt and all(other.ended for other in child.jobs):
            self._retire(child)
        if not child.jobs:
            child.withdrawn_at = 0.0
            self.busy.pop(child.pid, None)
            if not child.deaf and not child.leaving:
                self._idle.append(child)

    def _retire(self, child: Offspring) -> None:
        """End a worker with all that is below it: its job has left processes there, or memory that is in use."""
        self.busy.pop(child.pid, None)
        child.leaving = True
        child.jobs.clear()
        self._family.signal_tree(child, signals.SIGKILL)
        self._family.expect_end(child)
        self._family.close(child)

    def _note_death(self, child: Offspring, code: int) -> None:
        if _cells(child)[STARTED_AT] == NOTHING_STARTED:
            super()._note_death(child, code)
            return
        self._stillborn.end()  # processes are well when they begin
        self._host.log(f"a process on {self._settings.place} ended between two jobs: {explain.death(code)}")

    def _started(self, child: Offspring) -> list[Job]:
        jobs, last = list(child.jobs), _cells(child)[STARTED_AT]
        for count, job in enumerate(jobs, 1):
            if job.number == last:
                return jobs[:count]
        return []

    def _has_started(self, child: Offspring, job: Job) -> bool:
        return _cells(child)[STARTED_AT] == job.number

    def _started_at(self, child: Offspring, job: Job) -> float:
        if not self._has_started(child, job):
            return job.started_at or time()
        started_at: float = CLOCK.unpack_from(_cells(child), CLOCK_AT)[0]
        return started_at

    # ---- jobs back

    def set_slots(self, slots: int) -> None:
        """Change how many workers may be busy; those too many finish the job they run, and give back the others."""
        super().set_slots(slots)
        for child in self.plain[slots:]:
            self._withdraw(child)

    def _interrupt(self, child: Offspring, job: Job) -> None:
        _cells(child)[WITHDRAWN_AT + job.number] = 1
        # Nothing must run after it in this worker: SIGTERM and SIGKILL would hit that.
        self._withdraw(child)
        if child.jobs[0] is job:
            super()._interrupt(child, job)
        # Else it is skipped, or it has been started already and is interrupted when the replies before it are heard.

    def _signal(self, child: Offspring, number: int) -> None:
        if number == signals.SIGINT:
            os.kill(child.pid, number)  # not the group: children of an earlier job may be in it
        else:
            super()._signal(child, number)

    def _look(self, child: Offspring, now: float) -> bool:
        job = child.jobs[0]
        if job.cancelled and not job.signalled and not job.ended:
            self._interrupt(child, job)
        more = super()._look(child, now)
        if len(child.jobs) == 1 or child.withdrawn_at == NEVER:
            return more
        if child.withdrawn_at:
            if now - child.withdrawn_at >= SETTLE_S:
                self._have_back(child)
        elif now - child.seen_at >= LONG_S:
            self._withdraw(child)
        return True

    def _withdraw(self, child: Offspring) -> None:
        """Tell a worker not to start what it has not started; see the head of this module."""
        if child.withdrawn_at:
            return
        cells, waiting = _cells(child), iter(child.jobs)
        next(waiting, None)
        for job in waiting:
            cells[WITHDRAWN_AT + job.number] = 1
        child.withdrawn_at = monotonic()
        self._unseen = True

    def _have_back(self, child: Offspring) -> None:
        """Take back what was withdrawn, if the worker is still at the oldest job."""
        first, *others = child.jobs
        if not self._has_started(child, first):
            return  # it is about to skip them itself
        child.jobs = deque([first, *map(_placeholder, others)])
        child.withdrawn_at = NEVER
        self._take_back(others)


def _cells(child: Offspring) -> mmap.mmap:
    assert child.cells is not None, "every worker has cells until it is closed"
    return child.cells


def _is_anew(job: Job) -> bool:
    """Tell whether a job must have a process of its own."""
    return bool(job.equipment) and job.equipment[KIND_AT] == EQUIP_ANEW


def _placeholder(job: Job) -> Job:
    """Make what the worker's answer SKIPPED will find in place of a job that has been taken back."""
    left = Job(job.key, job.record)
    left.ended = True
    left.number = job.number
    return left
