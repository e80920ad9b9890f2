"""Which child gets which job; results, deaths, cancellation. Here: a fresh process for each job.

A child is *idle* (forked ahead, waits for its job), *busy* (has jobs), or *leaving* (has given its result, is
about to exit). It leaves the books when the kernel has told how it ended.
"""

from __future__ import annotations

import os
from collections import deque
from time import monotonic, time

from dispy_node.runner import explain
from dispy_node.runner.bare import signals
from dispy_node.runner.body import RAISED
from dispy_node.runner.capture import take
from dispy_node.runner.escalation import NEVER, Escalation
from dispy_node.runner.family import Family
from dispy_node.runner.frames import ANSWER, CARRIES, JOB, KEY, SPOOLED
from dispy_node.runner.offspring import Nursery, Offspring, freeze
from dispy_node.runner.outcome import Ending
from dispy_node.runner.replies import (
    KEY_BYTES,
    NEWS,
    OUTCOME_AT,
    OUTPUT_WAITS,
    SAID,
    GarbledReplies,
    is_whole,
)
from dispy_node.runner.talk import Talk
from dispy_node.runner.tree import Strangers, kill_rest
from dispy_node.runner.trouble import Trouble
from dispy_node.runner.watching import Watching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from dispy_node.runner.bare import Poll
    from dispy_node.runner.jobs import Job
    from dispy_node.runner.limits import Watch
    from dispy_node.runner.replies import Reply
    from dispy_node.runner.settings import Settings

    class Host(Protocol):
        """Who is told."""

        def ended(self, job: Job, record: bytes) -> None:
            """Take the result of a job."""

        def started(self, job: Job, at: float) -> None:
            """Take note that a job runs, since *at* (seconds since the epoch)."""

        def log(self, text: str) -> None:
            """Take a line for the operator."""

        def news(self, record: bytes) -> None:
            """Take what a job tells while it runs."""

        def said(self, record: bytes) -> None:
            """Take a line that a job has written for the log."""

        def output(self, record: bytes) -> None:
            """Take what a job has printed, for somebody who looks on."""


IDLE_CHILDREN = 4
"""Forked ahead at most: a fork takes less time than the shortest job, so there need not be one for each slot."""
IDLE_AT_LEAST = 1
"""Only when no more are left new ones are forked, all at once. After a fork each page that the runner writes to is
copied; of several forks in a row only the last has this price, which is as high as that of the fork itself."""
LOOK_S = 0.002
"""How often jobs are looked at that are not announced yet."""
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
        apart: how many jobs it has been given that start whatever slots there are; they stand in front of the queue.
        busy: process id -> child that has jobs.
        draining: True when no more jobs will come, so that none is forked for.
    """

    def __init__(
        self, settings: Settings, nursery: Nursery, poll: Poll, strangers: Strangers, host: Host
    ) -> None:
        self.queue: deque[Job] = deque()
        self.slots = 0
        self.apart = 0
        self.busy: dict[int, Offspring] = {}
        self.draining = False
        self._idle: deque[Offspring] = deque()
        self._settings = settings
        self._family = Family(nursery, poll, strangers, self._gone)
        self._watching = Watching(host, self._family)
        self._talk = Talk(settings, self._family, self._heard, self._watching.pump)
        self._host = host
        self._ending = Ending(settings)
        self._escalation = Escalation(settings.grace_s)
        self._strangers = strangers
        self._watch: Watch | None = None
        """Of jobs with limits, if there have been any."""
        self._look_at = NEVER
        self._unseen = False
        self._barren = Trouble()
        """No process can be forked."""
        self._stillborn = Trouble()
        """Processes end before their first job."""
        self._warm = False

    # ---- jobs to children

    def dispatch(self) -> None:
        """Give queued jobs to children, as far as there are slots."""
        queue = self.queue
        while queue and len(self.busy) < self.slots + self.apart:
            job = queue[0]
            if job.ended:
                queue.popleft()
                continue
            if not self._idle:
                self._fork(1)
                if not self._idle:
                    return
            child = self._choose(job)
            if child is None:
                return
            queue.popleft()
            self._assign(child, job)

    def _choose(self, job: Job) -> Offspring | None:
        """Take an idle child for a job, of which there is one at least; None if the job must wait for another."""
        return self._idle.popleft()

    @property
    def plain(self) -> list[Offspring]:
        """The busy children that take a slot each."""
        return [child for child in self.busy.values() if not (child.jobs and child.jobs[0].equipment)]

    def _assign(self, child: Offspring, job: Job) -> None:
        child.jobs.append(job)
        child.used = True
        job.child = child
        job.started_at = time()
        self.busy[child.pid] = child
        self._unseen = True
        if job.limits is not None and self._watch is not None:
            self._watch.begin(job, child.pid)
        self._talk.send(child, job.equipment + job.record if job.equipment else job.record)

    # ---- children come and go

    def top_up(self) -> None:
        """Fork children ahead of need, or dismiss those too many."""
        wanted = 0 if self.draining else self._idle_wanted()
        while len(self._idle) > wanted:
            self._family.dismiss(self._idle.pop())
        if len(self._idle) < wanted and len(self._idle) <= IDLE_AT_LEAST:
            self._fork(wanted - len(self._idle))

    def _idle_wanted(self) -> int:
        return IDLE_CHILDREN if self.slots else 0

    def _fork(self, count: int) -> None:
        """Fork idle children, as many as can be had."""
        if monotonic() < self._retry_at:
            return
        try:
            self._idle.extend(self._family.fork(count))
        except OSError as error:
            self._postpone(self._barren, explain.no_process(error, self._settings.place))
        else:
            self._barren.end()

    @property
    def _retry_at(self) -> float:
        return max(self._barren.retry_at, self._stillborn.retry_at)

    def _postpone(self, trouble: Trouble, reason: str) -> None:
        """Try to fork a little later; when that has been of no use for long, and nothing runs, give up jobs."""
        now = monotonic()
        if trouble.note(now):
            self._host.log(reason)
        if self.busy or not trouble.is_lasting(now):
            return
        for _ in range(min(len(self.queue), max(self.slots + self.apart, 1))):
            job = self.queue.popleft()
            if not job.ended:
                self._end(job, self._ending.broken(job, reason))

    def _gone(self, child: Offspring, code: int) -> None:
        """Settle the jobs of a child that has ended."""
        if child.leaving:
            if self._settings.reuse:  # elsewhere the group was killed when the job had ended
                kill_rest(child.pid)
            return
        self._talk.hear(child)  # its last words
        if child.leaving:
            return
        child.leaving = True
        kill_rest(child.pid)
        if child in self._idle:
            self._idle.remove(child)
        self.busy.pop(child.pid, None)
        started = [job for job in self._started(child) if not job.ended]
        others = [job for job in child.jobs if not job.ended][len(started) :]
        child.jobs.clear()
        if started:
            self._stillborn.end()
            self._settle_dead(child, code, started)
        elif not self._is_to_end(others):
            self._note_death(child, code)
        self._family.close(child)
        self._take_back(others)

    def _is_to_end(self, jobs: list[Job]) -> bool:
        """Tell whether a child that has *jobs* before it is ended on purpose."""
        if jobs:
            return any(job.cancelled for job in jobs)  # before it came to the one that was to be ended
        return self.draining and not self.queue

    def _note_death(self, child: Offspring, code: int) -> None:
        """Take note that a child has ended which nobody has ended, and which was at no job."""
        self._postpone(
            self._stillborn,
            f"a process on {self._settings.place} ended before its first job: {explain.death(code)}",
        )

    def _settle_dead(self, child: Offspring, code: int, jobs: list[Job]) -> None:
        """Settle what a child owes that has ended: one job, or some more if its last words were garbled."""
        self._talk.read_to_end(child)
        stdout, stderr = take(child)
        for job in jobs:
            if child.garbled:
                record = self._ending.broken(job, child.garbled, stdout, stderr)
            else:
                record = self._ending.died(job, code, self._started_at(child, job), stdout, stderr)
            self._end(job, record)
            stdout = stderr = b""

    def _started(self, child: Offspring) -> list[Job]:
        """Give those of a child's jobs that it has started."""
        return [] if child.deaf else list(child.jobs)

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
            elif job.recalled:
                self._end(job, self._ending.recalled(job))
            else:
                wanted.append(job)
        self.queue.extendleft(reversed(wanted))
        if self.apart and wanted:
            self.queue = deque(sorted(self.queue, key=lambda job: not job.equipment))

    # ---- children to runner

    def handle(self, descriptor: int, mask: int) -> None:
        """Handle what the poll reported about a descriptor of a child."""
        self._talk.handle(descriptor, mask)

    def _heard(self, child: Offspring, replies: list[Reply]) -> None:
        """Handle what a child has replied."""
        self._stillborn.end()
        for flags, record in replies:
            if flags & (NEWS | SAID):
                self._pass_on(child, flags, record)
            else:
                self._answer(child, flags, record)

    def _pass_on(self, child: Offspring, flags: int, record: bytes) -> None:
        """Pass on what a job tells while it runs; before that, that it runs."""
        if child.leaving:
            return
        job = self._expected(child, record)
        if job.ended:
            raise GarbledReplies("news of a job that was withdrawn")
        if flags & SAID:
            self._host.said(record)
            return
        self._announce(child, job)
        self._host.news(record)

    def tell(self, job: Job, record: bytes) -> None:
        """Pass on what a command of a program tells that runs; before that, that it runs."""
        if job.child is not None:
            self._announce(job.child, job)
        self._host.news(record)

    def answer(self, job: Job, text: bytes) -> None:
        """Pass on the answer to what a job has told."""
        if job.child is not None and not job.ended:
            number, attempt = KEY.unpack(job.key)
            self._talk.send(job.child, JOB.pack(number, attempt, ANSWER, len(text)) + text)

    def watch(self, job: Job, text: bytes) -> None:
        """Let somebody look at the output of a job; *text* is the rest of a WATCH behind its key."""
        self._watching.watch(job, text)

    def _answer(self, child: Offspring, flags: int, record: bytes) -> None:
        """Handle the result of a fresh process: there is just one."""
        if child.leaving:
            return
        job = self._expected(child, record)
        child.jobs.clear()
        self.busy.pop(child.pid, None)
        child.leaving = True
        self._signal(child, signals.SIGKILL)  # it is about to exit; what it has started is not
        self._talk.read_to_end(child)
        self._family.expect_end(child)
        self._settle(child, job, flags, record)
        self._family.close(child)

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
        try:
            if flags or child.out is not None or child.err is not None or job.cancelled:
                if flags & OUTPUT_WAITS:
                    self._talk.read_to_end(child)
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
        kind = job.record[KIND_AT]
        if kind & SPOOLED:
            try:
                os.unlink(job.record[JOB.size :])
            except FileNotFoundError:
                # As it should be: the job has read it.
                pass
        if job.limits is not None and self._watch is not None:
            self._watch.end(job)
        if kind & CARRIES:
            # Here, because it is rare.
            from dispy_node.runner.carried import note_path, remove_files

            remove_files(self._settings, note_path(self._settings, *KEY.unpack(job.key)))
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

    def recall(self, job: Job) -> None:
        """Give a job back if no child has it; or later, if it is taken back from its child without being started."""
        if job.ended or job.cancelled:
            return
        job.recalled = True
        if job.child is None:
            self._end(job, self._ending.recalled(job))

    def _interrupt(self, child: Offspring, job: Job) -> None:
        job.signalled = True
        # Else a process with a session of its own could not be told from those of other jobs when its parent has ended.
        self._family.note_tree(child)
        self._signal(child, signals.SIGINT)
        self._escalation.begin(job, monotonic())

    # ---- limits

    def limit(self, job: Job, limits: tuple[float, float, int, int]) -> None:
        """Give limits to a job that is queued; it is broken if they cannot be kept here."""
        if self._strangers.fileno() < 0 and any(limits[1:]):
            self._end(job, self._ending.broken(job, explain.unwatchable(self._settings.place)))
            return
        job.limits = limits
        if self._watch is None:
            from dispy_node.runner.limits import Watch  # most runners never need it

            self._watch = Watch(self._strangers, self._settings.place, self._exceeded)

    def _exceeded(self, job: Job, limit: int, text: str, at_once: bool) -> None:
        """End a job that has gone beyond a limit."""
        if job.child is None or job.ended:
            return
        if not job.cancelled:
            job.cancelled = True
            job.excess = limit, text
            if not at_once:
                self._interrupt(job.child, job)
        if at_once:
            self._family.signal_tree(job.child, signals.SIGKILL)

    def _signal(self, child: Offspring, number: int) -> None:
        self._family.signal(child, number)

    def kill_all(self) -> None:
        """Kill every process, at once."""
        self._family.kill_all()

    # ---- time

    def tick(self) -> None:
        """Do what is due by now."""
        now = monotonic()
        self._talk.turn += 1
        self._family.tick(now)
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
                    self._family.signal_tree(job.child, number)
        if self._watch is not None:
            self._watch.tick(now)

    def _look(self, child: Offspring, now: float) -> bool:
        """Announce a child's oldest job if it was already that at the last look; tell whether to look again."""
        job = child.jobs[0]
        if child.seen is not job:
            child.seen, child.seen_at = job, now
            return True
        if not child.watched:
            self._family.watch_output(child)
        self._announce(child, job)
        return False

    def _announce(self, child: Offspring, job: Job) -> None:
        if not job.announced and not job.ended:
            job.announced = True
            self._host.started(job, self._started_at(child, job))

    def timeout(self) -> float:
        """Tell for how many seconds nothing is due; negative if nothing ever is."""
        now = monotonic()
        if self._unseen and self._look_at == NEVER:
            self._look_at = now + LOOK_S
        due = min(self._look_at, self._family.due_at(any_busy=bool(self.busy)), self._escalation.due_at())
        if self._watch is not None:
            due = min(due, self._watch.due_at())
        if now < self._retry_at < due and not self.draining:
            due = self._retry_at
        if due == NEVER:
            return -1.0
        return due - now if due > now else 0.0

    # ---- the end

    def reap(self) -> None:
        """Take note of processes that have ended."""
        self._family.reap()

    @property
    def empty(self) -> bool:
        """Tell whether every process has been waited for."""
        return self._family.empty


def _prepare_for_failures() -> None:
    """Import here, for all children to come, what the first job that raised had to import in its own process."""
    import linecache
    import traceback

    del linecache, traceback
    freeze()
