"""The node's side: answers questions, announces the node when it starts, and says farewell when it ends."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import assert_never

from dispy_discovery_udp.engine.buckets import Buckets
from dispy_discovery_udp.engine.datagrams import Foreign, Kind, Message, Ring, refuse, seal, unseal
from dispy_discovery_udp.engine.pace import Pace
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    Effect,
    Ended,
    Event,
    KeysChanged,
    PathsChanged,
    Shout,
    Source,
    TimePassed,
    Whisper,
)

FIRST_S, FACTOR, ROUNDS = 0.1, 2.0, 7
"""A node announces itself at 0, 0.1, 0.3, 0.7, 1.5, 3.1 and 6.3 s; of five datagrams in a row one gets through."""

FAREWELLS = 2
"""A farewell that is lost costs little: the connection tells the same."""

RATE, BURST, TOTAL = 50.0, 200.0, 2000.0
"""Answers to one address, in a second and at once, and to all: hundreds of clients on one machine may ask together."""

REFUSAL_RATE, REFUSAL_BURST, REFUSAL_TOTAL = 5.0, 20.0, 200.0
"""The same for refusals. They are counted apart: anybody can ask with a forged address and without the key, and must
not use up the answers of those who have it."""

ANSWERED_MAX = 1024
"""Questions that are remembered, not to be answered twice."""


class Beacon:
    """One node on the network.

    Args:
        presence: a message with ident, epoch, port and addresses of the node; without addresses it tells those of
            this machine.
        client_port: where clients hear announcements.
        number: gives 16 random bytes that nobody can guess.
        jitter: gives a random number from 0 to 1.
        ping_interval_s: so often it announces itself for ever; 0: only when it starts, and on networks that come.
    """

    def __init__(
        self,
        presence: Message,
        ring: Ring,
        client_port: int,
        *,
        number: Callable[[], bytes],
        jitter: Callable[[], float],
        ping_interval_s: float = 0,
    ) -> None:
        self._presence = presence
        self._ring = ring
        self._client_port = client_port
        self._number = number
        self._addresses = presence.addresses
        self._pace = Pace(
            jitter, first_s=FIRST_S, factor=FACTOR, last_s=ping_interval_s or math.inf, rounds=ROUNDS
        )
        self._answers = Buckets(rate=RATE, burst=BURST, total=TOTAL)
        self._refusals = Buckets(rate=REFUSAL_RATE, burst=REFUSAL_BURST, total=REFUSAL_TOTAL)
        self._answered: OrderedDict[tuple[bytes, str, int], None] = OrderedDict()
        self._ended = False

    @property
    def deadline(self) -> float:
        """When `TimePassed` is due, in seconds; infinite if never."""
        return self._pace.deadline

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what has happened; return what is to be done. Nothing that comes from others makes it raise."""
        if self._ended:
            return []
        match event:
            case PathsChanged(addresses):
                self._addresses = self._presence.addresses or addresses
                self._pace.restart(now)
            case KeysChanged(ring):
                self._ring = ring
                self._pace.restart(now)
            case DatagramReceived(data, source):
                return self._answer(data, source, now)
            case TimePassed():
                if self._pace.take(now):
                    return self._shout(Kind.ANNOUNCEMENT)
            case Ended():
                self._ended = True
                self._pace.stop()
                return self._shout(Kind.FAREWELL) * FAREWELLS
            case _:
                assert_never(event)
        return []

    def check_invariants(self) -> None:
        """Assert what must hold between events."""
        assert len(self._answered) <= ANSWERED_MAX
        assert not self._ended or self._pace.deadline == math.inf

    def _shout(self, kind: Kind) -> list[Effect]:
        return [Shout(self._seal(kind, self._number(), key), self._client_port) for key in self._ring.keys]

    def _seal(self, kind: Kind, number: bytes, key: bytes) -> bytes:
        own = self._presence
        addresses = self._addresses if kind is Kind.ANSWER else ()
        return seal(Message(kind, number, key, own.ident, own.epoch, own.port, addresses), self._ring.mode)

    def _answer(self, data: bytes, source: Source, now: float) -> list[Effect]:
        """Answer a question, or refuse one of another key; to its source, and never with more than came."""
        message = unseal(data, self._ring)
        if isinstance(message, Foreign):
            answer, buckets = refuse(message.number, self._ring.mode), self._refusals
        elif isinstance(message, Message) and message.kind is Kind.ASK:
            answer, buckets = self._seal(Kind.ANSWER, message.number, message.key), self._answers
        else:  # what nodes say is not for nodes; a refusal is never answered, so that no two can go on for ever
            return []
        question = (message.number, source.host, source.port)
        if question in self._answered or not buckets.take(source.host, now):
            return []
        if buckets is self._answers:  # what anybody can send must not push out what is remembered
            self._answered[question] = None
            if len(self._answered) > ANSWERED_MAX:
                self._answered.popitem(last=False)
        return [Whisper(answer, source)]


def make_presence(ident: str, epoch: int, port: int, addresses: tuple[str, ...]) -> Message:
    """Return what a `Beacon` tells of a node."""
    return Message(Kind.ANNOUNCEMENT, b"", b"", ident, epoch, port, addresses)
