"""What all parts of the node engine share: clients, computations, streams, counters, and the effects under way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dispy.model import AttemptKey, ClientId, ComputationId, LinkId
from dispy.sizes import too_large
from dispy.wire.messages import FILE, JobsRejected, Message
from dispy_node.engine.effects import DropStream, Effect, RemoveSpooled, SendMessage
from dispy_node.engine.gathering import NO_RESOURCES, Gathering
from dispy_node.engine.holding import (
    CROWDED,
    DATA_BYTES,
    MEMORY_BYTES,
    STREAM_BYTES,
    Holding,
    cost_of_file,
    cost_of_offer,
)
from dispy_node.engine.records import (
    Attempt,
    AttemptState,
    Client,
    ComputationState,
    HostedComputation,
    Newcomer,
    Spooled,
)
from dispy_node.engine.slots import SlotShares

ABOUT_TO_END = "it is about to end"
"""Why a node that drains takes no jobs."""


class Violation(Exception):
    """The peer sent what no correct peer sends; its text is the reason that the link is closed with."""


@dataclass(slots=True)
class Counters:
    """What a node has seen since it started."""

    assigned: int = 0
    """Attempts taken from clients."""
    ended: int = 0
    """Attempts that got a result."""
    rejected: int = 0
    """Attempts that never started, and of which the client was told so."""
    acknowledged: int = 0
    duplicates: int = 0
    """Assignments of attempts that were already there."""
    stale: int = 0
    """Messages and events about what is not there (any more) or not in that state."""
    violations: int = 0
    """Links closed as the peer broke the protocol."""


class Ledger:
    """The state of a node, with the few operations that keep its cross references right.

    Args:
        cpus: number of slots.
        lease_s: how long a client may be away before nothing new is started for it, in seconds.
        keep_results_s: how long results are kept for a client that stays away, in seconds.
        memory_bytes: how much may be held for all clients together.
        max_file_bytes: largest file that is taken; 0 for no limit.
        resources: name -> items that jobs can have.
    """

    def __init__(
        self,
        cpus: int,
        lease_s: float,
        keep_results_s: float,
        memory_bytes: int = MEMORY_BYTES,
        max_file_bytes: int = 0,
        resources: Mapping[str, Sequence[str]] = NO_RESOURCES,
    ) -> None:
        self.max_file_bytes = max_file_bytes
        self.lease_s = lease_s
        self.keep_results_s = keep_results_s
        self.now = -math.inf
        """Time of the event that is being handled."""
        self.out: list[Effect] = []
        """Effects of the event that is being handled."""
        self.clients: dict[ClientId, Client] = {}
        self.links: dict[LinkId, Client] = {}
        """Link -> the client at its other end."""
        self.newcomers: dict[LinkId, Newcomer] = {}
        """Second links of clients, in the order in which they came."""
        self.computations: dict[ComputationId, HostedComputation] = {}
        self.outgoing: dict[ComputationId, HostedComputation] = {}
        """Computations whose runners are still ending while a new one of the same id is already here."""
        self.away: dict[ClientId, Client] = {}
        """Clients without a link."""
        self.unsettled: dict[ClientId, Client] = {}
        """Those of them that something runs for, or may: not those of which only results wait, which may be many."""
        self.touched: dict[HostedComputation, None] = {}
        """Computations that may have nothing left to do; looked at when the event is handled."""
        self.slots = SlotShares(cpus)
        self.gathering = Gathering(self.slots, resources)
        self.holding = Holding(memory_bytes, self.slots)
        self.counters = Counters()
        self.draining = False
        """The node ends when all is done that it has."""
        self.pause = ""
        """Why no jobs are taken for now; empty if they are."""
        self.served = 0
        """Computations that have come to an end."""

    @property
    def refusal(self) -> str:
        """Why no jobs are taken; empty if they are."""
        return ABOUT_TO_END if self.draining else self.pause

    def client_of(self, computation: HostedComputation) -> Client:
        """Give the client that a computation belongs to; it stays as long as its computations do."""
        return self.clients[computation.client]

    def owned(self, client: Client, computation: str) -> HostedComputation | None:
        """Give the computation of that id if it belongs to *client*."""
        found = self.computations.get(ComputationId(computation))
        return found if found is not None and found.client == client.id else None

    def with_runner(self, computation: ComputationId) -> HostedComputation | None:
        """Give the computation that a runner of this name is, or was last, started for."""
        return self.outgoing.get(computation) or self.computations.get(computation)

    def touch(self, computation: HostedComputation) -> None:
        """Have the computation closed at the end of this event, if it is time."""
        if not (computation.active or computation.pending):
            self.touched[computation] = None

    def tell(self, client: Client, message: Message) -> None:
        """Send to a client, if it can be reached."""
        if client.link is not None:
            self.out.append(SendMessage(client.link, message))

    def reject(self, client: Client, computation: str, keys: list[AttemptKey], reason: str) -> None:
        """Tell a client that attempts have not been started and never will be."""
        if keys:
            self.counters.rejected += len(keys)
            self.tell(client, JobsRejected(computation, keys, reason))

    def announce(self, client: Client, stream: int) -> None:
        """Take note of a stream that the client announces.

        Raises:
            Violation: its number is not above those before, or there is no memory for more.
        """
        if stream <= client.last_stream:
            raise Violation(f"stream {stream} is announced after stream {client.last_stream}")
        holding = self.holding
        if holding.room(client) < -holding.reserve:
            raise Violation(f"stream {stream} is announced, and {CROWDED}: send fewer at once")
        client.last_stream = stream
        client.streams += 1
        holding.count(client, STREAM_BYTES)

    def end_streams(self, client: Client, number: int = 1) -> None:
        """Take note that so many streams of the client have ended."""
        number = min(number, client.streams)
        client.streams -= number
        self.holding.count(client, -STREAM_BYTES * number)

    def drop_stream(self, client: Client, stream: int) -> None:
        """Throw away what (still) comes on a stream of the client's present link."""
        client.awaited.pop(stream, None)
        client.sharing.pop(stream, None)
        if client.link is not None:
            self.out.append(DropStream(client.link, stream))

    def excess(self, name: str, size_bytes: int) -> str:
        """Say that a file is too large for this node; empty if it is not."""
        problem = too_large(name, size_bytes, self.max_file_bytes, "the node's --max-file-size")
        return problem and f"{problem}; use another node, or have its owner raise that"

    def drop_arriving(self, client: Client, computation: HostedComputation) -> None:
        """Throw away shared data that is arriving for a computation that is not wanted any more."""
        for stream in computation.arriving.values():
            self.drop_stream(client, stream)
        self.forget_data(client, computation.arriving)

    def forget_data(self, client: Client, data: set[int] | dict[int, int]) -> None:
        """Take note that shared data of a computation is not there any more, or will not come."""
        self.holding.count_data(client, -len(data))
        data.clear()

    def remove(self, files: list[Spooled]) -> None:
        """Remove spool files."""
        if files:
            self.out.append(RemoveSpooled(files))

    def check_invariants(self) -> None:
        """Assert what must hold between events."""
        for link, client in self.links.items():
            assert client.link == link, (link, client)
        for link, newcomer in self.newcomers.items():
            assert link not in self.links, link
            assert self.clients[newcomer.client].link is not None, "a link waits although there is no other"
        for client in self.clients.values():
            self._check_client(client)
        away = {key for key, client in self.clients.items() if client.link is None}
        assert self.away.keys() == away, (self.away, away)
        assert self.unsettled.keys() <= away, (self.unsettled, away)
        waiting = {key for key in away if self.clients[key].forget_at < math.inf}
        assert away - waiting <= self.unsettled.keys(), "a client that is away is not looked at"
        assert not self.touched, "computations were not looked at"
        hosted = list(self.computations.values()) + list(self.outgoing.values())
        for computation in hosted:
            assert computation.client in self.clients, computation
            self._check_computation(computation)
        for key, computation in self.outgoing.items():
            assert key == computation.id, computation
            assert self.computations[key].state is ComputationState.RECEIVING, "who took its place?"
            assert computation.state is ComputationState.CLOSING, computation
        for member in self.slots.members:
            assert any(member is computation for computation in hosted), member
        self.slots.check_invariants()
        self.gathering.check_invariants(hosted)
        self._check_holding(hosted)

    def _check_holding(self, hosted: list[HostedComputation]) -> None:
        found = dict.fromkeys(self.clients.values(), 0)
        shared = dict.fromkeys(self.clients.values(), 0)
        for computation in hosted:
            assert computation.cost == cost_of_offer(computation.offer), computation
            attempts = list(computation.attempts.values())
            count = len(computation.data) + len(computation.arriving)
            shared[self.client_of(computation)] += count
            data = DATA_BYTES * count
            found[self.client_of(computation)] += computation.cost + data + sum(one.cost for one in attempts)
        for client in found:
            found[client] += sum(cost_of_file(message) for _, message in client.files.values())
            found[client] += sum(one.cost for one in client.searched)
            found[client] += STREAM_BYTES * client.streams
            found[client] += sum(one.cost for kept in client.leftovers.values() for one in kept.values())
            assert client.data == shared[client], "shared data of a client is miscounted"
        self.holding.check_invariants(found)

    def _check_client(self, client: Client) -> None:
        assert client.link is None or self.links.get(client.link) is client, client
        assert client.link is None or not client.lapsed, "a client that is here has lapsed"
        assert client.link is not None or not client.streams, "streams are open to nowhere"
        assert client.link is not None or not (client.awaited or client.files or client.sharing), (
            "streams are awaited from nowhere"
        )
        streams = [*client.awaited, *client.files, *client.sharing]
        assert len(set(streams)) == len(streams), "a stream is awaited for two ends"
        for stream, (computation, data) in client.sharing.items():
            assert computation.arriving.get(data) == stream, (computation, data)
            assert computation.state is ComputationState.READY, computation
        mine = {key for key, item in self.computations.items() if item.client == client.id}
        assert client.computations == mine, client
        for stream, (computation, attempt) in client.awaited.items():
            assert stream <= client.last_stream, "a stream is awaited that was not announced"
            assert self.computations.get(computation.id) is computation, computation
            if attempt is None:
                assert stream in computation.awaited, (stream, computation)
            else:
                assert attempt.stream == stream, attempt
                assert attempt.state is AttemptState.RECEIVING, attempt
                assert computation.attempts.get(attempt.key) is attempt, attempt
        for attempts in client.leftovers.values():
            assert attempts, "an empty dictionary of leftovers"
            for key, attempt in attempts.items():
                assert attempt.key == key, attempt
                assert attempt.state is AttemptState.ENDED, attempt
                self._check_attempt(attempt)

    def _check_computation(self, computation: HostedComputation) -> None:
        client, state = self.client_of(computation), computation.state
        counts = dict.fromkeys(AttemptState, 0)
        needs = 0
        for key, attempt in computation.attempts.items():
            assert attempt.key == key, attempt
            counts[attempt.state] += 1
            self._check_attempt(attempt)
            if attempt.state in (AttemptState.RECEIVING, AttemptState.WAITING):
                assert computation.data.union(computation.arriving).issuperset(attempt.needs), attempt
                assert attempt.lacks == len(set(attempt.needs) - computation.data), attempt
                assert all(computation.waiting[data].get(key) is attempt for data in attempt.needs), attempt
                needs += len(attempt.needs)
            if attempt.state is AttemptState.WAITING and state is ComputationState.READY:
                assert attempt.lacks or attempt.demand, "a job waits for nothing"
            if attempt.state is AttemptState.RECEIVING:
                assert client.awaited.get(attempt.stream) == (computation, attempt), attempt
        assert all(computation.waiting.values()), "nobody waits for some data"
        assert needs == sum(map(len, computation.waiting.values())), "attempts wait that are gone"
        active = counts[AttemptState.QUEUED] + counts[AttemptState.RUNNING]
        pending = counts[AttemptState.RECEIVING] + counts[AttemptState.WAITING]
        assert computation.active == active, (computation.active, active)
        assert computation.pending == pending, (computation.pending, pending)
        assert state is not ComputationState.GONE, computation
        has_runner = state in (ComputationState.READY, ComputationState.CLOSING)
        assert has_runner or not active, "jobs are at a runner that is not ready"
        assert has_runner or not computation.held, "slots are held without a runner"
        assert state is not ComputationState.CLOSING or not pending, "jobs wait for a runner that ends"
        for data, stream in computation.arriving.items():
            assert client.sharing.get(stream) == (computation, data), (data, computation)
        assert not computation.data & computation.arriving.keys(), computation
        assert state is not ComputationState.READY or computation in self.slots.members, computation
        incomplete = computation.awaited or computation.looking or computation.wanted_files
        assert state is ComputationState.RECEIVING or not incomplete, computation
        assert computation.parts.keys() <= computation.wanted_files.keys(), computation
        for stream in computation.awaited:
            assert client.awaited.get(stream) == (computation, None), (stream, computation)
        if state is ComputationState.RECEIVING:
            assert incomplete or computation.id in self.outgoing, "nothing keeps it from starting"
        elif state is not ComputationState.CLOSING:
            stays = not (computation.finishing or client.lapsed) or active or pending
            assert stays, "it should have been closed"

    def _check_attempt(self, attempt: Attempt) -> None:
        state = attempt.state
        assert state is not AttemptState.GONE, attempt
        assert (state is AttemptState.ENDED) == (attempt.result is not None), attempt
        assert (state is AttemptState.WAITING) == (attempt.body is not None), attempt
        assert (state is AttemptState.RECEIVING) == (attempt.stream > 0), attempt
        assert state is AttemptState.ENDED or attempt.spooled is None, attempt
        assert state in (AttemptState.RUNNING, AttemptState.ENDED) or not attempt.news, attempt
        news = list(attempt.news.values())
        assert state is AttemptState.RUNNING or not any(
            kept.waits or kept.news.kind == FILE for kept in news
        ), attempt
        assert list(attempt.untold or ()) == [kept for kept in news if not kept.sent], attempt
        assert attempt.streaming == any(kept.sent and kept.spooled is not None for kept in news), attempt
        at_runner = state in (AttemptState.QUEUED, AttemptState.RUNNING)
        assert at_runner or not attempt.unwanted, attempt
