"""A network in virtual time on which datagrams are lost, late and doubled, between engines of `dispy_discovery_udp`."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from dispy.discovery import Sighting
from dispy_discovery_udp.engine.beacon import Beacon, make_presence
from dispy_discovery_udp.engine.datagrams import Ring
from dispy_discovery_udp.engine.seeker import Seeker
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    Ended,
    Event,
    PathsChanged,
    Shout,
    Source,
    TellDeparted,
    TellRefused,
    TellSighted,
    TimePassed,
    Whisper,
)

NODE_PORT, CLIENT_PORT = 51348, 51347
PATH = "lan"
DELAY_S = 0.005


@dataclass
class Member:
    """A machine with one engine."""

    host: str
    engine: Seeker | Beacon
    sighted: dict[str, tuple[float, Sighting]] = field(default_factory=dict)
    """Ident -> when it was sighted first in its latest epoch, and what was told."""
    departed: list[tuple[str, int]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    is_off: bool = False


class LossyNetwork:
    """Members on one network; *loss* and *copies* are shares of all datagrams."""

    def __init__(self, seed: int, *, loss: float = 0.0, copies: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.loss, self.copies = loss, copies
        self.now = 0.0
        self.sent = 0
        self.recorded: list[bytes] = []
        self.members: dict[str, Member] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def add_client(self, host: str, ring: Ring, **options: float) -> Member:
        seeker = Seeker(
            ring,
            [NODE_PORT],
            number=lambda: self.random.randbytes(16),
            jitter=self.random.random,
            **options,
        )
        return self._add(Member(host, seeker))

    def add_node(self, host: str, ring: Ring, *, epoch: int = 1, ident: str = "") -> Member:
        beacon = Beacon(
            make_presence(ident or f"node at {host}", epoch, NODE_PORT, ()),
            ring,
            CLIENT_PORT,
            number=lambda: self.random.randbytes(16),
            jitter=self.random.random,
        )
        return self._add(Member(host, beacon))

    def _add(self, member: Member) -> Member:
        self.members[member.host] = member
        self.feed(member, PathsChanged((member.host,)))
        return member

    def feed(self, member: Member, event: Event) -> None:
        """Let something happen to a member, and do what it says."""
        if member.is_off:
            return
        for effect in member.engine.handle(event, self.now):
            match effect:
                case Shout(data, port):
                    for other in list(self.members.values()):
                        if isinstance(other.engine, Beacon) == (port == NODE_PORT):
                            self._send(data, member, other)
                case Whisper(data, source):
                    if source.host in self.members:
                        self._send(data, member, self.members[source.host])
                case TellSighted(sighting):
                    known = member.sighted.get(sighting.ident)
                    if known is None or known[1].epoch < sighting.epoch:
                        member.sighted[sighting.ident] = (self.now, sighting)
                case TellDeparted(ident, epoch):
                    member.departed.append((ident, epoch))
                case TellRefused(host, _mode):
                    member.refused.add(host)
        member.engine.check_invariants()

    def end(self, member: Member) -> None:
        """Let a node say farewell and go."""
        self.feed(member, Ended())
        member.is_off = True

    def run(self, until: float) -> None:
        """Let time pass."""
        while True:
            deadlines = [(one.engine.deadline, one) for one in self.members.values() if not one.is_off]
            due, member = min(deadlines, key=lambda pair: pair[0])
            arrival = self._queue[0][0] if self._queue else float("inf")
            if min(due, arrival) > until:
                self.now = until
                return
            if arrival <= due:
                self.now, _, deliver = heapq.heappop(self._queue)
                deliver()
            else:
                self.now = max(self.now, due)
                self.feed(member, TimePassed())

    def _send(self, data: bytes, origin: Member, receiver: Member) -> None:
        self.sent += 1
        self.recorded.append(data)
        for _ in range(2 if self.random.random() < self.copies else 1):
            if self.random.random() >= self.loss:
                event = DatagramReceived(data, Source(PATH, origin.host, 40000))
                at = self.now + DELAY_S * (0.5 + self.random.random())
                heapq.heappush(
                    self._queue, (at, next(self._numbers), lambda event=event: self.feed(receiver, event))
                )
