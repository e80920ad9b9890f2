"""The life of attempts until they have a result: assigned, handed to the runner, started, ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from dispy.model import AttemptKey, ComputationId, Outcome
from dispy.wire.messages import (
    AssignJobs,
    CancelJobs,
    DataLost,
    JobAssignment,
    JobDemand,
    JobLimits,
    JobResult,
    JobsStarted,
    RecallJobs,
)
from dispy_node.engine.effects import CancelAttempts, RecallAttempts, RunJobs
from dispy_node.engine.events import AttemptResult, AttemptsEnded, AttemptsStarted
from dispy_node.engine.gathering import is_demand
from dispy_node.engine.holding import ATTEMPT_BYTES, CROWDED, NEED_BYTES
from dispy_node.engine.ledger import Ledger, Violation
from dispy_node.engine.records import (
    Attempt,
    AttemptState,
    Body,
    Client,
    ComputationState,
    HostedComputation,
    Spooled,
)
from dispy_node.engine.results import Results, spool_files
from dispy_node.engine.tables import AttemptStep, advance_attempt

MAX_JOB = 2**63 - 1
"""Highest number of a job: what fits a signed 64-bit integer everywhere."""

MAX_ATTEMPT = 2**32 - 1
"""Highest number of an attempt: what fits a frame to the runner."""

MAX_LIMIT_S = 1e9
"""Longest time that a limit may be."""

MAX_PROCESSES = 2**31 - 1
"""The same for processes."""

QUEUED = AttemptState.QUEUED
RUNNING = AttemptState.RUNNING
ENDED = AttemptState.ENDED
CANCELLED = int(Outcome.CANCELLED)

RECALLED = "it was asked for back before it started"
"""Why an attempt is rejected that was recalled."""


class Attempts:
    """Handles what concerns attempts of hosted computations.

    Args:
        ledger: what the parts of the engine share.
        results: the part for results that are kept.
    """

    def __init__(self, ledger: Ledger, results: Results) -> None:
        self._ledger = ledger
        self._results = results

    # -- what the scheduler asks for

    def assign(self, client: Client, message: AssignJobs) -> None:
        """Take jobs: to the runner at once where that is possible.

        Raises:
            Violation: a number is out of range or order; the jobs before it are taken nevertheless.
        """
        ledger = self._ledger
        computation = ledger.owned(client, message.computation)
        elsewhere = self._elsewhere(client, message.computation)
        refusal = self._refusal(computation)
        if computation is None or refusal:
            known_keys = elsewhere if computation is None else (*elsewhere, computation.attempts)
            self._refuse(client, message, known_keys, refusal)
            return
        attempts = computation.attempts
        known = len(attempts)
        ready = computation.state is ComputationState.READY
        run: list[tuple[AttemptKey, Body]] = []
        limits: dict[AttemptKey, JobLimits] = {}
        crowded: list[AttemptKey] = []
        unfit: dict[str, list[AttemptKey]] = {}
        room = left = ledger.holding.room(client)
        lacking: list[JobAssignment] = []
        try:
            for job in message.jobs:
                key = (job.job, job.attempt)
                cost = ATTEMPT_BYTES + len(job.body) + NEED_BYTES * len(job.needs)
                if key in attempts or (elsewhere and any(key in keys for keys in elsewhere)):
                    self._pass_over(client, job)
                elif not (0 < job.job <= MAX_JOB and 0 < job.attempt <= MAX_ATTEMPT):
                    raise Violation(f"job {job.job} attempt {job.attempt} is out of range")
                elif job.limits is not None and not _are_limits(job.limits):
                    raise Violation(f"job {job.job} has the limits {job.limits}")
                elif job.demand is not None and not is_demand(job.demand):
                    raise Violation(f"job {job.job} demands {job.demand}")
                elif cost > left or crowded:  # those that follow would overtake it
                    crowded.append(key)
                    if job.stream:
                        ledger.announce(client, job.stream)
                        ledger.drop_stream(client, job.stream)
                elif job.carries is not None and (excess := ledger.excess(*job.carries)):
                    left -= cost
                    self._end_unfit(client, computation, job, cost, excess)
                elif job.needs and not all(
                    data in computation.data or data in computation.arriving for data in job.needs
                ):
                    self._leave_out(client, job)
                    lacking.append(job)
                elif job.demand is not None and (why := self._why_unfit(client, computation, job.demand)):
                    self._leave_out(client, job)
                    unfit.setdefault(why, []).append(key)
                elif job.stream:
                    ledger.announce(client, job.stream)
                    left -= cost
                    attempt = Attempt(key, AttemptState.RECEIVING, job.stream, limits=job.limits, cost=cost)
                    self._line_up(computation, attempt, job.demand)
                    attempt.carries = job.carries is not None
                    attempts[key] = attempt
                    _note_needs(computation, attempt, job.needs)
                    client.awaited[job.stream] = (computation, attempt)
                    computation.pending += 1
                elif ready and computation.has(job.needs) and job.demand is None:
                    left -= cost
                    attempts[key] = attempt = Attempt(key, QUEUED, cost=cost)
                    attempt.carries = job.carries is not None
                    run.append((key, job.body))
                    if job.limits is not None:
                        limits[key] = job.limits
                else:
                    left -= cost
                    attempts[key] = attempt = Attempt(
                        key, AttemptState.WAITING, body=job.body, limits=job.limits, cost=cost
                    )
                    attempt.carries = job.carries is not None
                    _note_needs(computation, attempt, job.needs)
                    self._line_up(computation, attempt, job.demand)
                    computation.pending += 1
        finally:
            ledger.counters.assigned += len(attempts) - known
            ledger.holding.count(client, room - left)
            ledger.reject(client, computation.id, crowded, CROWDED)
            for why, keys in unfit.items():
                ledger.reject(client, computation.id, keys, why)
            self._run(computation, run, limits)
        self._refuse_lacking(client, computation, lacking)

    def _why_unfit(self, client: Client, computation: HostedComputation, demand: JobDemand) -> str:
        """Tell why an attempt with this demand cannot wait here; empty if it can."""
        gathering = self._ledger.gathering
        return gathering.why_crowded(client.id) or gathering.why_never(computation, demand)

    def _line_up(self, computation: HostedComputation, attempt: Attempt, demand: JobDemand | None) -> None:
        if demand is not None:
            self._ledger.gathering.enter(attempt, computation, demand)

    def return_hopeless(self) -> None:
        """Give back attempts that can never have here what they must have."""
        ledger = self._ledger
        gathering = ledger.gathering
        for attempt, computation in gathering.hopeless():
            client = ledger.client_of(computation)
            why = gathering.why_never(computation, _demand_of(attempt))
            self.forget(client, computation, attempt)
            ledger.reject(client, computation.id, [attempt.key], why)
            ledger.touch(computation)

    def gather(self) -> None:
        """Start those for whom all that they must have is free, in turn."""
        ledger = self._ledger
        gathering = ledger.gathering
        while (found := gathering.next(ledger.now)) is not None:
            attempt, computation = found
            assert attempt.body is not None
            body, attempt.body = attempt.body, None
            _forget_needs(computation, attempt)
            attempt.grant = grant = gathering.grant(computation, attempt)
            key = attempt.key
            advance_attempt(attempt, AttemptStep.HANDED_OVER)
            computation.attempts[key] = computation.attempts.pop(key)  # see `hand_over`
            computation.pending -= 1
            computation.active += 1
            limits = {} if attempt.limits is None else {key: attempt.limits}
            carrying = frozenset([key] if attempt.carries else [])
            ledger.out.append(RunJobs(computation.id, [(key, body)], limits, carrying, {key: grant}))

    def _give_back(self, computation: HostedComputation, attempt: Attempt) -> None:
        """Take back what an attempt that has ended had for itself."""
        self._ledger.gathering.give_back(computation, attempt, self._ledger.now)

    def _end_unfit(
        self, client: Client, computation: HostedComputation, job: JobAssignment, cost: int, reason: str
    ) -> None:
        """End a job at once that this node does not run; *cost* is what is counted for it."""
        if job.stream:
            self._ledger.announce(client, job.stream)
            self._ledger.drop_stream(client, job.stream)
        key = (job.job, job.attempt)
        attempt = computation.attempts[key] = Attempt(key, AttemptState.WAITING, body=b"", cost=cost)
        computation.pending += 1
        self._end_here(client, computation, attempt, Outcome.BROKEN, reason)
        self._results.send(client, computation.id, [attempt])
        self._ledger.touch(computation)

    def _refuse_lacking(
        self, client: Client, computation: HostedComputation, jobs: list[JobAssignment]
    ) -> None:
        """Reject jobs whose shared data is not here, and say so, that it is sent again."""
        reason = "the node does not have the shared data that it needs"
        needs = {data for job in jobs for data in job.needs}
        for data in sorted(needs - computation.data - computation.arriving.keys()):
            self._ledger.tell(client, DataLost(computation.id, data, "it is not there"))
        self._ledger.reject(client, computation.id, [(job.job, job.attempt) for job in jobs], reason)

    def cancel(self, client: Client, message: CancelJobs) -> None:
        """End attempts: those that the runner has by the runner, the others here."""
        ledger = self._ledger
        computation = ledger.owned(client, message.computation)
        if computation is None:
            ledger.counters.stale += len(message.attempts)
            return
        ended, running = [], []
        for key in message.attempts:
            attempt = computation.attempts.get(key)
            if attempt is None or attempt.unwanted or attempt.cancelled or attempt.state is ENDED:
                ledger.counters.stale += 1
            elif attempt.state is QUEUED or attempt.state is RUNNING:
                if self.ask_end(computation, attempt):
                    running.append(key)
                attempt.cancelled = True
            else:
                self._end_here(client, computation, attempt, Outcome.CANCELLED, "cancelled before it started")
                ended.append(attempt)
        if running:
            ledger.out.append(CancelAttempts(computation.id, running))
        self._results.send(client, computation.id, ended)
        ledger.touch(computation)

    def recall(self, client: Client, message: RecallJobs) -> None:
        """Give back attempts that have not started: those that the runner has by the runner, the others here."""
        ledger = self._ledger
        computation = ledger.owned(client, message.computation)
        if computation is None:
            ledger.counters.stale += len(message.attempts)
            return
        rejected, queued = [], []
        for key in message.attempts:
            attempt = computation.attempts.get(key)
            if attempt is None or attempt.recalled or not self.ask_end(computation, attempt):
                ledger.counters.stale += 1
            elif attempt.state is QUEUED:
                attempt.recalled, attempt.why = True, RECALLED
                queued.append(key)
            elif attempt.state in (AttemptState.RECEIVING, AttemptState.WAITING):
                self.forget(client, computation, attempt)
                rejected.append(key)
        if queued:
            ledger.out.append(RecallAttempts(computation.id, queued))
        ledger.reject(client, computation.id, rejected, RECALLED)
        ledger.touch(computation)

    def ask_end(self, computation: HostedComputation, attempt: Attempt) -> bool:
        """Tell whether the runner must be asked to end an attempt that it has: only once, and if not all end."""
        asked = attempt.cancelled or attempt.withdrawn or attempt.unwanted or computation.terminate
        return not asked

    def _refusal(self, computation: HostedComputation | None) -> str:
        """Tell why jobs of *computation* cannot be taken; empty if they can."""
        if computation is None:
            return "the node does not have this computation"
        if computation.finishing or computation.state is ComputationState.CLOSING:
            return "the computation is being closed at the node"
        refusal = self._ledger.refusal
        return refusal and f"the node takes no jobs: {refusal}"

    def _refuse(
        self, client: Client, message: AssignJobs, known: Collection[Collection[AttemptKey]], reason: str
    ) -> None:
        """Reject jobs, but those that were taken earlier: these have, or will have, an end of their own."""
        rejected = []
        for job in message.jobs:
            key = (job.job, job.attempt)
            if any(key in keys for keys in known):
                self._pass_over(client, job)
                continue
            self._leave_out(client, job)
            rejected.append(key)
        self._ledger.reject(client, message.computation, rejected, reason)

    def _elsewhere(self, client: Client, computation: str) -> Collection[Collection[AttemptKey]]:
        """Give attempts that belong to an earlier life of a computation, or to one that is gone, without a copy."""
        name = ComputationId(computation)
        before = self._ledger.outgoing.get(name)
        lives = [client.leftovers.get(name), None]
        if before is not None and before.client == client.id:
            lives[1] = before.attempts
        return [attempts for attempts in lives if attempts]

    def _pass_over(self, client: Client, job: JobAssignment) -> None:
        """Leave out an assignment of what is already here."""
        self._ledger.counters.duplicates += 1
        self._leave_out(client, job)

    def _leave_out(self, client: Client, job: JobAssignment) -> None:
        """Throw away the body of a job that is not taken."""
        if job.stream:
            self._ledger.announce(client, job.stream)
            self._ledger.drop_stream(client, job.stream)

    # -- what becomes of bodies

    def body_stored(self, computation: HostedComputation, attempt: Attempt, body: Spooled) -> None:
        """Take the body that an attempt was RECEIVING."""
        attempt.stream = 0
        advance_attempt(attempt, AttemptStep.STORED)
        attempt.body = body
        if computation.state is ComputationState.READY:
            self.hand_over(computation, [attempt])

    def body_failed(self, client: Client, computation: HostedComputation, attempt: Attempt, why: str) -> None:
        """End an attempt whose body could not be received."""
        attempt.stream = 0
        self.break_off(client, computation, [attempt], why)

    def break_off(
        self, client: Client, computation: HostedComputation, attempts: list[Attempt], why: str
    ) -> None:
        """End attempts that the runner does not have and never will, as what they need cannot be had."""
        for attempt in attempts:
            self._end_here(client, computation, attempt, Outcome.BROKEN, why)
        self._results.send(client, computation.id, attempts)
        self._ledger.touch(computation)

    def hand_over(self, computation: HostedComputation, attempts: Iterable[Attempt]) -> None:
        """Give those of *attempts* that are WAITING, and lack no shared data, to the runner, which is ready."""
        run: list[tuple[AttemptKey, Body]] = []
        limits: dict[AttemptKey, JobLimits] = {}
        for attempt in attempts:
            waits = attempt.state is AttemptState.WAITING and attempt.body is not None
            if waits and not attempt.lacks and attempt.demand is None:
                assert attempt.body is not None
                _forget_needs(computation, attempt)
                run.append((attempt.key, attempt.body))
                if attempt.limits is not None:
                    limits[attempt.key] = attempt.limits
                attempt.body = None
                advance_attempt(attempt, AttemptStep.HANDED_OVER)
                # The dictionary has those that the runner has in the order in which it got them; see `settle`.
                computation.attempts[attempt.key] = computation.attempts.pop(attempt.key)
        computation.pending -= len(run)
        self._run(computation, run, limits)

    def _run(
        self,
        computation: HostedComputation,
        jobs: list[tuple[AttemptKey, Body]],
        limits: dict[AttemptKey, JobLimits],
    ) -> None:
        if jobs:
            computation.active += len(jobs)
            attempts = computation.attempts
            carrying = frozenset([key for key, _ in jobs if attempts[key].carries])
            self._ledger.out.append(RunJobs(computation.id, jobs, limits, carrying))
            self._ledger.slots.note_more(computation)

    # -- what the runner tells

    def started(self, event: AttemptsStarted) -> None:
        """Take note of starts and pass them on."""
        ledger = self._ledger
        computation = ledger.with_runner(event.computation)
        attempts = computation.attempts if computation is not None else {}
        told = []
        freed = 0
        for start in event.starts:
            attempt = attempts.get((start.job, start.attempt))
            if attempt is None or attempt.state is not QUEUED:
                ledger.counters.stale += 1
                continue
            advance_attempt(attempt, AttemptStep.STARTED)
            attempt.started_at = start.started_at
            attempt.seen_at = ledger.now
            freed += attempt.cost - ATTEMPT_BYTES
            attempt.needs = ()
            attempt.cost = ATTEMPT_BYTES
            if not attempt.unwanted:
                told.append(start)
        if computation is not None:
            client = ledger.client_of(computation)
            ledger.holding.count(client, -freed)
            if told and client.reconciled:
                ledger.tell(client, JobsStarted(computation.id, told))

    def ended(self, event: AttemptsEnded) -> None:
        """Keep results and pass them on."""
        ledger = self._ledger
        computation = ledger.with_runner(event.computation)
        if computation is None:
            ledger.counters.stale += len(event.results)
            ledger.remove([item.spooled for item in event.results if item.spooled is not None])
            return
        client = ledger.client_of(computation)
        attempts = computation.attempts
        told, others = [], []
        room = ledger.holding.room(client) + ledger.holding.reserve
        grown = 0
        for item in event.results:
            result = item.result
            attempt = attempts.get((result.job, result.attempt))
            if attempt is None or not (attempt.state is QUEUED or attempt.state is RUNNING):
                ledger.counters.stale += 1
                ledger.remove([item.spooled] if item.spooled is not None else [])
                continue
            if attempt.grant is not None:
                self._give_back(computation, attempt)
            if attempt.unwanted or (
                (attempt.withdrawn or (attempt.recalled and attempt.state is QUEUED))
                and result.outcome == CANCELLED
                and not (attempt.cancelled or computation.terminate)
            ):
                others.append((attempt, item))
            else:
                if result.body and grown > room:
                    result = _without_body(result)
                grown += _cost_result(attempt, result)
                advance_attempt(attempt, AttemptStep.FINISHED)
                attempt.result = result
                attempt.spooled = item.spooled
                if attempt.news:
                    self._results.drop_files(client, attempt)
                told.append(attempt)
        ledger.holding.count(client, grown)
        ledger.counters.ended += len(told)
        computation.active -= len(told) + len(others)
        if others:
            told += self._end_unusual(client, computation, others)
        if told and self._ledger.outgoing and self._ledger.outgoing.get(computation.id) is computation:
            self._results.move_to_leftovers(client, computation, told)
        ledger.slots.note_fewer(computation, ledger.now)
        self._results.send(client, computation.id, told)
        ledger.touch(computation)

    def _end_unusual(
        self, client: Client, computation: HostedComputation, items: list[tuple[Attempt, AttemptResult]]
    ) -> list[Attempt]:
        """End attempts that nobody wants, or that the node itself had cancelled; give those with a result."""
        told, files = [], []
        rejected: dict[str, list[AttemptKey]] = {}
        for attempt, item in items:
            never_started = attempt.state is QUEUED and not item.result.started_at
            if attempt.unwanted or never_started:
                if not attempt.unwanted:
                    rejected.setdefault(attempt.why, []).append(attempt.key)
                if item.spooled is not None:
                    files.append(item.spooled)
                self.forget(client, computation, attempt)
                continue
            detail = f"the node ended it: {attempt.why}"
            attempt.result = msgspec.structs.replace(item.result, outcome=int(Outcome.DIED), detail=detail)
            self._ledger.holding.count(client, _cost_result(attempt, attempt.result))
            attempt.spooled = item.spooled
            advance_attempt(attempt, AttemptStep.FINISHED)
            self._results.drop_files(client, attempt)
            told.append(attempt)
        self._ledger.counters.ended += len(told)
        self._ledger.remove(files)
        for why, keys in rejected.items():
            self._ledger.reject(client, computation.id, keys, why)
        return told

    # -- ends without the runner

    def cancel_pending(self, client: Client, computation: HostedComputation) -> None:
        """End all attempts that the runner does not have."""
        ended = []
        for attempt in computation.attempts.values():
            if attempt.state in (AttemptState.RECEIVING, AttemptState.WAITING):
                self._end_here(client, computation, attempt, Outcome.CANCELLED, "its computation was closed")
                ended.append(attempt)
        self._results.send(client, computation.id, ended)

    def settle(
        self,
        client: Client,
        computation: HostedComputation,
        reason: str,
        unsure: int = 0,
        *,
        died: bool = False,
    ) -> None:
        """End all attempts of a computation that has no runner any more; its results become leftovers.

        A runner that was killed may have started as many jobs as it had slots without having said so. The first
        *unsure* attempts that it had are therefore not told to have never started, which would start them again; nor,
        if it has *died*, are those that had all that they must have, as these start at once.
        """
        rejected, ended = [], []
        for attempt in list(computation.attempts.values()):
            if attempt.state is ENDED:
                continue
            may_run = died and attempt.grant is not None
            if attempt.grant is not None:
                self._give_back(computation, attempt)
            if not attempt.unwanted and computation.terminate:
                self._end_here(client, computation, attempt, Outcome.CANCELLED, "its computation was closed")
                ended.append(attempt)
            elif not attempt.unwanted and attempt.state is RUNNING:
                self._end_here(client, computation, attempt, Outcome.DIED, reason)
                ended.append(attempt)
            elif not attempt.unwanted and attempt.state is QUEUED and (may_run or unsure > 0):
                unsure -= not may_run
                self._end_here(
                    client, computation, attempt, Outcome.DIED, f"{reason}; the job may have started"
                )
                ended.append(attempt)
            else:
                if not attempt.unwanted:
                    rejected.append(attempt.key)
                self.forget(client, computation, attempt)
        computation.active = 0
        self._ledger.reject(client, computation.id, rejected, reason)
        self._results.send(client, computation.id, ended)
        self._results.move_to_leftovers(client, computation)

    def disown(
        self, client: Client, computation: HostedComputation, believed: Collection[AttemptKey]
    ) -> list[AttemptKey]:
        """Forget all attempts that are not *believed* in; give those that the runner has to end for it."""
        running = []
        for key, attempt in list(computation.attempts.items()):
            if key in believed:
                continue
            if attempt.state is QUEUED or attempt.state is RUNNING:
                if self.ask_end(computation, attempt):
                    running.append(key)
                attempt.unwanted = True
            else:
                self.forget(client, computation, attempt)
        return running

    def forget(self, client: Client, computation: HostedComputation, attempt: Attempt) -> None:
        """Drop an attempt without a word; `active` is left to the caller."""
        self._take_body(client, computation, attempt)
        self._ledger.remove(spool_files(attempt))
        self._ledger.holding.count(client, -attempt.cost)
        advance_attempt(attempt, AttemptStep.DROPPED)
        del computation.attempts[attempt.key]

    def _take_body(self, client: Client, computation: HostedComputation, attempt: Attempt) -> None:
        """Throw away the body, or what has come of it, of an attempt that the runner does not have."""
        _forget_needs(computation, attempt)
        if attempt.demand is not None:
            self._ledger.gathering.leave(attempt)
            attempt.demand = None
        if attempt.state is AttemptState.RECEIVING:
            if attempt.stream:
                self._ledger.drop_stream(client, attempt.stream)
            attempt.stream = 0
            computation.pending -= 1
        elif attempt.state is AttemptState.WAITING:
            if isinstance(attempt.body, Spooled):
                self._ledger.remove([attempt.body])
            attempt.body = None
            computation.pending -= 1

    def _end_here(
        self, client: Client, computation: HostedComputation, attempt: Attempt, outcome: Outcome, detail: str
    ) -> None:
        """Give an attempt a result that the runner has not told; `active` is left to the caller."""
        self._take_body(client, computation, attempt)
        ended_at = 0.0
        if attempt.state is RUNNING:
            ended_at = attempt.started_at + self._ledger.now - attempt.seen_at
        job, number = attempt.key
        attempt.result = JobResult(job, number, int(outcome), 0, detail, attempt.started_at, ended_at, b"")
        self._ledger.holding.count(client, _cost_result(attempt, attempt.result))
        advance_attempt(attempt, AttemptStep.FINISHED)
        self._results.drop_files(client, attempt)
        self._ledger.counters.ended += 1


def _demand_of(attempt: Attempt) -> JobDemand:
    assert attempt.demand is not None, "who is in line has a demand"
    return attempt.demand


def _are_limits(limits: JobLimits) -> bool:
    """Tell whether these are what a correct scheduler sends, and so fit a frame to the runner."""
    times = limits.timeout_s, limits.cpu_time_s
    return (
        all(0.0 <= time <= MAX_LIMIT_S for time in times)
        and 0 <= limits.memory_bytes <= MAX_JOB
        and 0 <= limits.processes <= MAX_PROCESSES
    )


def _cost_result(attempt: Attempt, result: JobResult) -> int:
    """Count the result of an attempt that was not ENDED, and not its arguments any more; return the difference."""
    before = attempt.cost
    attempt.needs = ()
    if attempt.state is not RUNNING:
        attempt.cost = ATTEMPT_BYTES
    attempt.cost += len(result.body) + len(result.detail)
    return attempt.cost - before


def _without_body(result: JobResult) -> JobResult:
    """Tell that a result was dropped."""
    return msgspec.structs.replace(
        result, outcome=int(Outcome.BROKEN), detail=f"its result was dropped: {CROWDED}", body=b""
    )


def _note_needs(computation: HostedComputation, attempt: Attempt, needs: tuple[int, ...]) -> None:
    """Note which shared data an attempt that waits needs: nobody looks through all attempts when it comes or goes."""
    attempt.needs = tuple(dict.fromkeys(needs))
    for number in attempt.needs:
        attempt.lacks += number not in computation.data
        computation.waiting.setdefault(number, {})[attempt.key] = attempt


def _forget_needs(computation: HostedComputation, attempt: Attempt) -> None:
    for number in attempt.needs:
        waiting = computation.waiting.get(number)
        if waiting is not None:
            waiting.pop(attempt.key, None)
            if not waiting:
                del computation.waiting[number]
