"""A runner without processes: takes the commands of the daemon, each some time later, and tells what happens.

It does what `dispy_node.runner.main` does: commands wait in the socket until the computation is loaded; starts and
results of one turn are told together, and a start is left out if the result goes along; a request for fewer slots is
confirmed when so few jobs run.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dispy.model import INLINE_BODY_BYTES, AttemptKey, ComputationId, Outcome
from dispy.wire.messages import FILE, PARTIAL, JobResult, JobStart, News, WatchOutput
from dispy_node.engine import events as ev
from dispy_node.engine.records import Body, Grant, Spooled
from dispy_testing.simulation.printing import EVERY, PRINTS, Printing
from dispy_testing.simulation.spool import SimulatedSpool
from dispy_testing.simulation.timeline import Action, Timeline
from dispy_testing.simulation.truth import JobTruth, Truth, make_result

NO_GRANTS: Mapping[AttemptKey, Grant] = MappingProxyType({})

SOCKET_S = 0.002
"""Greatest delay of a frame between daemon and runner."""

TURN_S = 0.001
"""Greatest time from what happens to the frame that tells it."""

NEWS_MAX = 4
"""A job tells as much as this, or less, while it runs."""

KILL_S = 5.0
"""Time that a job has between the first signal and the last."""


@dataclass(slots=True, eq=False)
class RunningJob:
    """A job that the runner has."""

    key: AttemptKey
    body: bytes
    truth: JobTruth | None = None
    """Set when it is started."""
    started_at: float = 0.0
    cancelled: bool = False
    grant: Grant | None = None

    @property
    def cpus(self) -> int:
        """How many slots of the node it takes."""
        return 1 if self.grant is None else self.grant.cpus


class SimulatedRunner:
    """One runner.

    Args:
        timeline: the clock.
        rng: where delays come from.
        truth: told of starts and ends.
        spool: the node's spool folder.
        clock: gives the time of the node's wall clock.
        emit: takes what the runner tells.
        counts: told how many more slots are in use when jobs start, and when they end here.
    """

    def __init__(
        self,
        computation: ComputationId,
        timeline: Timeline,
        rng: random.Random,
        truth: Truth,
        spool: SimulatedSpool,
        *,
        clock: Callable[[], float],
        emit: Callable[[ev.Event], None],
        counts: Callable[[int], None],
    ) -> None:
        self.computation = computation
        self.jobs: dict[AttemptKey, RunningJob] = {}
        self.busy: dict[AttemptKey, RunningJob] = {}
        self.data: dict[int, bytes] = {}
        """Shared data, which the daemon puts there and removes."""
        self.ready = False
        self.doom: Action | None = None
        """Called when the next job has been started, before anybody is told of that."""
        self._timeline = timeline
        self._rng = rng
        self._truth = truth
        self._spool = spool
        self._clock = clock
        self._emit = emit
        self._counts = counts
        self._early: list[Action] = []
        self._heard_at = self._told_at = 0.0
        self._queue: deque[RunningJob] = deque()
        self._slots = 0
        self._owed: int | None = None
        self._closing = False
        self._dead = False
        self._turning = False
        self._starts: list[tuple[RunningJob, JobStart]] = []
        self._results: list[ev.AttemptResult] = []
        self._printing = Printing(computation, self._tell)

    # -- the daemon's side

    def start(self, load_s: float, failure: str) -> None:
        """Load the computation for so long, then be ready, or fail if *failure* is a reason."""
        self._timeline.after(load_s, lambda: self._loaded(failure))

    def run_jobs(
        self, jobs: Sequence[tuple[AttemptKey, Body]], granted: Mapping[AttemptKey, Grant] = NO_GRANTS
    ) -> None:
        """Take jobs, which are the runner's from here on; those with a grant start whatever slots there are."""
        self._hear(lambda: self._take(jobs, granted))

    def set_slots(self, slots: int) -> None:
        """Allow so many jobs at once."""
        self._hear(lambda: self._change_slots(slots))

    def cancel(self, attempts: Sequence[AttemptKey]) -> None:
        """End these."""
        self._hear(lambda: self._cancel([self.jobs[key] for key in attempts if key in self.jobs]))

    def recall(self, attempts: Sequence[AttemptKey]) -> None:
        """Give back those that are not started."""
        self._hear(lambda: self._recall([self.jobs[key] for key in attempts if key in self.jobs]))

    def answer(self, key: AttemptKey, number: int, *, taken: bool) -> None:
        """Let a job hear whether its news is taken."""
        if not taken:
            self._truth.refused(self.jobs[key].truth if key in self.jobs else None, key[1], number)

    def watch(self, message: WatchOutput) -> None:
        """Let somebody look at the output of a job."""
        self._hear(lambda: self._printing.watch(message))

    def close(self, *, terminate: bool) -> None:
        """Clean up and end."""
        self._hear(lambda: self._close(terminate=terminate))

    def kill(self) -> None:
        """End at once with all jobs, and tell nobody: the daemon is dead too."""
        self._dead = True
        self._counts(-sum(job.cpus for job in self.busy.values()))
        self.busy.clear()
        self.jobs.clear()

    def die(self, reason: str) -> None:
        """End at once with all jobs; the daemon notices."""
        if not self._dead:
            self.kill()
            self._tell(ev.RunnerEnded(self.computation, reason) if self.ready else _failed(self, reason))

    def _hear(self, command: Action) -> None:
        """Have *command* carried out when it has come through the socket, after those before it."""
        self._heard_at = max(self._heard_at, self._timeline.now + SOCKET_S * self._rng.random())
        self._timeline.at(self._heard_at, lambda: self._obey(command))

    def _obey(self, command: Action) -> None:
        if self._dead:
            return
        if self.ready:
            command()
            self._turn()
        else:
            self._early.append(command)

    def _tell(self, event: ev.Event) -> None:
        self._told_at = max(self._told_at, self._timeline.now + SOCKET_S * self._rng.random())
        self._timeline.at(self._told_at, lambda: self._emit(event))

    # -- the runner's side

    def _loaded(self, failure: str) -> None:
        if self._dead:
            return
        if failure:
            self.die(failure)
            return
        self.ready = True
        self._tell(ev.RunnerReady(self.computation))
        early, self._early = self._early, []
        for command in early:
            command()
        self._turn()

    def _take(self, jobs: Sequence[tuple[AttemptKey, Body]], granted: Mapping[AttemptKey, Grant]) -> None:
        for key, body in jobs:
            data = self._spool.take(body) if isinstance(body, Spooled) else bytes(body)
            job = RunningJob(key, data, grant=granted.get(key))
            self.jobs[key] = job
            if job.grant is not None:
                self._queue.appendleft(job)
            else:
                self._queue.append(job)

    def _change_slots(self, slots: int) -> None:
        if slots < self._slots or self._owed is not None:
            self._owed = slots
        self._slots = slots

    def _cancel(self, jobs: Sequence[RunningJob]) -> None:
        for job in jobs:
            if job.cancelled:
                continue
            job.cancelled = True
            if job.truth is None:
                self._finish(job, Outcome.CANCELLED, 0, "cancelled before it started")
            else:
                left_s = KILL_S if job.truth.stubborn else 0.1 * self._rng.random()
                self._timeline.after(left_s, lambda job=job: self._killed(job))  # type: ignore[misc]

    def _recall(self, jobs: Sequence[RunningJob]) -> None:
        for job in jobs:
            if job.truth is None and not job.cancelled:
                self._finish(job, Outcome.CANCELLED, 0, "")

    def _killed(self, job: RunningJob) -> None:
        if self.busy.get(job.key) is job:
            self._finish(job, Outcome.CANCELLED, -15, "cancelled")
            self._turn()

    def _close(self, *, terminate: bool) -> None:
        self._closing = True
        self._cancel([job for job in self.jobs.values() if job.truth is None])
        if terminate:
            for job in list(self.busy.values()):
                self._finish(job, Outcome.CANCELLED, -9, "its computation was closed")

    def _turn(self) -> None:
        """Start what can be started, and have told soon what has happened."""
        while self._queue and not self._closing:
            if self._queue[0].grant is None and self._plain() >= self._slots:
                break
            job = self._queue.popleft()
            if self.jobs.get(job.key) is job:
                self._start(job)
        if not self._turning:
            self._turning = True
            self._timeline.after(TURN_S * self._rng.random(), self._flush)

    def _plain(self) -> int:
        return sum(job.grant is None for job in self.busy.values())

    def _start(self, job: RunningJob) -> None:
        self.busy[job.key] = job
        self._counts(job.cpus)
        job.started_at = self._clock()
        job.truth = self._truth.started(job.key, job.body, self.data)
        self._starts.append((job, JobStart(*job.key, job.started_at)))
        self._timeline.after(job.truth.duration_s, lambda: self._has_run(job))
        count = job.key[0] % (NEWS_MAX + 1)
        for number in range(1, count + 1):
            at_s = job.truth.duration_s * number / (count + 1)
            self._timeline.after(at_s, lambda number=number: self._tell_news(job, number))  # type: ignore[misc]
        if job.key[0] % EVERY == 0:
            self._printing.started(job.key)
            for number in range(1, PRINTS + 1):
                self._timeline.after(job.truth.duration_s * number / (PRINTS + 1), lambda: self._print(job))
        if self.doom is not None:
            self._timeline.after(0.0, self.doom)

    def _print(self, job: RunningJob) -> None:
        if self.busy.get(job.key) is job:
            self._tell_starts()
            self._printing.prints(job.key)

    def _tell_news(self, job: RunningJob, number: int) -> None:
        """Have a job tell something: small, large, a file, in turns."""
        if self.busy.get(job.key) is not job or job.truth is None:
            return
        self._tell_starts()
        body = b"%d:%d;" % (job.key[1], number)
        kind = FILE if number % 3 == 0 else PARTIAL
        spooled = None
        if number % 3 != 1:
            spooled = self._spool.store(body + bytes(INLINE_BODY_BYTES))
        if kind == PARTIAL:
            self._truth.partial_told(job.truth, job.key[1], number)
        news = News(*job.key, number, kind, b"" if spooled else body)
        self._tell(ev.NewsTold(self.computation, news, spooled))

    def _has_run(self, job: RunningJob) -> None:
        if self.busy.get(job.key) is not job or job.truth is None:
            return
        outcome: Outcome = job.truth.manner.value
        code = {Outcome.EXITED: 3, Outcome.DIED: -11}.get(outcome, 0)
        self._finish(job, outcome, code, "it died by itself" if outcome is Outcome.DIED else "")
        self._turn()

    def _finish(self, job: RunningJob, outcome: Outcome, code: int, detail: str) -> None:
        del self.jobs[job.key]
        self._printing.ended(job.key)
        if self.busy.pop(job.key, None) is not None:
            self._counts(-job.cpus)
        ended_at = self._clock() if job.started_at else 0.0
        body = b""
        if job.truth is not None and outcome in (Outcome.RETURNED, Outcome.EXITED, Outcome.RAISED):
            body = make_result(job.body, job.truth.result_bytes)
        is_large = len(body) > INLINE_BODY_BYTES
        result = JobResult(
            *job.key, int(outcome), code, detail, job.started_at, ended_at, b"" if is_large else body
        )
        if job.truth is not None:
            self._truth.ended(job.truth, result, body)
        self._results.append(ev.AttemptResult(result, self._spool.store(body) if is_large else None))

    def _tell_starts(self) -> None:
        starts = [start for job, start in self._starts if self.jobs.get(job.key) is job]
        self._starts = []
        if starts:
            self._tell(ev.AttemptsStarted(self.computation, starts))

    def _flush(self) -> None:
        self._turning = False
        if self._dead:
            return
        if self._owed is not None and self._plain() <= self._owed:
            self._tell(ev.SlotsGivenUp(self.computation, self._owed))
            self._owed = None
        self._tell_starts()
        if self._results:
            self._tell(ev.AttemptsEnded(self.computation, self._results))
            self._results = []
        if self._closing and not self.busy:
            self._dead = True
            self._tell(ev.RunnerEnded(self.computation))


def _failed(runner: SimulatedRunner, reason: str) -> ev.Event:
    return ev.RunnerFailed(runner.computation, reason)
