"""The client's side: asks who is there, again and again, and asks those who announce themselves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import assert_never

from dispy.discovery import Sighting
from dispy_discovery_udp.engine.buckets import Buckets
from dispy_discovery_udp.engine.datagrams import Foreign, Kind, Message, Refusal, Ring, seal, unseal
from dispy_discovery_udp.engine.pace import Pace
from dispy_discovery_udp.engine.places import order_addresses
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    Effect,
    Ended,
    Event,
    KeysChanged,
    PathsChanged,
    Shout,
    Source,
    TellDeparted,
    TellRefused,
    TellSighted,
    TimePassed,
    Whisper,
)

FIRST_S, FACTOR, LAST_S = 0.1, 1.2, 60.0
"""Questions go out at 0, 0.1, 0.2, 0.4, 0.5, 0.7 s and so on, ever more seldom, down to once a minute.

There are 14 in the first five seconds, so that, with a fifth of all datagrams lost, one node in a million is not found
by then: 0.36 is the chance that either question or answer is lost."""

AGAIN_FIRST_S, AGAIN_FACTOR, AGAIN_MAX = 0.1, 2.0, 5
"""A node that has announced itself and does not answer is asked so often."""

NUMBERS_MAX, NUMBER_S = 512, 30.0
"""Questions whose answers are taken, and for how long."""

KNOWN_MAX = 10_000
ANNOUNCED_MAX = 256
"""Nodes that are remembered, and that are being asked at one time."""

RATE, BURST, TOTAL = 5.0, 20.0, 500.0
"""Questions to one address that has announced a node, in a second and at once, and to all."""

STRANGER_RATE, STRANGER_BURST, STRANGER_TOTAL = 1.0, 2.0, 10.0
"""The same for those who announce themselves with another key, as anybody can: so few that, in `NUMBER_S`, they never
push the numbers of other questions out."""


@dataclass(slots=True)
class _Announced:
    """A node that has announced itself and has not answered yet."""

    source: Source
    key: bytes
    pace: Pace
    asked: int = 0


@dataclass(slots=True)
class _Known:
    """What was heard of a node."""

    epoch: int
    has_left: bool = False


class Seeker:
    """One search for nodes.

    Args:
        ports: where nodes listen for questions.
        number: gives 16 random bytes that nobody can guess.
        jitter: gives a random number from 0 to 1.
        ping_interval_s: the longest pause between two questions to everybody.
    """

    def __init__(
        self,
        ring: Ring,
        ports: Sequence[int],
        *,
        number: Callable[[], bytes],
        jitter: Callable[[], float],
        ping_interval_s: float | None = None,
    ) -> None:
        self._ring = ring
        self._ports = ports
        self._number = number
        self._jitter = jitter
        self._pace = Pace(jitter, first_s=FIRST_S, factor=FACTOR, last_s=ping_interval_s or LAST_S)
        self._numbers: OrderedDict[bytes, float] = OrderedDict()
        """Numbers of questions, in the order in which they were asked -> when."""
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._announced: dict[str, _Announced] = {}
        self._own: frozenset[str] = frozenset()
        self._buckets = Buckets(rate=RATE, burst=BURST, total=TOTAL)
        self._strangers = Buckets(rate=STRANGER_RATE, burst=STRANGER_BURST, total=STRANGER_TOTAL)

    @property
    def deadline(self) -> float:
        """When `TimePassed` is due, in seconds; infinite if never."""
        return min([self._pace.deadline, *(one.pace.deadline for one in self._announced.values())])

    def handle(self, event: Event, now: float) -> list[Effect]:
        """Take in what has happened; return what is to be done. Nothing that comes from others makes it raise."""
        match event:
            case PathsChanged(addresses):
                self._own = frozenset(addresses)
                self._pace.restart(now)
            case KeysChanged(ring):
                self._ring = ring
                self._announced.clear()
                self._pace.restart(now)
            case DatagramReceived(data, source):
                return self._received(data, source, now)
            case TimePassed():
                return self._ask_due(now)
            case Ended():
                self._pace.stop()
                self._announced.clear()
            case _:
                assert_never(event)
        return []

    def check_invariants(self) -> None:
        """Assert what must hold between events."""
        assert len(self._numbers) <= NUMBERS_MAX
        assert len(self._known) <= KNOWN_MAX
        assert len(self._announced) <= ANNOUNCED_MAX
        assert all(one.key in self._ring.keys for one in self._announced.values())

    def _ask_due(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self._pace.take(now):
            for key in self._ring.keys:
                question = self._ask(key, now)
                effects += [Shout(question, port) for port in self._ports]
        for ident, announced in list(self._announced.items()):
            if announced.pace.take(now):
                announced.asked += 1
                if self._buckets.take(announced.source.host, now):
                    effects.append(Whisper(self._ask(announced.key, now), announced.source))
                if announced.asked >= AGAIN_MAX:
                    del self._announced[ident]
        return effects

    def _ask(self, key: bytes, now: float) -> bytes:
        number = self._number()
        self._numbers[number] = now
        if len(self._numbers) > NUMBERS_MAX:
            self._numbers.popitem(last=False)
        return seal(Message(Kind.ASK, number, key), self._ring.mode)

    def _is_mine(self, number: bytes, now: float) -> bool:
        asked_at = self._numbers.get(number)
        return asked_at is not None and now - asked_at <= NUMBER_S

    def _received(self, data: bytes, source: Source, now: float) -> list[Effect]:
        message = unseal(data, self._ring)
        match message:
            case Refusal(number, mode):
                return [TellRefused(source.host, mode)] if self._is_mine(number, now) else []
            case Foreign(kind=Kind.ANNOUNCEMENT):
                return self._heard_stranger(source, now)
            case Message(kind=Kind.ANSWER):
                return self._answered(message, source) if self._is_mine(message.number, now) else []
            case Message(kind=Kind.ANNOUNCEMENT):
                return self._heard(message, source, now)
            case Message(kind=Kind.FAREWELL):
                return self._left(message)
            case _:
                return []

    def _answered(self, message: Message, source: Source) -> list[Effect]:
        known = self._known.get(message.ident)
        if known is not None and (
            message.epoch < known.epoch or (message.epoch == known.epoch and known.has_left)
        ):
            return []  # it was under way while the node has ended or started again
        self._remember(message.ident, _Known(message.epoch))
        self._announced.pop(message.ident, None)
        addresses = order_addresses(message.addresses, source, self._own)
        return [TellSighted(Sighting(message.ident, message.epoch, message.port, addresses))]

    def _heard(self, message: Message, source: Source, now: float) -> list[Effect]:
        """Ask a node that has announced itself: an announcement may have been recorded, an answer cannot."""
        if message.ident in self._announced or len(self._announced) >= ANNOUNCED_MAX:
            return []
        known = self._known.get(message.ident)
        if known is not None and message.epoch < known.epoch:
            return []
        pace = Pace(self._jitter, first_s=AGAIN_FIRST_S, factor=AGAIN_FACTOR, last_s=LAST_S)
        pace.restart(now)
        self._announced[message.ident] = _Announced(source, message.key, pace)
        return self._ask_due(now)

    def _heard_stranger(self, source: Source, now: float) -> list[Effect]:
        """Ask who announces a node with another key: what counts is the refusal, which has our number.

        Nothing but announcements leads to that, so that no two clients with different keys ask each other for ever.
        """
        if not self._ring.keys or not self._strangers.take(source.host, now):
            return []
        return [Whisper(self._ask(self._ring.keys[0], now), source)]

    def _left(self, message: Message) -> list[Effect]:
        """Take in a farewell: it is believed for the epoch in which it was said, which never comes back."""
        known = self._known.get(message.ident)
        if known is None or known.has_left or message.epoch < known.epoch:
            return []
        self._announced.pop(message.ident, None)
        self._remember(message.ident, _Known(message.epoch, has_left=True))
        return [TellDeparted(message.ident, message.epoch)]

    def _remember(self, ident: str, known: _Known) -> None:
        self._known[ident] = known
        self._known.move_to_end(ident)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
