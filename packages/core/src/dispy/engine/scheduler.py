"""The scheduler: decides which node runs which job, and sees each job through to one end.

Vocabulary. A *link* is a connection to a node; a *placement* is one computation at one node; an *attempt* is one
start of a job there; a job is *settled* when nothing more can happen to it. States and their changes stand in
`dispy.engine.tables`; what is remembered in `dispy.engine.records`.

The parts, each with its rules in its module: `opening` (which nodes a computation uses), `placing` (which job goes
where; `demanding` for jobs that must have more than a slot), `recalling` (what waits there too long), `settling`
(starts, results, rejections, cancellations), `news` (what jobs tell while they run), `watching` (what they print
meanwhile), `sending` (files for jobs), `sharing` (data that several jobs read), `managing` (what the application
says about single nodes), `reconciling` (links, leases, agreement with nodes about what they have), `closing`;
`ledger` is what they share.

The effects of an event come in this order: what the event itself asks for, then news of jobs (at most one
TellJobs), then acknowledgements (the application has the results by then), then assignments, then TellClosed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

from dispy.engine.closing import Closing
from dispy.engine.effects import CloseLink, Effect, TellJobs, TellNode
from dispy.engine.events import (
    CancelRequested,
    ComputationAdded,
    ComputationClosing,
    DataReleased,
    Event,
    FileArrived,
    FileWanted,
    JobsGivenUp,
    JobsSubmitted,
    LinkClosed,
    LinkOpened,
    MessageReceived,
    NodeCpusLimited,
    NodeLeft,
    NodeRested,
    NodesWidened,
    NodeTaken,
    OutputUsed,
    TimePassed,
    WatchDropped,
    WatchWanted,
)
from dispy.engine.invariants import check_ledger
from dispy.engine.ledger import CLOSED_REASON, Counters, Ledger, describe_node, may_become_ready
from dispy.engine.managing import Managing
from dispy.engine.news import Hearing
from dispy.engine.opening import Opening
from dispy.engine.placing import Placing
from dispy.engine.ranks import enter, line_of, lines_of
from dispy.engine.recalling import Recalling
from dispy.engine.reconciling import Reconciling
from dispy.engine.records import Computation, Job, JobState, Node, Placement, PlacementState
from dispy.engine.sending import Sending
from dispy.engine.settling import Settling
from dispy.engine.sharing import Sharing
from dispy.engine.tables import JobStep
from dispy.engine.turns import Turns
from dispy.engine.watching import Watching
from dispy.errors import LocalProtocolError, RemoteProtocolError
from dispy.interfaces import FaultPolicy
from dispy.model import Avail, ClusterOrder, ComputationId, JobId, JobStatus, LinkId, NodeId, NodeStatus
from dispy.wire.messages import (
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    DataLost,
    FilesWanted,
    FileTaken,
    Goodbye,
    Heartbeat,
    JobNews,
    JobOutput,
    JobResults,
    JobsRejected,
    JobsStarted,
    Message,
    NodeChanged,
    Reconciled,
    StreamCredit,
    StreamEnded,
)

LEASE_S = 15.0
"""Seconds that a silent node keeps its jobs: three heartbeats."""


class SchedulerEngine:
    """The scheduler's state machine.

    Args:
        policy: decides about jobs that may have started on a node that is lost.
        lease_s: seconds that a silent node keeps its jobs.
        order: whose turn it is where several computations want the same slots.
    """

    def __init__(
        self, policy: FaultPolicy, *, lease_s: float = LEASE_S, order: ClusterOrder = ClusterOrder.FIRST
    ) -> None:
        self._ledger = ledger = Ledger(policy, lease_s)
        self._opening = Opening(ledger)
        self._placing = Placing(ledger, Turns(ledger, order))
        self._settling = Settling(ledger)
        self._recalling = Recalling(ledger)
        self._hearing = Hearing(ledger)
        self._sending = Sending(ledger)
        self._watching = Watching(ledger)
        self._sharing = Sharing(ledger)
        self._reconciling = Reconciling(ledger, self._opening, self._settling)
        self._closing = Closing(ledger, self._opening)
        self._added = 0
        self._managing = Managing(ledger, self._opening)
        self.nodes: Mapping[NodeId, Node] = MappingProxyType(ledger.nodes)
        """Every node that was ever connected, also lost ones."""
        self.computations: Mapping[ComputationId, Computation] = MappingProxyType(ledger.computations)
        """Every computation that is not closed; one that just was stays until the next event, to be looked up."""
        self.jobs: Mapping[JobId, Job] = MappingProxyType(ledger.jobs)
        """Every job that is not settled, abandoned ones included."""

    @property
    def counters(self) -> Counters:
        """What was seen and done since the scheduler began."""
        return self._ledger.counters

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what has happened, and tell what is to be done about it.

        Args:
            event: what has happened.
            now: seconds of a clock that never goes back.

        Raises:
            LocalProtocolError: the driver or the application contradicts itself; never for what a node sends.
        """
        self._closing.forget_closed()
        self._ledger.now = now
        match event:
            case MessageReceived():
                self._message_received(event.link, event.message, now)
            case FileArrived():
                node = self._ledger.links.get(event.link)
                if node is not None:
                    self._hearing.file(node, event.computation, event.news, taken=event.taken)
            case FileWanted():
                self._sending.send(event)
            case WatchWanted():
                self._watching.want(event)
            case OutputUsed():
                self._watching.used(event)
            case WatchDropped():
                self._watching.drop(event)
            case DataReleased():
                self._sharing.release(event)
            case JobsSubmitted():
                self._jobs_submitted(event)
            case JobsGivenUp():
                self._jobs_given_up(event)
            case CancelRequested():
                self._settling.cancel(event.jobs)
            case LinkOpened():
                self._link_opened(event)
            case LinkClosed():
                self._link_closed(event, now)
            case ComputationAdded():
                self._computation_added(event.computation)
            case ComputationClosing():
                computation = self._ledger.computations.get(event.computation)
                if computation is not None:
                    self._closing.close(computation, now, terminate=event.terminate)
            case NodesWidened():
                self._nodes_widened(event.computation)
            case NodeRested():
                self._managing.rest(event)
            case NodeTaken():
                self._managing.take(event)
            case NodeLeft():
                self._managing.leave(event)
            case NodeCpusLimited():
                self._managing.limit(event)
            case TimePassed():
                for key in self._ledger.timers.take_due(now):
                    self._time_is_up(*key)
            case _:  # pragma: no cover
                assert_never(event)
        return self._take_effects()

    def is_running(self, link: LinkId, computation: str, job: int, attempt: int) -> bool:
        """Tell whether the node at the other end of a link may speak for this attempt."""
        node = self._ledger.links.get(link)
        return node is not None and self._hearing.find(node, computation, job, attempt) is not None

    def is_awaited(self, link: LinkId, computation: str, job: int, attempt: int) -> bool:
        """Tell whether a result, or news, of this attempt from the other end of a link can still be of use."""
        node = self._ledger.links.get(link)
        return node is not None and self._settling.is_awaited(node, computation, job, attempt)

    def next_deadline(self) -> float | None:
        """Tell when `TimePassed` is to be handled at the latest, or None if nothing waits for time."""
        return self._ledger.timers.next_due()

    def check_invariants(self) -> None:
        """Check that the records fit together; it walks through all of them.

        Raises:
            AssertionError: they do not: a bug of this engine.
        """
        check_ledger(self._ledger)

    def _take_effects(self) -> list[Effect]:
        ledger = self._ledger
        self._closing.give_up_unreachable()
        self._sending.give_up_lost()
        effects = ledger.effects
        if ledger.changes:
            self._watching.forget_settled()
            effects.append(TellJobs(ledger.changes))
            ledger.changes = []
        if ledger.acks:
            effects.extend(ledger.acks)
            ledger.acks.clear()
        if ledger.unneeded:
            self._sharing.drop_unneeded()
        self._placing.dispatch()
        self._closing.finish()
        ledger.effects = []
        return effects

    # -- what the application wants --

    def _computation_added(self, computation: Computation) -> None:
        if computation.id in self._ledger.computations:
            raise LocalProtocolError(f"computation {computation.id} was added twice")
        computation.number = self._added
        self._added += 1
        self._ledger.computations[computation.id] = computation
        for node in self._ledger.nodes.values():
            self._opening.consider(computation, node)

    def _nodes_widened(self, ident: ComputationId) -> None:
        computation = self._ledger.computations.get(ident)
        if computation is not None:
            for node in self._ledger.nodes.values():
                self._opening.consider(computation, node)

    def _jobs_submitted(self, event: JobsSubmitted) -> None:
        ledger = self._ledger
        computations, jobs = ledger.computations, ledger.jobs
        for job in event.jobs:
            ledger.latest = job.id
            computation = computations.get(job.computation)
            if computation is None or computation.closing:
                ledger.refuse(job, CLOSED_REASON)
                continue
            if job.id in jobs:
                raise LocalProtocolError(f"job {job.id} was submitted twice")
            if job.demand is not None and job.pinned is None:
                enter(line_of(computation, job), job)
                ledger.awake[computation.id] = computation
            elif job.pinned is None:
                (line_of(computation, job) if job.priority else computation.queue).append(job)
                ledger.awake[computation.id] = computation
            elif (reason := self._pin(computation, job, job.pinned)) is not None:
                ledger.refuse(job, reason)
                continue
            jobs[job.id] = job
            computation.pending += 1
            if job.needs:
                self._sharing.need(computation, job)

    def _jobs_given_up(self, event: JobsGivenUp) -> None:
        computation = self._ledger.computations.get(event.computation)
        if computation is None:
            return
        for job in [job for queue in lines_of(computation) for job in queue if job.state is JobState.QUEUED]:
            self._ledger.settle(computation, job, JobStep.GIVEN_UP, JobStatus.TERMINATED, reason=event.reason)
        self._ledger.sweep(computation)

    def _pin(self, computation: Computation, job: Job, ident: NodeId) -> str | None:
        """Queue a job at the node that it is bound to, or tell why it can never run there."""
        placement = computation.placements.get(ident)
        if placement is None:
            node = self._ledger.nodes.get(ident)
            name = ident if node is None else describe_node(node)
            return f"it is bound to {name}, which {computation.name} does not use"
        if not may_become_ready(placement):
            return f"it is bound to {describe_node(placement.node)}, which cannot be used: {placement.reason}"
        enter(placement.pinned if job.demand is None else line_of(computation, job), job)
        self._ledger.touch(computation, placement)
        return None

    # -- links and time --

    def _link_opened(self, event: LinkOpened) -> None:
        if event.link in self._ledger.links:
            raise LocalProtocolError(f"link {event.link} was opened twice")
        try:
            self._reconciling.link_opened(event)
        except RemoteProtocolError as error:
            self._ledger.effects.append(CloseLink(event.link, str(error)))

    def _link_closed(self, event: LinkClosed, now: float) -> None:
        node = self._ledger.links.get(event.link)
        if node is None:
            return  # it was closed from here, or never accepted
        if event.final:
            self._reconciling.node_ended(node, event.reason)
        else:
            self._reconciling.link_closed(node, now)

    def _time_is_up(self, kind: str, ident: str, node_ident: str = "") -> None:
        ledger = self._ledger
        if kind == "lease":
            self._reconciling.lease_over(ledger.nodes[NodeId(ident)])
            return
        computation = ledger.computations[ComputationId(ident)]  # timers are cleared when it is forgotten
        if kind == "pause":
            placement = computation.placements[NodeId(node_ident)]
            placement.paused = False
            ledger.touch(computation, placement)
        elif kind == "recall":
            self._recalling.look(computation)
        elif kind == "demand":
            self._placing.demanding.look(computation)
        elif kind == "terminate":
            self._closing.terminate_over(computation)
        else:
            self._closing.close_over(computation)

    # -- what nodes say --

    def _message_received(self, link: LinkId, message: Message, now: float) -> None:
        node = self._ledger.links.get(link)
        if node is None:
            self._ledger.counters.stray_messages += 1
            return
        try:
            self._handle_message(node, message, now)
        except RemoteProtocolError as error:
            self._ledger.effects.append(CloseLink(link, str(error)))
            self._reconciling.link_closed(node, now)

    def _handle_message(self, node: Node, message: Message, now: float) -> None:
        match message:
            case JobResults():
                self._settling.results(node, message)
            case JobsStarted():
                self._settling.started(node, message)
                self._watching.started(node, message)
            case JobOutput():
                self._watching.output(node, message)
            case JobNews():
                self._hearing.results(node, message)
            case FileTaken():
                self._sending.taken(node, message)
            case FilesWanted():
                self._files_wanted(node, message)
            case DataLost():
                self._sharing.lost(node, message)
            case JobsRejected():
                self._settling.rejected(node, message, now)
            case ComputationReady():
                self._computation_ready(node, message)
            case ComputationFailed():
                self._computation_failed(node, message)
            case ComputationClosed():
                self._closing.computation_closed(node, message)
            case Reconciled():
                self._reconciling.reconciled(node, message)
            case NodeChanged():
                self._node_changed(node, message)
            case Heartbeat() | Goodbye() | StreamCredit() | StreamEnded():
                pass  # the driver's business
            case _:
                raise RemoteProtocolError(f"a node does not send {type(message).__name__}")

    def _placement(self, node: Node, ident: str) -> tuple[Computation, Placement] | None:
        computation = self._ledger.computations.get(ComputationId(ident))
        placement = None if computation is None else computation.placements.get(node.id)
        return None if computation is None or placement is None else (computation, placement)

    def _files_wanted(self, node: Node, message: FilesWanted) -> None:
        found = self._placement(node, message.computation)
        if found is not None and found[1].state is PlacementState.PREPARING:
            self._opening.files_wanted(node, found[1], message)
        else:
            self._ledger.counters.stray_messages += 1

    def _computation_ready(self, node: Node, message: ComputationReady) -> None:
        found = self._placement(node, message.computation)
        if found is not None and found[1].state is PlacementState.PREPARING:
            self._opening.ready(*found)
        else:
            self._ledger.counters.stray_messages += 1

    def _computation_failed(self, node: Node, message: ComputationFailed) -> None:
        found = self._placement(node, message.computation)
        if found is not None and found[1].state in (PlacementState.PREPARING, PlacementState.READY):
            computation, placement = found
            if computation.closing or not self._opening.restart(computation, placement, message.reason):
                self._opening.fail(computation, placement, message.reason)
        elif found is not None and found[1].state is PlacementState.CLOSING:
            self._closing.computation_closed(node, ComputationClosed(message.computation))
        else:
            self._ledger.counters.stray_messages += 1

    def _node_changed(self, node: Node, message: NodeChanged) -> None:
        if message.cpus < 0:
            raise RemoteProtocolError(f"{describe_node(node)} has {message.cpus} cpus")
        asked_before = (node.cpus, node.draining)
        node.cpus, node.draining, node.refusal = message.cpus, message.draining, message.reason
        avail = None if message.avail is None else Avail(*message.avail)
        if avail is not None and avail != node.avail:
            node.avail = avail
            for computation in self._ledger.computations.values():
                placement = computation.placements.get(node.id)
                if computation.observed and placement is not None and placement.initialized:
                    self._ledger.effects.append(TellNode(node, NodeStatus.AVAIL_INFO, computation.id))
        if (node.cpus, node.draining) != asked_before:
            self._opening.consider_all(node)
            self._ledger.touch_node(node)
