"""What nodes say about jobs, and what the application wants ended.

Rules: a result of the latest attempt settles its job, whatever it says, and also if the job was abandoned. A result
of an older attempt settles a job that is still open if it is a success, and the newer attempt is cancelled; a
failure of an older attempt may come from the node ending what nobody believed in any more. All other results are
counted. Every result is acknowledged, in one message for each message of results, for the node keeps it until then.
"""

from __future__ import annotations

from collections.abc import Sequence

from dispy.engine.effects import JobChange, SendMessage
from dispy.engine.ledger import Ledger
from dispy.engine.placing import window_of
from dispy.engine.records import Computation, Job, JobState, Node, Placement
from dispy.engine.tables import JOB_TABLE, JobStep, advance_job
from dispy.errors import RemoteProtocolError
from dispy.model import AttemptKey, ComputationId, JobId, JobStatus, Outcome
from dispy.wire.messages import (
    AckResults,
    CancelJobs,
    JobResult,
    JobResults,
    JobsRejected,
    JobsStarted,
    JobStart,
)

REJECTED_PAUSE_S = 1.0
"""Seconds for which a placement that has rejected jobs gets no others; a node that rejects without saying that
it drains would otherwise be sent the same jobs as fast as the network carries them."""

MEAN_SHARE = 4.0
"""The smoothed run time of jobs weighs as much as this many results: it follows a change within a dozen jobs."""

AHEAD_FOR_EACH = 16
"""At most so many jobs are sent ahead for each that has ended there: the first ones to end are the short ones, and say
little about the others."""

_RUN_MAX_S = 1e9
"""Longer runs come from a clock that was set; they say nothing about jobs."""

_STATUS = (
    JobStatus.FINISHED,  # RETURNED
    JobStatus.FINISHED,  # EXITED
    JobStatus.TERMINATED,  # RAISED
    JobStatus.TERMINATED,  # DIED
    JobStatus.TERMINATED,  # BROKEN
    JobStatus.TERMINATED,  # CANCELLED; see `_cancelled_status`
    JobStatus.TERMINATED,  # EXCEEDED
)
_RUN_OUTCOMES = Outcome.RAISED
"""Outcomes up to this one tell how long a job takes."""

_EXITED = int(Outcome.EXITED)
_CANCELLED = int(Outcome.CANCELLED)
_STARTED = JOB_TABLE[JobState.ASSIGNED][JobStep.STARTED]
_SETTLED = JOB_TABLE[JobState.RUNNING][JobStep.RESULT]


class Settling:
    """Starts, results, rejections and cancellations of jobs."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def started(self, node: Node, message: JobsStarted) -> None:
        """Take in that attempts run."""
        ledger = self._ledger
        _, placement = self._find(node, message.computation)
        for start in message.starts:
            job = placement.inflight.get(start.job) if placement is not None else None
            if job is None or job.attempt != start.attempt:
                ledger.counters.late_starts += not _started_abandoned(placement, start)
                continue
            job.started_at = start.started_at
            if job.state is JobState.ASSIGNED:
                job.state = _STARTED
                ledger.changes.append(JobChange(job, JobStatus.RUNNING, node))
            else:
                advance_job(job, JobStep.STARTED)

    def results(self, node: Node, message: JobResults) -> None:
        """Take in how attempts ended, and acknowledge it.

        Raises:
            RemoteProtocolError: an outcome is none that there is.
        """
        ledger = self._ledger
        computation, placement = self._find(node, message.computation)
        acks: list[AttemptKey] = []
        count = 0
        total_s = 0.0
        for result in message.results:
            if not 0 <= result.outcome < len(_STATUS):
                raise RemoteProtocolError(
                    f"result of job {result.job} has the unknown outcome {result.outcome}"
                )
        for result in message.results:
            number = result.job
            acks.append((number, result.attempt))
            job = placement.inflight.get(number) if placement is not None else None
            if placement is None or computation is None or job is None or job.attempt != result.attempt:
                self._unexpected(node, computation, placement, result)
                continue
            del placement.inflight[number]
            placement.inflight_bytes -= len(job.body)
            placement.jobs_done += 1
            if result.started_at > 0.0 and result.outcome <= _RUN_OUTCOMES:
                run_s = result.ended_at - result.started_at
                if 0.0 <= run_s < _RUN_MAX_S:
                    count += 1
                    total_s += run_s
            self._settle(computation, job, result)
        if placement is not None and computation is not None:
            placement.moved_at = ledger.now
            if count:
                placement.cpu_time_s += total_s
                _learn(placement, count, total_s)
            ledger.touch(computation, placement)
        if acks and node.link is not None:
            ledger.acks.append(SendMessage(node.link, AckResults(message.computation, acks)))

    def is_awaited(self, node: Node, ident: str, number: int, attempt: int) -> bool:
        """Tell whether the result of an attempt can still settle its job, and *node* may have had that attempt."""
        computation, placement = self._find(node, ident)
        job = self._ledger.jobs.get(JobId(number))
        if computation is None or placement is None or job is None or job.computation != computation.id:
            return False
        if attempt == job.attempt and job.state is not JobState.QUEUED:
            return placement.inflight.get(number) is job or placement.abandoned.get(number) is job
        return 0 < attempt <= job.attempt  # it was lost, and may have succeeded nevertheless

    def _settle(self, computation: Computation, job: Job, result: JobResult) -> None:
        """Settle a job that was in flight by the result of its latest attempt. Hot."""
        changes = self._ledger.changes
        if result.started_at > 0.0:
            job.started_at = result.started_at
        status = _STATUS[result.outcome] if result.outcome != _CANCELLED else _cancelled_status(job)
        state = job.state
        if state is JobState.CANCELLING:
            if result.outcome == _EXITED and result.code != 0:
                status = JobStatus.TERMINATED  # by the signal that it was sent, or because of it
        elif state is JobState.ASSIGNED and computation.observed and job.started_at > 0.0:
            changes.append(JobChange(job, JobStatus.RUNNING, job.node))
        job.state = _SETTLED
        job.body = b""
        if job.needs:
            self._ledger.unneed(computation, job)
        computation.pending -= 1
        del self._ledger.jobs[job.id]
        changes.append(JobChange(job, status, job.node, result))

    def _unexpected(
        self, node: Node, computation: Computation | None, placement: Placement | None, result: JobResult
    ) -> None:
        """Settle an abandoned job, or one whose older attempt succeeds; count any other result."""
        ledger = self._ledger
        job = ledger.jobs.get(JobId(result.job))
        if computation is None or placement is None or job is None or job.computation != computation.id:
            ledger.counters.late_results += 1
            return
        if placement.abandoned.get(job.id) is job and job.attempt == result.attempt:
            del placement.abandoned[job.id]
            placement.jobs_done += 1
            if result.started_at > 0.0:
                job.started_at = result.started_at
            status = _STATUS[result.outcome] if result.outcome != _CANCELLED else _cancelled_status(job)
            ledger.settle(computation, job, JobStep.RESULT, status, result=result)
            return
        ledger.counters.late_results += 1
        if 0 < result.attempt < job.attempt and _is_success(result):
            self._settle_late(node, computation, job, result)

    def _settle_late(self, node: Node, computation: Computation, job: Job, result: JobResult) -> None:
        """Settle a job by the success of an older attempt, and have the latest one ended."""
        place = self._ledger.release_anywhere(computation, job)
        if place is not None and job.state is not JobState.CANCELLING:
            self._ledger.send(place.node, CancelJobs(computation.id, [(job.id, job.attempt)]))
        running_was_told = job.state is not JobState.QUEUED and job.state is not JobState.ASSIGNED
        job.node = node
        job.started_at = result.started_at
        if computation.observed and not running_was_told:
            self._ledger.changes.append(JobChange(job, JobStatus.RUNNING, node))
        self._ledger.settle(computation, job, JobStep.LATE_RESULT, _STATUS[result.outcome], result=result)

    def rejected(self, node: Node, message: JobsRejected, now: float) -> None:
        """Take back attempts that were not started; leave the placement alone for a while if nobody asked for it."""
        ledger = self._ledger
        computation, placement = self._find(node, message.computation)
        if computation is None or placement is None:
            ledger.counters.late_rejections += len(message.attempts)
            return
        jobs: dict[int, Job] = {}
        for number, attempt in message.attempts:
            job = placement.inflight.get(number)
            if job is not None and job.attempt == attempt:
                jobs[number] = job
            else:
                ledger.counters.late_rejections += 1
        if not jobs:
            return
        recalled = {(job.id, job.attempt) for job in jobs.values()} & placement.recalling
        placement.recalling -= recalled
        ledger.counters.recalled_jobs += len(recalled)
        if len(recalled) < len(jobs):
            ledger.counters.rejected_jobs += len(jobs) - len(recalled)
            placement.paused = True
            ledger.timers.set(("pause", computation.id, node.id), now + REJECTED_PAUSE_S)
        self.take_back(computation, placement, list(jobs.values()), f"rejected it: {message.reason}")

    def take_back(
        self, computation: Computation, placement: Placement, jobs: Sequence[Job], why: str
    ) -> None:
        """Take back attempts that the node says have never started and never will.

        One that it has said to run is not believed to be unstarted: it is lost there.
        """
        ledger = self._ledger
        running = [job for job in jobs if job.state is JobState.RUNNING]
        ledger.lose(computation, placement, running, why)
        returned = [job for job in jobs if job.state in (JobState.ASSIGNED, JobState.CANCELLING)]
        for job in returned:
            ledger.release(computation, placement, job)
            if job.state is JobState.CANCELLING:
                ledger.settle(
                    computation, job, JobStep.GIVEN_UP, JobStatus.CANCELLED, reason="it had not started"
                )
        again = [job for job in returned if job.state is JobState.ASSIGNED]
        ledger.requeue(computation, placement, again, JobStep.RETURNED)

    def cancel(self, numbers: Sequence[JobId]) -> None:
        """End jobs: queued ones at once, those at a node by asking it. Others are past cancelling."""
        ledger = self._ledger
        asked: dict[Placement, tuple[Computation, list[AttemptKey]]] = {}
        swept: dict[str, Computation] = {}
        for number in numbers:
            job = ledger.jobs.get(number)
            if job is None:
                continue
            computation = ledger.computations[job.computation]
            if job.state is JobState.QUEUED:
                ledger.settle(computation, job, JobStep.CANCEL_REQUESTED, JobStatus.CANCELLED)
                swept[computation.id] = computation
            elif job.state in (JobState.ASSIGNED, JobState.RUNNING):
                assert job.node is not None  # it was assigned there
                placement = computation.placements[job.node.id]
                advance_job(job, JobStep.CANCEL_REQUESTED)
                asked.setdefault(placement, (computation, []))[1].append((job.id, job.attempt))
        for placement, (computation, attempts) in asked.items():
            if not placement.node.reconciling:  # else it is asked when it has told what it has
                ledger.send(placement.node, CancelJobs(computation.id, attempts))
        for computation in swept.values():
            ledger.sweep(computation)

    def _find(self, node: Node, ident: str) -> tuple[Computation | None, Placement | None]:
        """Look up what a node speaks about; it may be gone by now."""
        computation = self._ledger.computations.get(ComputationId(ident))
        return computation, None if computation is None else computation.placements.get(node.id)


def _cancelled_status(job: Job) -> JobStatus:
    """Tell the status of a job that was ended before its time."""
    has_started = job.started_at > 0.0 or job.state is JobState.RUNNING
    return JobStatus.TERMINATED if has_started else JobStatus.CANCELLED


def _started_abandoned(placement: Placement | None, start: JobStart) -> bool:
    """Take in that an abandoned attempt runs, if it is one; the application keeps seeing it as abandoned."""
    job = placement.abandoned.get(start.job) if placement is not None else None
    if job is None or job.attempt != start.attempt:
        return False
    job.started_at = start.started_at
    advance_job(job, JobStep.STARTED)
    return True


def _is_success(result: JobResult) -> bool:
    return result.outcome == Outcome.RETURNED or (result.outcome == Outcome.EXITED and result.code >= 0)


def _learn(placement: Placement, count: int, total_s: float) -> None:
    """Smooth the run time of jobs, and adapt the window to it."""
    mean_s = total_s / count
    if placement.mean_s is not None:
        mean_s = placement.mean_s + (mean_s - placement.mean_s) * (count / (count + MEAN_SHARE))
    placement.mean_s = mean_s
    most = placement.slots + AHEAD_FOR_EACH * placement.jobs_done
    placement.window = min(window_of(placement.slots, mean_s), most)
