"""The node as one machine: `NodeEngine` takes events and returns effects.

    link       a connection to a client that both sides have greeted on
    client     a scheduler; it outlives its links by the lease, its results by `keep_results_s`
    lapsed     of a client: its lease is over, nothing new is started for it
    computation, attempt    see `dispy_node.engine.tables`
    active     of an attempt: at the runner and not ended; pending: not yet at the runner
    unwanted   of an attempt: the scheduler does not believe in it, its result will be dropped
    leftovers  unacknowledged results of computations that are gone
    outgoing   a computation whose runner is still ending while its client has opened it again

The parts: `attempts`, `results`, `news`, `watching`, `files`, `data`, `computations`, `clients` and `reconciling`
handle what concerns each, `duty` tells when jobs are taken, `slots` shares the slots, `gathering` gets for single
attempts what they must have, `ledger` holds what they share and checks it. This module only takes events apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dispy.errors import LocalProtocolError
from dispy.model import Avail, ClientId, ComputationId
from dispy.wire.messages import (
    AckNews,
    AckResults,
    AssignJobs,
    CancelJobs,
    CloseComputation,
    DropData,
    FilesComing,
    Goodbye,
    Heartbeat,
    LimitSlots,
    NodeChanged,
    OpenComputation,
    RecallJobs,
    Reconcile,
    SendFile,
    ShareData,
    StreamCredit,
    StreamEnded,
    WatchOutput,
)
from dispy_node.engine import events as ev
from dispy_node.engine.attempts import Attempts
from dispy_node.engine.clients import Clients
from dispy_node.engine.computations import Computations
from dispy_node.engine.data import DataStore
from dispy_node.engine.duty import Duty, Rules
from dispy_node.engine.effects import CloseLink, Effect, EndDaemon, RemoveSpooled, Report
from dispy_node.engine.files import Files
from dispy_node.engine.gathering import NO_RESOURCES
from dispy_node.engine.holding import MEMORY_BYTES
from dispy_node.engine.ledger import Counters, Ledger, Violation
from dispy_node.engine.news import NewsDesk
from dispy_node.engine.reconciling import Reconciling
from dispy_node.engine.records import Client, HostedComputation
from dispy_node.engine.results import Results
from dispy_node.engine.watching import Watching

LEASE_S = 15.0
"""How long a client may be away, in seconds: three heartbeats of 5 s, as everywhere in dispy."""

KEEP_RESULTS_S = 3600.0
"""How long results wait for a client that stays away, in seconds: long enough to restart a client by hand."""

QUIET_EVENTS = (ev.MessageReceived, ev.NewsTold, ev.OutputTold)
"""What comes often, and lets nobody start who waits for what it must have; but for messages, see below."""

LOUD_MESSAGES = (OpenComputation, CloseComputation, Reconcile)
"""Those that may let somebody start; where others do, slots are shared anew, or the line itself has told of it."""


class NodeEngine:
    """Everything that a node decides, without I/O.

    `handle` never raises for what a peer sends: a client that breaks the protocol loses its link.

    Args:
        cpus: number of slots.
        lease_s: how long a client may be away before nothing new is started for it.
        keep_results_s: how long results are kept after that, from the end of its last computation.
        memory_bytes: how much it may hold in memory for its clients, about.
        max_file_bytes: largest file that is taken; 0 for no limit.
        serve: end after so many computations have ended; None: go on.
        client_shutdown: the cleanup of a computation may have the node end.
        resources: name -> items that jobs can have, each for itself.

    Attributes:
        counters: what the node has seen, for the operator.
    """

    def __init__(
        self,
        *,
        cpus: int,
        lease_s: float = LEASE_S,
        keep_results_s: float = KEEP_RESULTS_S,
        memory_bytes: int = MEMORY_BYTES,
        max_file_bytes: int = 0,
        serve: int | None = None,
        client_shutdown: bool = False,
        resources: Mapping[str, Sequence[str]] = NO_RESOURCES,
    ) -> None:
        ledger = self._ledger = Ledger(
            _checked_cpus(cpus), lease_s, keep_results_s, memory_bytes, max_file_bytes, resources
        )
        results = Results(ledger)
        attempts = self._attempts = Attempts(ledger, results)
        computations = self._computations = Computations(ledger, attempts, results)
        news = NewsDesk(ledger, results)
        watching = Watching(ledger)
        files = self._files = Files(ledger)
        data = self._data = DataStore(ledger, attempts)
        self._clients = Clients(ledger, attempts, results, computations, news)
        reconciling = Reconciling(ledger, attempts, results, computations, news)
        rules = Rules(serve, client_shutdown)
        duty = self._duty = Duty(ledger, attempts, rules, self._tell_all)
        self._avail: Avail | None = None
        self._drain_ends_at = math.inf
        self._ended = False
        self._handlers: dict[type, Callable[[Any], object]] = {
            ev.LinkOpened: self._link_opened,
            ev.LinkClosed: self._link_closed,
            ev.MessageReceived: self._message_received,
            ev.StreamStored: self._stream_stored,
            ev.StreamFailed: self._stream_failed,
            ev.StreamThrownAway: self._stream_ended,
            ev.FilesFound: computations.files_found,
            ev.RunnerReady: computations.runner_ready,
            ev.RunnerFailed: computations.runner_gone,
            ev.RunnerEnded: computations.runner_gone,
            ev.AttemptsStarted: attempts.started,
            ev.AttemptsEnded: attempts.ended,
            ev.NewsTold: news.told,
            ev.OutputTold: watching.told,
            ev.FilePlaced: files.placed,
            ev.SlotsGivenUp: computations.slots_given_up,
            ev.CpusChanged: self._cpus_changed,
            ev.AvailMeasured: self._avail_measured,
            ev.HoursChanged: duty.hours_changed,
            ev.ShutdownAsked: duty.shutdown_asked,
            ev.DrainRequested: duty.drain_requested,
            ev.TimePassed: self._time_passed,
        }
        self._message_handlers: dict[type, Callable[[Client, Any], None]] = {
            AssignJobs: attempts.assign,
            AckResults: results.acknowledge,
            AckNews: news.acknowledge,
            WatchOutput: watching.watch,
            SendFile: files.offered,
            FilesComing: computations.files_coming,
            ShareData: data.offered,
            DropData: data.drop,
            CancelJobs: attempts.cancel,
            RecallJobs: attempts.recall,
            LimitSlots: computations.limit,
            OpenComputation: computations.open,
            CloseComputation: computations.close,
            Reconcile: reconciling.reconcile,
            # These are the session's, and mean nothing here.
            Heartbeat: _ignore,
            Goodbye: _ignore,
            StreamEnded: _ignore,
            StreamCredit: _ignore,
        }

    # -- what drivers and tests see

    @property
    def cpus(self) -> int:
        """Number of slots."""
        return self._ledger.slots.cpus

    @property
    def resources(self) -> Mapping[str, Sequence[str]]:
        """Name -> items that jobs can have."""
        return self._ledger.gathering.resources

    @property
    def resources_used(self) -> dict[str, list[str]]:
        """Name -> those items that jobs have at present."""
        return self._ledger.gathering.used()

    @property
    def avail(self) -> Avail | None:
        """What the machine had free when that was measured last."""
        return self._avail

    @property
    def draining(self) -> bool:
        """The node takes no more jobs, and ends when all is done."""
        return self._ledger.draining

    @property
    def refusal(self) -> str:
        """Why the node takes no jobs; empty if it does."""
        return self._ledger.refusal

    @property
    def served(self) -> int:
        """How many computations have ended."""
        return self._ledger.served

    @property
    def serve_left(self) -> int | None:
        """After how many more ends of computations the node ends; None if that is not counted."""
        return self._duty.serve_left

    @property
    def clients(self) -> Mapping[ClientId, Client]:
        """Clients that are here, or that something is kept for; not to be changed."""
        return MappingProxyType(self._ledger.clients)

    @property
    def computations(self) -> Mapping[ComputationId, HostedComputation]:
        """Computations that are here; not to be changed."""
        return MappingProxyType(self._ledger.computations)

    @property
    def counters(self) -> Counters:
        """What the node has seen."""
        return self._ledger.counters

    @property
    def held_bytes(self) -> int:
        """What the node holds in memory for its clients, about."""
        return self._ledger.holding.shares.held

    def handle(self, event: ev.Event, now: float) -> list[Effect]:
        """Take in what has happened; tell what is to be done, in order.

        Args:
            now: seconds on a monotonic clock.

        Raises:
            LocalProtocolError: the driver has done what no driver may do. Never for what a peer has sent.
        """
        ledger = self._ledger
        ledger.now = now
        out: list[Effect] = []
        ledger.out = out
        handler = self._handlers.get(type(event))
        if handler is None:
            raise LocalProtocolError(f"not an event of a node: {event!r}")
        handler(event)
        if type(event) not in QUIET_EVENTS:
            ledger.gathering.changed = True
        if ledger.slots.narrowed and ledger.slots.due:
            ledger.slots.narrowed = False
            self._attempts.return_hopeless()
        while ledger.touched:
            self._computations.close_if_done(ledger.touched.popitem()[0])
        if ledger.unsettled:
            self._clients.settle()
        self._duty.count()
        self._share(now)
        if ledger.draining and not self._ended:
            self._end_if_drained()
        return out

    def _share(self, now: float) -> None:
        """Give slots to single attempts first, then share the others; what the one does may let the other go on."""
        ledger = self._ledger
        slots, gathering = ledger.slots, ledger.gathering
        while True:
            gathering.changed |= slots.due
            if gathering.is_due:
                self._attempts.gather()
            if not slots.due:
                return
            ledger.out += slots.share(now)
            gathering.changed = True

    def next_deadline(self) -> float | None:
        """Tell when TimePassed is due, on the clock of `handle`; None if there is nothing to wait for."""
        shares = min(self._ledger.slots.deadline, self._ledger.gathering.deadline)
        deadline = min(shares, self._clients.next_deadline(), self._drain_ends_at)
        return deadline if deadline < math.inf else None

    def check_invariants(self) -> None:
        """Assert all that must hold between events.

        Raises:
            AssertionError: a bug in the engine.
        """
        self._ledger.check_invariants()

    # -- links

    def _link_opened(self, event: ev.LinkOpened) -> None:
        if event.link in self._ledger.links or event.link in self._ledger.newcomers:
            raise LocalProtocolError(f"link {event.link} is open already")
        self._clients.arrive(event.link, event.hello, event.told_cpus, event.owner, event.told_refusal)

    def _link_closed(self, event: ev.LinkClosed) -> None:
        client = self._ledger.links.get(event.link)
        if client is not None:
            self._clients.leave(client, final=event.final)
        self._ledger.newcomers.pop(event.link, None)

    def _message_received(self, event: ev.MessageReceived) -> None:
        ledger = self._ledger
        message = event.message
        if event.link in ledger.newcomers and type(message) is Reconcile:
            self._clients.take_over(event.link)
        client = ledger.links.get(event.link)
        if client is None:
            ledger.counters.stale += 1
            return
        try:
            handler = self._message_handlers.get(type(message))
            if handler is None:
                raise Violation(f"a client does not send {type(message).__name__} here")
            handler(client, message)
            if type(message) in LOUD_MESSAGES:
                ledger.gathering.changed = True
        except Violation as violation:
            ledger.gathering.changed = True
            ledger.counters.violations += 1
            ledger.out.append(Report(f"client {client.name!r} broke the protocol: {violation}", warning=True))
            ledger.out.append(CloseLink(event.link, str(violation)))
            self._clients.leave(client)

    # -- streams

    def _stream_ended(self, event: ev.StreamStored | ev.StreamFailed | ev.StreamThrownAway) -> Client | None:
        client = self._ledger.links.get(event.link)
        if client is not None:
            self._ledger.end_streams(client)
        return client

    def _stream_stored(self, event: ev.StreamStored) -> None:
        client = self._stream_ended(event)
        if client is not None and (
            self._files.stored(client, event.stream, event.spooled)
            or self._data.stored(client, event.stream, event.spooled)
        ):
            return
        awaited = client.awaited.pop(event.stream, None) if client is not None else None
        if awaited is None:
            self._ledger.counters.stale += 1
            self._ledger.out.append(RemoveSpooled([event.spooled]))
            return
        computation, attempt = awaited
        if attempt is None:
            self._computations.part_stored(computation, event.stream, event.spooled)
        else:
            self._attempts.body_stored(computation, attempt, event.spooled)

    def _stream_failed(self, event: ev.StreamFailed) -> None:
        client = self._stream_ended(event)
        if client is not None and (
            self._files.failed(client, event.stream, event.reason)
            or self._data.failed(client, event.stream, event.reason)
        ):
            return
        awaited = client.awaited.pop(event.stream, None) if client is not None else None
        if client is None or awaited is None:
            self._ledger.counters.stale += 1
            return
        computation, attempt = awaited
        if attempt is None:
            self._computations.part_failed(client, computation, event.stream, event.reason)
        else:
            self._attempts.body_failed(client, computation, attempt, event.reason)

    # -- the node itself

    def _tell_all(self) -> None:
        avail = self._avail
        free = None
        if avail is not None:
            free = (avail.cpu_percent, avail.memory_bytes, avail.disk_bytes, avail.swap_percent)
        refusal = self.refusal
        message = NodeChanged(self.cpus, free, bool(refusal), refusal)
        for client in self._ledger.links.values():
            self._ledger.tell(client, message)

    def _cpus_changed(self, event: ev.CpusChanged) -> None:
        if _checked_cpus(event.cpus) != self.cpus:
            self._ledger.slots.resize(event.cpus)
            self._tell_all()

    def _avail_measured(self, event: ev.AvailMeasured) -> None:
        self._avail = event.avail
        self._tell_all()

    def _end_if_drained(self) -> None:
        """End when nothing is left to run, and results are acknowledged or have waited for one lease."""
        ledger = self._ledger
        hosted = (*ledger.computations.values(), *ledger.outgoing.values())
        if any(computation.active or computation.pending for computation in hosted):
            return
        kept = any(computation.attempts for computation in hosted)
        if kept or any(client.leftovers for client in ledger.clients.values()):
            self._drain_ends_at = min(self._drain_ends_at, ledger.now + ledger.lease_s)
            if ledger.now < self._drain_ends_at:
                return
        self._ended = True
        self._drain_ends_at = math.inf
        ledger.out.append(EndDaemon())

    def _time_passed(self, event: ev.TimePassed) -> None:
        ledger = self._ledger
        self._clients.pass_time()
        if ledger.now >= ledger.slots.deadline:
            ledger.slots.due = True


def _ignore(client: Client, message: object) -> None:
    """Do nothing about a message."""


def _checked_cpus(cpus: int) -> int:
    if cpus < 0:
        raise LocalProtocolError(f"a node cannot have {cpus} slots; give 0 or more")
    return cpus
