"""What the parts of the scheduler share: its records, and the effects of the event in hand.

Every job that is not settled is in exactly one place: the queue of its computation, the pinned queue of a
placement, in flight at a placement, or abandoned at a placement. The methods here move jobs between places, so
that counts and states change together. A job that ends while it is queued stays in its queue as a dead entry
(`Computation.dropped` counts them) until it comes to the front or the dead outnumber the living: taking it out
at once would cost a walk through the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dispy.engine.effects import Effect, JobChange, Report, SendMessage
from dispy.engine.ranks import enter_first, forget_empty, line_of, lines_of
from dispy.engine.records import Computation, Job, JobState, Node, Placement, PlacementState
from dispy.engine.tables import JobStep, advance_job
from dispy.engine.timers import Timers
from dispy.interfaces import FaultPolicy, LostAttempt, Verdict
from dispy.model import ComputationId, JobId, JobStatus, LinkId, NodeId, SharedData
from dispy.wire.messages import JobResult, Message

DROPPED_MIN = 64
"""Dead queue entries that are not worth a walk through the queue."""


@dataclass(slots=True)
class Counters:
    """What the scheduler has seen and done since it began."""

    late_results: int = 0
    """Results of another attempt than the latest, or of jobs that are settled."""
    late_starts: int = 0
    late_rejections: int = 0
    stale_news: int = 0
    """Intermediate results of another attempt than the latest, or that had come before."""
    stale_output: int = 0
    """Output of another attempt than the latest, or that nobody looks at any more, or that came before."""
    stray_messages: int = 0
    """Messages of closed links, or about computations that are not there any more."""
    rejected_jobs: int = 0
    recalled_jobs: int = 0
    """Attempts that nodes gave back because they were asked to."""
    lost_attempts: int = 0
    reruns: int = 0


CLOSED_REASON = "the cluster is closed"
"""Why jobs end that are not done when their cluster is closed."""


def may_become_ready(placement: Placement) -> bool:
    """Tell whether jobs that are bound to the placement's node may still run there."""
    return not placement.dismissed and placement.state not in (PlacementState.FAILED, PlacementState.CLOSED)


def describe_node(node: Node) -> str:
    """Name a node for people."""
    return f"node {node.name} ({node.peer_host})"


class Ledger:
    """Records of one scheduler, and what it wants done about the event in hand."""

    def __init__(self, policy: FaultPolicy, lease_s: float) -> None:
        self.policy = policy
        self.lease_s = lease_s
        self.nodes: dict[NodeId, Node] = {}
        self.links: dict[LinkId, Node] = {}
        self.computations: dict[ComputationId, Computation] = {}
        self.jobs: dict[JobId, Job] = {}
        self.counters = Counters()
        self.now = 0.0
        """When the event in hand has happened."""
        self.timers = Timers()
        self.effects: list[Effect] = []
        self.changes: list[JobChange] = []
        self.acks: list[SendMessage] = []
        """Acknowledgements, to be sent after the application has the results."""
        self.touched: dict[Placement, Computation] = {}
        """Placements whose room may have changed."""
        self.awake: dict[ComputationId, Computation] = {}
        """Computations that may have a job to assign and a place for it."""
        self.latest = 0
        """Number of the job that was submitted last."""
        self.requeued: dict[ComputationId, Computation] = {}
        """Computations that have got back jobs which were assigned before."""
        self.unneeded: dict[tuple[ComputationId, int], SharedData | None] = {}
        """Shared data that no job may need any more; None if it was only released."""
        self._reported: dict[ComputationId | None, set[str]] = {}

    def send(self, node: Node, message: Message) -> None:
        """Send to a node, if it is connected; what it misses is made up for by reconciliation."""
        if node.link is not None:
            self.effects.append(SendMessage(node.link, message))

    def report(self, text: str, computation: ComputationId | None = None) -> None:
        """Tell the user, once for each text and computation."""
        reported = self._reported.setdefault(computation, set())
        if text not in reported:
            reported.add(text)
            self.effects.append(Report(text, computation))

    def forget_reports(self, computation: ComputationId) -> None:
        """Say it again if it happens to another computation of that name."""
        self._reported.pop(computation, None)

    def touch(self, computation: Computation, placement: Placement) -> None:
        """Look at the room of *placement* again before this event is done."""
        placement.blocked = False
        self.touched[placement] = computation
        self.awake[computation.id] = computation

    def touch_node(self, node: Node) -> None:
        """Look at the room of every placement at *node* again."""
        for computation in self.computations.values():
            placement = computation.placements.get(node.id)
            if placement is not None:
                self.touch(computation, placement)

    def release(self, computation: Computation, placement: Placement, job: Job) -> None:
        """Take a job out of flight; the caller says what becomes of it."""
        del placement.inflight[job.id]
        placement.inflight_bytes -= len(job.body)
        self.touch(computation, placement)
        if job.demand is not None:
            self.undemand(placement.node, job)

    def undemand(self, node: Node, job: Job) -> None:
        """Take note that a job with a demand has nothing any more at a node."""
        del node.demands[job.id]
        self.touch_node(node)

    def release_anywhere(self, computation: Computation, job: Job) -> Placement | None:
        """Take a job that is in flight or abandoned out of its place, and return that place."""
        placement = computation.placements.get(job.node.id) if job.node is not None else None
        if placement is None:
            return None
        if placement.inflight.get(job.id) is job:
            self.release(computation, placement, job)
            return placement
        if placement.abandoned.pop(job.id, None) is not None:
            return placement
        return None

    def settle(
        self,
        computation: Computation,
        job: Job,
        step: JobStep,
        status: JobStatus,
        *,
        result: JobResult | None = None,
        reason: str = "",
    ) -> None:
        """End a job for good, tell the application, and forget it. It is in flight nowhere."""
        if job.state is JobState.QUEUED:
            computation.dropped += 1
        if job.state is not JobState.ABANDONED:
            computation.pending -= 1
        advance_job(job, step)
        del self.jobs[job.id]
        job.body = b""
        if job.needs:
            self.unneed(computation, job)
        self.changes.append(JobChange(job, status, job.node, result, reason))

    def refuse(self, job: Job, reason: str) -> None:
        """End a job that was never taken in."""
        advance_job(job, JobStep.GIVEN_UP)
        job.body = b""
        job.needs = ()
        self.changes.append(JobChange(job, JobStatus.CANCELLED, None, None, reason))

    def requeue(
        self, computation: Computation, placement: Placement, jobs: Sequence[Job], step: JobStep
    ) -> None:
        """Put jobs that were just released at *placement* back to the front of their queues, in order."""
        for job in reversed(jobs):
            advance_job(job, step)
            job.node = None
            job.started_at = 0.0
            if job.demand is not None:
                enter_first(line_of(computation, job), job)
            elif job.pinned is not None:
                enter_first(placement.pinned, job)
            else:
                line_of(computation, job).appendleft(job)
        self.requeued[computation.id] = computation
        if computation.closing:
            for job in jobs:
                self.settle(computation, job, JobStep.GIVEN_UP, JobStatus.CANCELLED, reason=CLOSED_REASON)
        elif not may_become_ready(placement) and any(job.pinned is not None for job in jobs):
            self.drop_pinned(computation, placement, placement.reason)
        self.awake[computation.id] = computation

    def lose(self, computation: Computation, placement: Placement, jobs: Sequence[Job], why: str) -> None:
        """Have the fault policy decide about attempts that are lost though they may have started.

        Args:
            computation: what they are jobs of.
            placement: where they are in flight; a pinned job runs again only if it is still usable.
            jobs: the jobs, in the order of their assignment.
            why: what the node did, as a phrase that goes on after its name.
        """
        again = []
        for job in jobs:
            self.release(computation, placement, job)
            self.counters.lost_attempts += 1
            if job.state is JobState.CANCELLING:
                reason = f"it was being cancelled when {describe_node(placement.node)} {why}"
                self.settle(computation, job, JobStep.GIVEN_UP, JobStatus.CANCELLED, reason=reason)
                continue
            pinned = job.pinned is not None
            verdict = self.policy.decide(LostAttempt(computation.reentrant, pinned, job.attempt))
            if verdict is Verdict.RERUN and (not pinned or may_become_ready(placement)):
                self.counters.reruns += 1
                again.append(job)
            else:
                self._abandon(computation, placement, job, why)
        if again:
            self.requeue(computation, placement, again, JobStep.RERUN)

    def _abandon(self, computation: Computation, placement: Placement, job: Job, why: str) -> None:
        advance_job(job, JobStep.ABANDONED)
        computation.pending -= 1
        placement.abandoned[job.id] = job
        reason = (
            f"{describe_node(placement.node)} {why}; the job may have started there, "
            "and may not be started a second time"
        )
        self.changes.append(JobChange(job, JobStatus.ABANDONED, placement.node, None, reason))

    def forget_abandoned(self, placement: Placement) -> None:
        """Wait no longer for results of jobs that were abandoned at *placement*; they stay abandoned."""
        for job in placement.abandoned.values():
            self.forget(job)
        placement.abandoned.clear()

    def forget(self, job: Job) -> None:
        """Wait no longer for the result of an abandoned job that was just taken from its placement."""
        advance_job(job, JobStep.GIVEN_UP)
        del self.jobs[job.id]
        job.body = b""
        if job.needs:
            self.unneed(self.computations[job.computation], job)

    def unneed(self, computation: Computation, job: Job) -> None:
        """Count a job no longer among those that need shared data; it is forgotten."""
        for data in job.needs:
            computation.shared[data.id].jobs -= 1
            self.unneeded[computation.id, data.id] = data
        job.needs = ()

    def drop_pinned(self, computation: Computation, placement: Placement, why: str) -> None:
        """Cancel jobs that wait for a placement which is not coming."""
        queue, placement.pinned = placement.pinned, deque()
        for key in [key for key in computation.demanding if key[1] == placement.node.id]:
            queue.extend(computation.demanding.pop(key).jobs)
        for job in queue:
            if job.state is JobState.QUEUED:
                reason = f"it is bound to {describe_node(placement.node)}, which cannot be used: {why}"
                self.settle(computation, job, JobStep.GIVEN_UP, JobStatus.CANCELLED, reason=reason)
            computation.dropped -= 1  # dead before, or dead by now: it leaves the queue either way

    def sweep(self, computation: Computation) -> None:
        """Take dead entries out of the queues if they outnumber the others."""
        dropped = computation.dropped
        if dropped < DROPPED_MIN or dropped * 2 < sum(map(len, lines_of(computation))):
            return
        computation.queue = _alive(computation.queue)
        computation.ranked = {rank: _alive(line) for rank, line in computation.ranked.items()}
        for demanding in computation.demanding.values():
            demanding.jobs = _alive(demanding.jobs)
        forget_empty(computation)
        for placement in computation.placements.values():
            if placement.pinned:
                placement.pinned = _alive(placement.pinned)
        computation.dropped = 0


def _alive(queue: Iterable[Job]) -> deque[Job]:
    return deque(job for job in queue if job.state is JobState.QUEUED)
