"""What really happened to each job, which no participant knows, and what must be true of it.

Safety, checked when it happens: a job that may start once starts once; a job has one end (an abandoned one may
still get one); what is told as its result is what it computed, or has a cause among the faults of the run.
Liveness, checked when faults have stopped: every job has an end, and one that may be run again a good one.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from dispy.engine.effects import JobChange
from dispy.model import AttemptKey, ComputationId, JobId, JobStatus, NodeId, Outcome
from dispy.wire.messages import JobResult
from dispy_testing.simulation.story import Broken

NO_DATA: Mapping[int, bytes] = MappingProxyType({})

_OWN = (Outcome.RETURNED, Outcome.EXITED, Outcome.RAISED)


class Manner(enum.Enum):
    """How a job ends if nobody interferes."""

    RETURNS = Outcome.RETURNED
    EXITS = Outcome.EXITED
    RAISES = Outcome.RAISED
    DIES = Outcome.DIED


class Excuse(enum.Flag):
    """Why a job may end otherwise than by itself."""

    NONE = 0
    CANCELLED = enum.auto()
    """The application asked for its end."""
    CLOSED = enum.auto()
    """Its computation was closed before it had ended."""
    RUNNER_DIED = enum.auto()
    """A runner that had it died, or could not be started."""
    NOT_STORED = enum.auto()
    """Its body could not be stored at a node."""
    LAPSED = enum.auto()
    """The node ended it as its client was away too long."""


@dataclass(slots=True)
class JobTruth:
    """One job: what it is, what was done to it, what was told about it."""

    client: int
    job: JobId
    computation: ComputationId
    body: bytes
    manner: Manner
    duration_s: float
    result_bytes: int
    stubborn: bool
    """It ignores the first signal."""
    repeatable: bool
    """It is reentrant under a policy that honours that, and not bound to a node."""
    pinned: NodeId | None
    needs: dict[int, bytes] = field(default_factory=dict)
    """Shared data that it reads, by number."""
    starts: Counter[int] = field(default_factory=Counter)
    """By attempt."""
    computed: dict[int, JobResult] = field(default_factory=dict)
    """What each attempt came to, and its body."""
    bodies: dict[int, bytes] = field(default_factory=dict)
    partials: dict[int, list[int]] = field(default_factory=dict)
    """Numbers of intermediate results that each attempt has sent."""
    heard: dict[int, list[int]] = field(default_factory=dict)
    """The same, as the application was told of them."""
    end: JobStatus | None = None
    outcome: Outcome | None = None
    """As told to the application."""
    abandoned: bool = False
    excuse: Excuse = Excuse.NONE
    reason: str = ""

    def __str__(self) -> str:
        return f"job {self.job} of client {self.client}"

    @property
    def has_end(self) -> bool:
        """The application has been told how it ended, or that nobody knows."""
        return self.end is not None or self.abandoned


class Truth:
    """All jobs of a run.

    Args:
        reliable: messages are neither doubled nor reordered within a connection.
    """

    def __init__(self, *, reliable: bool) -> None:
        self._reliable = reliable
        self.jobs: dict[tuple[int, JobId], JobTruth] = {}
        self.by_body: dict[bytes, JobTruth] = {}
        """Key at the beginning of a body -> its job."""
        self.starts = 0
        self.open = 0
        """Jobs without an end."""

    def add(self, job: JobTruth) -> None:
        """Take in a job that is about to be submitted."""
        self.jobs[job.client, job.job] = job
        self.by_body[job.body[:KEY_BYTES]] = job
        self.open += 1

    def find(self, client: str, number: int) -> JobTruth | None:
        """Give a job by the ident of its client."""
        return self.jobs.get((client_number(client), JobId(number)))

    def started(self, key: AttemptKey, body: bytes, data: Mapping[int, bytes] = NO_DATA) -> JobTruth:
        """Take in that a runner starts an attempt, when it has this shared data."""
        job = self.by_body.get(body[:KEY_BYTES])
        if job is None or job.job != key[0] or job.body != body:
            raise Broken(f"attempt {key} was started with the body of {job}, or a broken one")
        for number, content in job.needs.items():
            # An attempt whose job has ended elsewhere may run without, since nobody waits for its result.
            if data.get(number) != content and (number in data or (self._reliable and not job.has_end)):
                raise Broken(f"attempt {key} was started without shared data {number}, or with other data")
        self.starts += 1
        job.starts[key[1]] += 1
        if self._reliable:
            if job.starts[key[1]] > 1:
                raise Broken(f"attempt {key[1]} of {job} was started twice")
            if not job.repeatable and job.starts.total() > 1:
                raise Broken(f"{job} may be started once and was started {job.starts.total()} times")
        return job

    def ended(self, job: JobTruth, result: JobResult, body: bytes) -> None:
        """Take in how an attempt ended at its runner."""
        job.computed[result.attempt] = result
        job.bodies[result.attempt] = body

    def told(self, client: int, change: JobChange) -> None:
        """Take in what the application is told of a job."""
        job = self.jobs[client, change.job.id]
        status = change.status
        if job.end is not None:
            raise Broken(f"{job} is told to be {status.name} after it was {job.end.name}")
        if status is JobStatus.PROVISIONAL_RESULT:
            self._check_partial(job, change)
            return
        if status is JobStatus.RUNNING:
            if job.abandoned:
                raise Broken(f"{job} is told to run after it was abandoned")
            return
        if status is JobStatus.ABANDONED:
            if job.abandoned:
                raise Broken(f"{job} is abandoned twice")
            if self._reliable and job.repeatable:
                raise Broken(f"{job} may run again and is abandoned: {change.reason}")
            job.abandoned = True
        else:
            job.end = status
        job.reason = change.reason
        self.open -= job.end is None or not job.abandoned
        if change.result is not None:
            self._check_result(job, change.result, status)
        elif status in (JobStatus.FINISHED, JobStatus.TERMINATED):
            self._excused(job, Excuse.CLOSED, f"is {status.name} without a result: {change.reason}")
        elif status is JobStatus.CANCELLED and job.pinned is None:
            self._excused(job, Excuse.CANCELLED | Excuse.CLOSED, f"is cancelled: {change.reason}")

    def partial_told(self, job: JobTruth, attempt: int, number: int) -> None:
        """Take in that an attempt sends an intermediate result."""
        job.partials.setdefault(attempt, []).append(number)

    def refused(self, job: JobTruth | None, attempt: int, number: int) -> None:
        """Take in that an attempt is told that the client does not have what it has sent."""
        if job is not None and number in job.partials.get(attempt, []):
            job.partials[attempt].remove(number)

    def _check_partial(self, job: JobTruth, change: JobChange) -> None:
        """Check that intermediate results come once, and in order."""
        if job.abandoned:
            raise Broken(f"{job} has an intermediate result after it was abandoned")
        attempt, number = map(int, bytes(change.partial[:20]).split(b";")[0].split(b":"))
        before = job.heard.setdefault(attempt, [])
        if attempt != change.job.attempt or (before and number <= before[-1]):
            raise Broken(f"{job} tells {number} of attempt {attempt} after {before}")
        before.append(number)

    def _check_partials(self, job: JobTruth, attempt: int) -> None:
        """Check that everything an attempt has sent came before its result, unless the job was cancelled meanwhile."""
        sent, heard = job.partials.get(attempt, []), job.heard.get(attempt, [])
        if self._reliable and not job.excuse and sent != heard:
            raise Broken(f"{job} attempt {attempt} has sent {sent}, of which {heard} came before its result")

    def _check_result(self, job: JobTruth, result: JobResult, status: JobStatus) -> None:
        outcome = Outcome(result.outcome)
        job.outcome = outcome
        own = job.computed.get(result.attempt)
        if own is not None and own.outcome == outcome and own.detail == result.detail:
            if not job.abandoned:
                self._check_partials(job, result.attempt)
            if own.code != result.code or job.bodies[result.attempt] != result.body:
                raise Broken(f"{job} computed something else than what is told as its result")
        elif outcome in _OWN:
            raise Broken(
                f"{job} attempt {result.attempt} is told to have ended, which it has not: {result!r:.200}"
            )
        elif outcome is Outcome.CANCELLED:
            self._excused(job, Excuse.CANCELLED | Excuse.CLOSED, "ended as if it had been cancelled")
        elif outcome is Outcome.DIED:
            self._excused(job, Excuse.RUNNER_DIED | Excuse.LAPSED, f"is said to have died: {result.detail}")
        else:
            self._excused(job, Excuse.NOT_STORED, f"could not be run: {result.detail}")
        finished = outcome in (Outcome.RETURNED, Outcome.EXITED) and status is JobStatus.FINISHED
        if status is JobStatus.FINISHED and not finished:
            raise Broken(f"{job} is FINISHED with outcome {outcome.name}")

    def _excused(self, job: JobTruth, excuses: Excuse, what: str) -> None:
        if self._reliable and not job.excuse & excuses:
            raise Broken(f"{job} {what}, and nothing of the kind has happened to it")

    def check_ends(self) -> None:
        """Check that each job has an end, when there is no reason to wait any longer.

        Raises:
            Broken: one has none, or not the one that it must have.
        """
        for job in self.jobs.values():
            if not job.has_end:
                raise Broken(f"{job} has no end; it was started {job.starts.total()} times")
            if job.repeatable and not job.excuse and job.outcome is not job.manner.value:
                raise Broken(
                    f"{job} may run again and yet ended {job.end!r} with {job.outcome!r}: {job.reason}"
                )

    def statuses(self) -> Counter[str]:
        """Count the ends."""
        ends = (job.end or (JobStatus.ABANDONED if job.abandoned else None) for job in self.jobs.values())
        return Counter("none" if end is None else end.name.lower() for end in ends)


KEY_BYTES = 24
"""Bytes at the beginning of a body that name its job."""

_PERIOD = bytes(range(251))


def client_ident(number: int) -> str:
    """Make the ident of a client."""
    return f"c{number:031x}"


def client_number(ident: str) -> int:
    """Undo `client_ident`."""
    return int(ident[1:], 16)


def make_body(client: int, job: int, size: int) -> bytes:
    """Make the arguments of a job: at least `KEY_BYTES`."""
    key = b"%08d:%014d;" % (client, job)
    return key + _filling(size - KEY_BYTES)


def make_data(computation: ComputationId, number: int, size: int) -> bytes:
    """Make shared data of a computation."""
    return b"%s:%d;" % (computation.encode(), number) + _filling(size)


def make_result(body: bytes, size: int) -> bytes:
    """Make what a job computes of its arguments."""
    return body[:KEY_BYTES] + b"=>" + _filling(size - KEY_BYTES - 2)


def _filling(size: int) -> bytes:
    """Give bytes in which a piece that is missing or moved shows: no chunk is a multiple of the period."""
    return (_PERIOD * (size // len(_PERIOD) + 1))[:size] if size > 0 else b""
