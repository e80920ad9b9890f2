"""The life of clients: they come, go, return, stay away too long, or end for good."""

from __future__ import annotations

import math

from dispy.model import ClientId, LinkId, Role
from dispy.wire.messages import Hello, NodeChanged
from dispy.wire.owner import Owner
from dispy_node.engine.attempts import Attempts
from dispy_node.engine.computations import Computations
from dispy_node.engine.effects import CancelAttempts, CloseLink, ForgetParts, Report
from dispy_node.engine.holding import cost_of_file
from dispy_node.engine.ledger import Ledger
from dispy_node.engine.news import NewsDesk
from dispy_node.engine.records import AttemptState, Client, ComputationState, Newcomer
from dispy_node.engine.results import Results

AWAY = "its client was away for longer than the lease"
"""Why jobs that have not started are taken back."""


class Clients:
    """Handles what concerns clients and their links.

    Args:
        ledger: what the parts of the engine share.
        attempts: the part for attempts.
        results: the part for results that are kept.
        computations: the part for computations.
        news: the part for what jobs tell while they run.
    """

    def __init__(
        self,
        ledger: Ledger,
        attempts: Attempts,
        results: Results,
        computations: Computations,
        news: NewsDesk,
    ) -> None:
        self._ledger = ledger
        self._news = news
        self._attempts = attempts
        self._results = results
        self._computations = computations
        self._deadline: float | None = None
        """What `next_deadline` tells, if that is known; forgotten with each change of what it comes from."""

    def arrive(
        self, link: LinkId, hello: Hello, told_cpus: int | None, owner: Owner, told_refusal: str = ""
    ) -> None:
        """Take in a client, new or returning, which was greeted with *told_cpus* slots if these are not the present.

        Somebody who says the ident of a client, and does not show what that one has shown, is sent away.

        A second link of a client that has one waits: the client may have reached this node under two addresses at
        once, and then it knows which link it keeps. It begins to use the newcomer with Reconcile, or closes it.
        """
        ledger = self._ledger
        if hello.role != Role.CLIENT:
            ledger.out.append(CloseLink(link, f"a node serves clients only, not a {hello.role!r}"))
            return
        key = ClientId(hello.ident)
        client = ledger.clients.get(key)
        if client is None:
            client = ledger.clients[key] = Client(key, hello.name, None, owner)
        elif not client.owner.is_same(owner):
            ledger.counters.violations += 1
            text = "the ident that it greets with is that of another client: start the program anew"
            ledger.out.append(CloseLink(link, text))
            return
        elif client.link is not None:
            ledger.newcomers[link] = Newcomer(key, hello, told_cpus, owner, told_refusal)
            return
        else:
            client.name = hello.name
            client.reconciled = False
            client.lapsed = False
            client.lease_ends_at = client.forget_at = math.inf
            ledger.away.pop(key)
            ledger.unsettled.pop(key, None)
            self._deadline = None
        client.link = link
        ledger.links[link] = client
        cpus = ledger.slots.cpus
        refusal = ledger.refusal
        if refusal != told_refusal or told_cpus not in (None, cpus):
            ledger.tell(client, NodeChanged(cpus, draining=bool(refusal), reason=refusal))

    def take_over(self, link: LinkId) -> None:
        """Let a link that waits take the place of the one that its client has."""
        newcomer = self._ledger.newcomers.pop(link)
        client = self._ledger.clients[newcomer.client]
        assert client.link is not None, client
        self._ledger.out.append(CloseLink(client.link, "replaced by a newer link"))
        self._detach(client)
        self.arrive(link, newcomer.hello, newcomer.told_cpus, newcomer.owner, newcomer.told_refusal)

    def leave(self, client: Client, *, final: bool = False) -> None:
        """Take note that the link of a client is gone; *final*: the client has ended for good."""
        self._detach(client)
        if final:
            self._end(client)
            self._ledger.out.append(ForgetParts(client.id, client.owner))
        waiting = [link for link, one in self._ledger.newcomers.items() if one.client == client.id]
        if waiting:
            newcomer = self._ledger.newcomers.pop(waiting[-1])
            self.arrive(
                waiting[-1], newcomer.hello, newcomer.told_cpus, newcomer.owner, newcomer.told_refusal
            )

    def _detach(self, client: Client) -> None:
        ledger = self._ledger
        assert client.link is not None, client
        del ledger.links[client.link]
        client.link = None
        # Half of a body is worthless: what was arriving is forgotten, and will be missed at reconciliation.
        client.awaited.clear()
        ledger.holding.count(client, -sum(cost_of_file(message) for _, message in client.files.values()))
        client.files.clear()
        client.asked, client.looks = False, 0
        client.sharing.clear()
        ledger.end_streams(client, client.streams)
        client.next_stream, client.last_stream = 1, 0
        client.lease_ends_at = ledger.now + ledger.lease_s
        ledger.away[client.id] = ledger.unsettled[client.id] = client
        self._deadline = None
        for key in sorted(client.computations):
            computation = ledger.computations[key]
            receiving = computation.state is ComputationState.RECEIVING
            ledger.forget_data(client, computation.arriving)
            for attempt in list(computation.attempts.values()):
                lacking = receiving or attempt.lacks
                if (
                    lacking and attempt.state is AttemptState.WAITING
                ) or attempt.state is AttemptState.RECEIVING:
                    self._attempts.forget(client, computation, attempt)
            if receiving:
                self._computations.drop(client, computation)
            else:
                ledger.touch(computation)

    def pass_time(self) -> None:
        """Act on leases and periods that have run out."""
        now = self._ledger.now
        for client in list(self._ledger.away.values()):
            if now >= client.lease_ends_at:
                self._lapse(client)
            if now >= client.forget_at:
                self._end(client)

    def next_deadline(self) -> float:
        """Give the time when `pass_time` has something to do, infinite if never."""
        if self._deadline is None:
            ends = (min(client.lease_ends_at, client.forget_at) for client in self._ledger.away.values())
            self._deadline = min(ends, default=math.inf)
        return self._deadline

    def settle(self) -> None:
        """Let go of clients that are away and have nothing here, or only results."""
        ledger = self._ledger
        for client in list(ledger.unsettled.values()):
            if not client.lapsed or client.computations or client.searched:
                continue
            del ledger.unsettled[client.id]
            self._deadline = None
            if client.leftovers:
                client.forget_at = ledger.now + ledger.keep_results_s
            else:
                del ledger.away[client.id]
                del ledger.clients[client.id]

    def _lapse(self, client: Client) -> None:
        """Start nothing more for a client whose lease is over; what runs goes on."""
        ledger = self._ledger
        client.lapsed = True
        client.lease_ends_at = math.inf
        self._deadline = None
        if client.computations:
            away = f"client {client.name!r} has been away for {ledger.lease_s:g} s"
            ledger.out.append(Report(f"{away}; its running jobs go on, nothing new is started for it"))
        for key in sorted(client.computations):
            computation = ledger.computations[key]
            queued = []
            for attempt in list(computation.attempts.values()):
                if attempt.state is AttemptState.WAITING:
                    self._attempts.forget(client, computation, attempt)
                elif attempt.state is AttemptState.QUEUED and self._attempts.ask_end(computation, attempt):
                    attempt.withdrawn, attempt.why = True, AWAY
                    queued.append(attempt.key)
            if queued:
                ledger.out.append(CancelAttempts(computation.id, queued))
            self._news.lapse(client, computation)
            ledger.touch(computation)

    def _end(self, client: Client) -> None:
        """Drop all that a client has here: it will not come back."""
        ledger = self._ledger
        client.lapsed = True
        client.lease_ends_at = client.forget_at = math.inf
        ledger.unsettled[client.id] = client
        self._deadline = None
        for leftover in list(client.leftovers):
            self._results.drop_leftovers(client, leftover)
        for key in sorted(client.computations):
            self._computations.discard(client, ledger.computations[key])
