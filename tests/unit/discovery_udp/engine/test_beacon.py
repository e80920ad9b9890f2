from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_discovery_udp.engine.beacon import ANSWERED_MAX, BURST, FAREWELLS, ROUNDS, Beacon, make_presence
from dispy_discovery_udp.engine.datagrams import (
    REFUSAL_SIZE,
    SIZE,
    Kind,
    Message,
    Mode,
    Refusal,
    Ring,
    refuse,
    seal,
    unseal,
)
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    Ended,
    KeysChanged,
    PathsChanged,
    Shout,
    Source,
    TimePassed,
    Whisper,
)

KEY, OTHER = b"k" * 32, b"o" * 32
RING = Ring.make([KEY], is_open=False)
OWN = ("10.0.0.1", "fd00::1")
numbers = (number.to_bytes(16, "big") for number in itertools.count())


def make_beacon(addresses: tuple[str, ...] = (), ring: Ring = RING, **options: float) -> Beacon:
    presence = make_presence("me", 3, 51348, addresses)
    beacon = Beacon(presence, ring, 51347, number=lambda: next(numbers), jitter=lambda: 0.5, **options)
    beacon.handle(PathsChanged(OWN), 0.0)
    return beacon


def ask(number: bytes = b"n" * 16, key: bytes = KEY, mode: Mode = Mode.KEYED) -> bytes:
    return seal(Message(Kind.ASK, number, key), mode)


def source(host: str = "10.0.0.7", port: int = 4000) -> Source:
    return Source("lan", host, port)


def announcements(beacon: Beacon, until: float) -> list[float]:
    found = []
    while beacon.deadline <= until:
        now = beacon.deadline
        for effect in beacon.handle(TimePassed(), now):
            assert isinstance(effect, Shout)
            assert effect.port == 51347
            message = unseal(effect.data, RING)
            assert isinstance(message, Message)
            assert (message.kind, message.ident, message.epoch) == (Kind.ANNOUNCEMENT, "me", 3)
            assert message.addresses == ()
            found.append(round(now, 6))
        beacon.check_invariants()
    return found


def test_it_announces_itself_when_it_starts() -> None:
    assert announcements(make_beacon(), 1e6) == [0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3]


def test_and_again_and_again_if_that_is_wanted() -> None:
    times = announcements(make_beacon(ping_interval_s=10), 40)
    assert len(times) == ROUNDS + 3
    assert times[-1] - times[-2] == pytest.approx(10)


def test_too_early_it_says_nothing() -> None:
    beacon = make_beacon()
    beacon.handle(TimePassed(), 0.0)
    assert beacon.handle(TimePassed(), 0.05) == []


def test_networks_and_keys_that_come_make_it_begin_anew() -> None:
    beacon = make_beacon()
    announcements(beacon, 1e6)
    beacon.handle(PathsChanged(OWN), 2e6)
    assert beacon.deadline == 2e6
    announcements(beacon, 3e6)
    beacon.handle(KeysChanged(Ring.make([OTHER, KEY], is_open=False)), 4e6)
    assert len(beacon.handle(TimePassed(), 4e6)) == 2


@pytest.mark.parametrize(("told", "addresses"), [((), OWN), (("203.0.113.5",), ("203.0.113.5",))])
def test_answer_goes_to_the_source_and_is_no_larger(
    told: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    (effect,) = make_beacon(told).handle(DatagramReceived(ask(), source()), 1.0)
    assert isinstance(effect, Whisper)
    assert effect.source == source()
    assert len(effect.data) == SIZE
    answer = Message(Kind.ANSWER, b"n" * 16, KEY, "me", 3, 51348, addresses)
    assert unseal(effect.data, RING) == answer


def test_the_key_of_the_question_is_that_of_the_answer() -> None:
    ring = Ring.make([OTHER, KEY], is_open=False)
    (effect,) = make_beacon(ring=ring).handle(DatagramReceived(ask(), source()), 1.0)
    assert isinstance(effect, Whisper)
    assert isinstance(unseal(effect.data, RING), Message)


def test_question_that_comes_twice_is_answered_once_for_each_source() -> None:
    beacon = make_beacon()
    assert len(beacon.handle(DatagramReceived(ask(), source()), 1.0)) == 1
    assert beacon.handle(DatagramReceived(ask(), source()), 1.0) == []
    assert len(beacon.handle(DatagramReceived(ask(), source(port=4001)), 1.0)) == 1


def test_who_has_another_key_is_refused_with_less_than_he_has_sent() -> None:
    (effect,) = make_beacon().handle(DatagramReceived(ask(key=OTHER), source()), 1.0)
    assert isinstance(effect, Whisper)
    assert len(effect.data) == REFUSAL_SIZE
    assert unseal(effect.data, RING) == Refusal(b"n" * 16, Mode.KEYED)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"dspy",
        refuse(b"n" * 16, Mode.KEYED),
        seal(Message(Kind.ANSWER, b"n" * 16, KEY, "you", 1, 1), Mode.KEYED),
        seal(Message(Kind.ANNOUNCEMENT, b"n" * 16, KEY, "you", 1, 1), Mode.KEYED),
    ],
    ids=["nothing", "short", "refusal", "answer", "announcement"],
)
def test_what_is_no_question_gets_no_answer(data: bytes) -> None:
    assert make_beacon().handle(DatagramReceived(data, source()), 1.0) == []


def test_flood_from_one_address_is_answered_in_part() -> None:
    beacon = make_beacon()
    answers = [
        beacon.handle(DatagramReceived(ask(number.to_bytes(16, "big")), source()), 1.0)
        for number in range(int(BURST) * 2)
    ]
    assert sum(map(len, answers)) == BURST
    assert beacon.handle(DatagramReceived(ask(), source("10.0.0.8")), 1.0)


def test_of_all_questions_the_last_are_remembered() -> None:
    beacon = make_beacon()
    first = DatagramReceived(ask(), source())
    assert beacon.handle(first, 1.0)
    for number in range(ANSWERED_MAX):
        host = f"10.1.{number // 256}.{number % 256}"
        beacon.handle(DatagramReceived(ask(number.to_bytes(16, "big")), source(host)), 1.0 + number)
        beacon.check_invariants()
    assert beacon.handle(first, 1.0 + ANSWERED_MAX)


def test_at_the_end_it_says_farewell_and_nothing_more() -> None:
    beacon = make_beacon()
    effects = beacon.handle(Ended(), 1.0)
    assert len(effects) == FAREWELLS
    assert isinstance(effects[0], Shout)
    message = unseal(effects[0].data, RING)
    assert isinstance(message, Message)
    assert (message.kind, message.ident, message.epoch) == (Kind.FAREWELL, "me", 3)
    assert beacon.deadline == math.inf
    beacon.check_invariants()
    assert beacon.handle(DatagramReceived(ask(), source()), 2.0) == []
    assert beacon.handle(Ended(), 2.0) == []


@given(st.lists(st.tuples(st.binary(max_size=300), st.sampled_from(["10.0.0.7", "10.0.0.8"])), max_size=30))
def test_no_answer_is_larger_than_what_it_answers(datagrams: list[tuple[bytes, str]]) -> None:
    beacon = make_beacon()
    for number, (noise, host) in enumerate(datagrams):
        for data in (noise, ask(number.to_bytes(16, "big"), OTHER if number % 2 else KEY)):
            effects = beacon.handle(DatagramReceived(data, source(host)), float(number))
            assert all(isinstance(effect, Whisper) for effect in effects)
            assert sum(len(effect.data) for effect in effects if isinstance(effect, Whisper)) <= len(data)
            beacon.check_invariants()
