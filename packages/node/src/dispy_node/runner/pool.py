"""Which child gets which job; results, deaths, cancellation. Here: a fresh process for each job.

A child is *idle* (forked ahead, waits for its job), *busy* (has jobs), or *leaving* (has given its result, is
about to exit). It leaves the books when the kernel has told how it ended.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic, time

from dispy_node.runner import explain
from dispy_node.runner.bare import READABLE, WRITABLE, signals
from dispy_node.runner.body import RAISED
from dispy_node.runner.capture import read_some, read_to_end, take
from dispy_node.runner.escalation import NEVER, Escalation
from dispy_node.runner.frames import JOB
from dispy_node.runner.offspring import Nursery, Offspring, freeze
from dispy_node.runner.outcome import Ending
from dispy_node.runner.replies import (
    KEY_BYTES,
    OUTCOME_AT,
    OUTPUT_WAITS,
    SPOOLED,
    GarbledReplies,
    cut_replies,
    is_whole,
)
from dispy_node.runner.tree import Strangers, kill_rest, signal_group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from dispy_node.runner.bare import Poll
    from dispy_node.runner.jobs import Job
    from dispy_node.runner.settings import Settings

    class Host(Protocol):
        """Who is told."""

        def ended(self, job: Job, record: bytes) -> None:
            """Take the result of a job."""

        def started(self, job: Job, at: float) -> None:
            """Take note that a job runs, since *at* (seconds since the epoch)."""

        def log(self, text: str) -> None:
            """Take a line for the operator."""


READ_BYTES = 64 * 1024
IDLE_CHILDREN = 4
"""Forked ahead at most: a fork takes less time than the shortest job, so there need not be one for each slot."""
IDLE_AT_LEAST = 1
"""Only when no more are left new ones are forked, all at once. After a fork each page that the runner writes to is
copied; of several forks in a row only the last has this price, which is as high as that of the fork itself."""
REAP_S = 0.001
"""First pause before looking again for a process that is about to end; each next one is twice as long."""
STRAY_REAPS = 10
"""So many times more is looked for strangers that were killed."""
SWEEP_S = 0.25
"""Last of these pauses, and the time after which the end of a process is noticed that nothing told of: because
somebody below it still holds its channel."""
LOOK_S = 0.002
"""How often jobs are looked at that are not announced yet."""
RETRY_S = 0.2
"""After a fork that failed."""
PATIENCE_S = 3.0
"""For so long jobs wait while no fork succeeds and nothing runs, then they are broken."""

CHANNEL, STDOUT, STDERR, PROCESS = range(4)
KIND_AT = 12
"""Where the record of a job says how its body comes."""


class Pool:
    """Runs jobs, each in a process that is forked for it.

    Args:
        settings: what the daemon said.
        nursery: forks children.
        poll: where their descriptors are registered.
        strangers: finds what ended jobs leave behind.
        host: who is told.

    Attributes:
        queue: jobs that no child has; some may be cancelled already.
        slots: how many children may be busy.
        busy: process id -> child that has jobs.
        draining: True when no more jobs will come, so that none is forked for.
    """

    def __init__(
        self, settings: Settings, nursery: Nursery, poll: Poll, strangers: Strangers, host: Host
    ) -> None:
        self.queue: deque[Job] = deque()
        self.slots = 0
        self.busy: dict[int, Offspring] = {}
        self.draining = False
        self._idle: deque[Offspring] = deque()
        self._settings = settings
        self._nursery = nursery
        self._poll = poll
        self._strangers = strangers
        self._host = host
        self._ending = Ending(settings)
        self._children: dict[int, Offspring] = {}
        self._descriptors: dict[int, tuple[Offspring, int]] = {}
        self._escalation = Escalation(settings.grace_s)
        self._look_at = NEVER
        self._unseen = False
        self._retry_at = 0.0
        self._failing_since = NEVER
        self._warm = False
        self._turn = 0
        self._ending_count = 0
        self._stray_reaps = 0
        self._reap_pause_s = REAP_S
        self._reap_at = 0.0

    # ---- jobs to children

    def dispatch(self) -> None:
        """Give queued jobs to children, as far as there are slots."""
        queue = self.queue
        while queue and len(self.busy) < self.slots:
            job = queue[0]
            if job.ended:
                queue.popleft()
                continue
            if not self._idle:
                self._fork(1)
                if not self._idle:
                    return
            queue.popleft()
            self._assign(self._idle.popleft(), job)

    def _assign(self, child: Offspring, job: Job) -> None:
        child.jobs.append(job)
        child.used = True
        job.child = child
        job.started_at = time()
        self.busy[child.pid] = child
        self._unseen = True
        self._send(child, job.record)

    def _send(self, child: Offspring, data: bytes) -> None:
        if child.unsent:
            child.unsent += data
            return
        try:
            sent = os.write(child.channel, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # It has ended, and nobody has been told yet; `reap` gives its jobs to others.
            child.deaf = True
            return
        if sent < len(data):
            child.unsent = data[sent:]
            self._watch(child, READABLE | WRITABLE)

    def _send_rest(self, child: Offspring) -> None:
        data, child.unsent = child.unsent, b""
        self._watch(child, READABLE)
        if data:
            self._send(child, data)

    # ---- children come and go

    def top_up(self) -> None:
        """Fork children ahead of need, or dismiss those too many."""
        wanted = 0 if self.draining else self._idle_wanted()
        while len(self._idle) > wanted:
            self._dismiss(self._idle.pop())
        if len(self._idle) < wanted and len(self._idle) <= IDLE_AT_LEAST:
            self._fork(wanted - len(self._idle))

    def _idle_wanted(self) -> int:
        return IDLE_CHILDREN if self.slots else 0

    def _fork(self, count: int) -> None:
        """Fork idle children, as many as can be had."""
        if monotonic() < self._retry_at:
            return
        try:
            born = self._nursery.fork(count, self._descriptors)
        except OSError as error:
            self._postpone(explain.no_process(error, self._settings.place))
            return
        for child in born:
            self._children[child.pid] = child
            self._descriptors[child.channel] = child, CHANNEL
            self._descriptors[child.stdout] = child, STDOUT
            self._descriptors[child.stderr] = child, STDERR
            if child.process >= 0:
                self._descriptors[child.process] = child, PROCESS
            self._idle.append(child)

    def _postpone(self, reason: str) -> None:
        """Try to fork a little later; when that has been of no use for long, and nothing runs, give up jobs."""
        now = monotonic()
        self._retry_at = now + RETRY_S
        if self._failing_since == NEVER:
            self._failing_since = now
            self._host.log(reason)
        if self.busy or now - self._failing_since < PATIENCE_S:
            return
        for _ in range(min(len(self.queue), max(self.slots, 1))):
            job = self.queue.popleft()
            if not job.ended:
                self._end(job, self._ending.broken(job, reason))

    def _dismiss(self, child: Offspring) -> None:
        """Let a child go: at the end of its channel it exits."""
        child.leaving = True
        self._expect_end(child)
        self._close(child)

    def _close(self, child: Offspring) -> None:
        # Unregistered explicitly, because closing is not enough: children forked meanwhile still have copies.
        for descriptor in (child.channel, child.process):
            if self._descriptors.pop(descriptor, None) is not None:
                self._forget(descriptor)
                os.close(descriptor)
        for descriptor in (child.stdout, child.stderr):
            if self._descriptors.pop(descriptor, None) is not None:
                if child.watched:
                    self._forget(descriptor)
                os.close(descriptor)
        child.channel = child.stdout = child.stderr = child.process = -1
        child.out = child.err = None
        if child.cells is not None:
            child.cells.close()
            child.cells = None

    def _watch(self, child: Offspring, mask: int) -> None:
        try:
            self._poll.modify(child.channel, mask)
        except (FileNotFoundError, KeyError):
            # The channel of a program: not registered until now.
            self._poll.register(child.channel, mask)

    def _forget(self, descriptor: int) -> None:
        try:
            self._poll.unregister(descriptor)
        except (FileNotFoundError, KeyError):
            # A channel of a program, or what was forgotten when its other end was closed.
            return

    def reap(self) -> None:
        """Take note of ended processes; see that nothing is left below ended jobs.

        Called every turn as long as some are about to end, else now and then: there is no SIGCHLD, because each
        one would interrupt the runner, and children would have to undo what is arranged for it.
        """
        any_ended = False
        while True:
            try:
                # Also takes what code of the computation has started here when it was loaded: subprocess copes.
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            any_ended = True
            child = self._children.pop(pid, None)
            if child is not None:
                if child.ending:
                    self._ending_count -= 1
                self._gone(child, os.waitstatus_to_exitcode(status))
        if any_ended:
            self._reap_pause_s = REAP_S
            if self._strangers.sweep(self._children):
                self._stray_reaps = STRAY_REAPS
        else:
            self._reap_pause_s = min(2 * self._reap_pause_s, SWEEP_S)
            self._stray_reaps = max(0, self._stray_reaps - 1)
        self._reap_at = monotonic() + (
            self._reap_pause_s if self._ending_count or self._stray_reaps else SWEEP_S
        )

    def _expect_end(self, child: Offspring) -> None:
        """Take note that a child will end any moment, if it has not been waited for yet."""
        if not child.ending and child.pid in self._children:
            child.ending = True
            self._ending_count += 1
            self._reap_pause_s = REAP_S
            self._reap_at = 0.0

    def _gone(self, child: Offspring, code: int) -> None:
        """Settle the jobs of a child that has ended."""
        if child.leaving:
            if self._settings.reuse:  # elsewhere the group was killed when the job had ended
                kill_rest(child.pid)
            return
        self._hear(child)  # its last words
        if child.leaving:
            return
        child.leaving = True
        kill_rest(child.pid)
        if child in self._idle:
            self._idle.remove(child)
        self.busy.pop(child.pid, None)
        jobs = [job for job in child.jobs if not job.ended]
        child.jobs.clear()
        if jobs and self._has_started(child, jobs[0]):
            first = jobs.pop(0)
            self._read_to_end(child)
            stdout, stderr = take(child)
            if child.garbled:
                record = self._ending.broken(first, child.garbled, stdout, stderr)
            else:
                record = self._ending.died(first, code, self._started_at(child, first), stdout, stderr)
            self._end(first, record)
        else:
            self._postpone(
                f"a process on {self._settings.place} ended before its first job: {explain.death(code)}"
            )
        self._close(child)
        self._take_back(jobs)

    def _has_started(self, child: Offspring, job: Job) -> bool:
        return not child.deaf

    def _started_at(self, child: Offspring, job: Job) -> float:
        return job.started_at

    def _take_back(self, jobs: list[Job]) -> None:
        """Put jobs that were never started back to the front of the queue, or end those that nobody wants."""
        wanted = []
        for job in jobs:
            job.child = None
            job.signalled = False
            if job.cancelled:
                self._end(job, self._ending.cancelled(job))
            else:
                wanted.append(job)
        self.queue.extendleft(reversed(wanted))

    # ---- children to runner

    def handle(self, descriptor: int, mask: int) -> None:
        """Handle what the poll reported about a descriptor of a child."""
        found = self._descriptors.get(descriptor)
        if found is None:
            return
        child, role = found
        if role == CHANNEL:
            if mask & WRITABLE:
                self._send_rest(child)
            if mask & ~WRITABLE:
                self._hear(child)
            return
        if role == PROCESS:
            self._forget(descriptor)
            self._expect_end(child)
            return
        # Whose output is this? A worker begins no job while one of its pipes holds bytes, and only the runner
        # takes bytes out. This pipe held some when the poll reported it, so since then the worker has been in
        # one and the same job, and all bytes are of that job. All replies of earlier jobs were sent before it
        # began, so after hearing everything that was said until now, that job is the oldest in `jobs`; or its
        # reply was among that, then `_settle` has emptied the pipe, the worker may be anywhere by now, and what the
        # poll reported is no longer true. One read only, for the same reason. (A fresh process has one job,
        # and all output is that job's.)
        self._hear(child)
        if descriptor not in self._descriptors or child.emptied == self._turn:
            return
        if not read_some(child, descriptor, self._settings.output_bytes):
            self._forget(descriptor)  # it would be reported for ever

    def _read_to_end(self, child: Offspring) -> None:
        child.emptied = self._turn
        read_to_end(child, self._settings.output_bytes)

    def _hear(self, child: Offspring) -> None:
        """Read all that a child has said."""
        while child.channel >= 0:
            try:
                data = os.read(child.channel, READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                # It has ended with records unread.
                data = b""
            if not data:
                self._forget(child.channel)
                self._expect_end(child)
                return
            self._take(child, child.rest + data if child.rest else data)
            if len(data) < READ_BYTES:
                return

    def _take(self, child: Offspring, data: bytes) -> None:
        if child.garbled:
            return
        try:
            replies, child.rest = cut_replies(data, self._settings.inline_bytes)
            for flags, record in replies:
                self._answer(child, flags, record)
        except GarbledReplies as error:
            child.garbled = (
                f"the job wrote to a descriptor that is not its own on {self._settings.place}: {error}"
            )
            child.rest = b""
            self._forget(child.channel)
            self._signal(child, signals.SIGKILL)
            self._expect_end(child)

    def _answer(self, child: Offspring, flags: int, record: bytes) -> None:
        """Handle the reply of a fresh process: there is just one."""
        if child.leaving:
            return
        job = self._expected(child, record)
        child.jobs.clear()
        self.busy.pop(child.pid, None)
        child.leaving = True
        self._signal(child, signals.SIGKILL)  # it is about to exit; what it has started is not
        self._read_to_end(child)
        self._expect_end(child)
        self._settle(child, job, flags, record)
        self._close(child)

    def set_slots(self, slots: int) -> None:
        """Change how many children may be busy; those that are stay it until their jobs have ended."""
        self.slots = slots

    def _expected(self, child: Offspring, record: bytes) -> Job:
        """Give the job that a reply is about.

        Raises:
            GarbledReplies: it is about none that the child has.
        """
        if not child.jobs or record[:KEY_BYTES] != child.jobs[0].key:
            raise GarbledReplies("a result of a job that the process does not have")
        return child.jobs[0]

    def _settle(self, child: Offspring, job: Job, flags: int, record: bytes) -> None:
        """Pass on the result of a job, completed by its output."""
        self._failing_since = NEVER
        try:
            if flags or child.out is not None or child.err is not None or job.cancelled:
                if flags & OUTPUT_WAITS:
                    self._read_to_end(child)
                stdout, stderr = take(child)
                record = self._ending.answered(job, flags, record, stdout, stderr)
            elif not is_whole(record):
                raise GarbledReplies("lengths in a result do not fit")
        except GarbledReplies as error:
            self._host.log(f"a job wrote to a descriptor that is not its own: {error}")
            record = self._ending.broken(
                job, f"the job has garbled its result on {self._settings.place}: {error}"
            )
        if record[OUTCOME_AT] == RAISED and not self._warm:
            self._warm = True
            _prepare_for_failures()
        self._end(job, record)

    def _end(self, job: Job, record: bytes) -> None:
        job.ended = True
        job.child = None
        if job.record[KIND_AT] == SPOOLED:
            try:
                os.unlink(job.record[JOB.size :])
            except FileNotFoundError:
                # As it should be: the job has read it.
                pass
        self._host.ended(job, record)

    # ---- cancellation

    def cancel(self, job: Job) -> None:
        """End a job; its result follows, at once if it is not running."""
        if job.ended or job.cancelled:
            return
        job.cancelled = True
        if job.child is None:
            self._end(job, self._ending.cancelled(job))
        else:
            self._interrupt(job.child, job)

    def _interrupt(self, child: Offspring, job: Job) -> None:
        job.signalled = True
        self._signal(child, signals.SIGINT)
        self._escalation.begin(job, monotonic())

    def _signal(self, child: Offspring, number: int) -> None:
        if child.pid in self._children:
            signal_group(child.pid, number)
        elif number == signals.SIGKILL:
            kill_rest(child.pid)

    def kill_all(self) -> None:
        """Kill every process, at once."""
        for child in list(self._children.values()):
            signal_group(child.pid, signals.SIGKILL)
            self._expect_end(child)

    # ---- time

    def tick(self) -> None:
        """Do what is due by now."""
        now = monotonic()
        self._turn += 1
        if self._ending_count or now >= self._reap_at:
            self.reap()
        if now >= self._look_at:
            self._unseen = False
            more = False
            for child in list(self.busy.values()):
                if child.jobs and self._look(child, now):
                    more = True
            self._look_at = now + LOOK_S if more else NEVER
        if now >= self._escalation.due_at():
            for job, number in self._escalation.due(now):
                if job.child is not None:
                    self._signal(job.child, number)

    def _look(self, child: Offspring, now: float) -> bool:
        """Announce a child's oldest job if it was already that at the last look; tell whether to look again."""
        job = child.jobs[0]
        if child.seen is not job:
            child.seen, child.seen_at = job, now
            return True
        if not child.watched:
            self._nursery.watch_output(child)
        if not job.announced and not job.ended:
            job.announced = True
            self._host.started(job, self._started_at(child, job))
        return False

    def timeout(self) -> float:
        """Tell for how many seconds nothing is due; negative if nothing ever is."""
        now = monotonic()
        if self._unseen and self._look_at == NEVER:
            self._look_at = now + LOOK_S
        due = self._look_at
        if (self._ending_count or self._stray_reaps or self.busy) and self._reap_at < due:
            due = self._reap_at
        due = min(due, self._escalation.due_at())
        if now < self._retry_at < due and not self.draining:
            due = self._retry_at
        if due == NEVER:
            return -1.0
        return due - now if due > now else 0.0

    @property
    def empty(self) -> bool:
        """Tell whether every process has been waited for."""
        return not self._children


def _prepare_for_failures() -> None:
    """Import here, for all children to come, what the first job that raised had to import in its own process."""
    import linecache
    import traceback

    del linecache, traceback
    freeze()
