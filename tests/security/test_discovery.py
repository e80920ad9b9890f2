"""The search for nodes, against somebody on the same network who reads, forges and replays datagrams."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_discovery_udp.engine.beacon import BURST, RATE, Beacon, make_presence
from dispy_discovery_udp.engine.datagrams import SIZE, Kind, Message, Mode, Ring, refuse, seal, unseal
from dispy_discovery_udp.engine.seeker import Seeker
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    PathsChanged,
    Shout,
    Source,
    TellDeparted,
    TellSighted,
    TimePassed,
    Whisper,
)

KEY, STOLEN = b"k" * 32, b"s" * 32
RING = Ring.make([KEY], is_open=False)
ROGUE, NODE = Source("lan", "10.0.0.66", 4000), Source("lan", "10.0.0.1", 51348)
MOST_BYTES = 512
"""Largest datagram."""


def make_node() -> Beacon:
    numbers = (number.to_bytes(16, "big") for number in itertools.count(10**6))
    node = Beacon(
        make_presence("node", 3, 51348, ("10.0.0.1",)),
        RING,
        51347,
        number=lambda: next(numbers),
        jitter=lambda: 0.5,
    )
    node.handle(PathsChanged(("10.0.0.1",)), 0.0)
    return node


def make_client(first: int = 0) -> tuple[Seeker, bytes]:
    """Make a client that looks for nodes, and give its question."""
    numbers = (number.to_bytes(16, "big") for number in itertools.count(first))
    client = Seeker(RING, (51348,), number=lambda: next(numbers), jitter=lambda: 0.5)
    client.handle(PathsChanged(("10.0.0.9",)), 0.0)
    question = next(one for one in client.handle(TimePassed(), 0.0) if isinstance(one, Shout))
    return client, question.data


def answer_of(node: Beacon, question: bytes) -> bytes:
    (answer,) = node.handle(DatagramReceived(question, Source("lan", "10.0.0.9", 4000)), 0.0)
    assert isinstance(answer, Whisper)
    return answer.data


def believes(client: Seeker, data: bytes, source: Source = ROGUE, now: float = 0.1) -> bool:
    effects = client.handle(DatagramReceived(data, source), now)
    return any(isinstance(effect, TellSighted | TellDeparted) for effect in effects)


def test_what_the_attacks_begin_with_works() -> None:
    client, question = make_client()
    assert believes(client, answer_of(make_node(), question), NODE)


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("kind", Kind)
def test_forged_datagrams_are_not_believed(kind: Kind, mode: Mode) -> None:
    """Who has no key knows all that goes over the network, the number of the question too."""
    client, question = make_client()
    seen = unseal(question, RING)
    assert isinstance(seen, Message)
    forged = seal(Message(kind, seen.number, STOLEN, "rogue", 1, 51348, ("10.0.0.66",)), mode)
    assert not believes(client, forged)
    assert sum(len(one.data) for one in make_node().handle(DatagramReceived(forged, ROGUE), 0.1)) < len(
        forged
    )


@given(st.integers(0, SIZE - 1), st.integers(1, 255))
def test_changed_datagrams_are_not_believed(place: int, change: int) -> None:
    client, question = make_client()
    data = bytearray(answer_of(make_node(), question))
    data[place] ^= change
    assert not believes(client, bytes(data), NODE)


def test_recorded_answer_is_not_believed_by_who_has_asked_something_else() -> None:
    _, question = make_client()
    recorded = answer_of(make_node(), question)
    other, _ = make_client(first=1_000)
    assert not believes(other, recorded, NODE)


def test_question_sent_back_is_no_answer() -> None:
    client, question = make_client()
    assert not believes(client, question)


def test_recorded_question_is_not_answered_again() -> None:
    node = make_node()
    _, question = make_client()
    asked = DatagramReceived(question, ROGUE)
    assert len(node.handle(asked, 0.0)) == 1
    assert node.handle(asked, 0.1) == []


@given(st.binary(max_size=2 * MOST_BYTES))
def test_noise_moves_nobody(data: bytes) -> None:
    client, _ = make_client()
    assert client.handle(DatagramReceived(data, ROGUE), 0.1) == []
    assert make_node().handle(DatagramReceived(data, ROGUE), 0.1) == []


@pytest.mark.parametrize("key", [KEY, STOLEN], ids=["recorded", "forged"])
def test_a_node_sends_nobody_more_than_was_sent_in_his_name(key: bytes) -> None:
    """X2: the source of each question is that of a victim, 1000 a second for 10 seconds."""
    node, came, went = make_node(), 0, 0
    for number in range(10_000):
        question = seal(Message(Kind.ASK, number.to_bytes(16, "big"), key), Mode.KEYED)
        came += len(question)
        for effect in node.handle(DatagramReceived(question, ROGUE), number / 1000):
            assert isinstance(effect, Whisper)
            assert effect.source == ROGUE
            assert len(effect.data) <= len(question) <= MOST_BYTES
            went += len(effect.data)
    assert 0 < went <= came
    assert went <= (BURST + 10 * RATE) * SIZE


def test_forged_questions_do_not_use_up_the_answers_of_who_has_the_key() -> None:
    """Not in his name, and not in those of 10 000 others."""
    node = make_node()
    client = Source("lan", "10.0.0.9", 4000)
    for number in range(10_000):
        forged = seal(Message(Kind.ASK, number.to_bytes(16, "big"), STOLEN), Mode.KEYED)
        other = Source("lan", f"10.1.{number % 250}.{number // 250}", 4000)
        node.handle(DatagramReceived(forged, client), 1.0)
        node.handle(DatagramReceived(forged, other), 1.0)
    _, question = make_client(first=10**7)
    (answer,) = node.handle(DatagramReceived(question, client), 1.0)
    assert isinstance(answer, Whisper)
    assert len(answer.data) == SIZE


def test_forged_announcements_and_refusals_tell_the_user_nothing() -> None:
    """Nobody is to be talked into the mode without a key."""
    client, _ = make_client()
    for mode in Mode.KEYED, Mode.OPEN:
        for kind in Kind:
            forged = seal(Message(kind, b"n" * 16, STOLEN, "rogue", 1, 51348, ("10.0.0.66",)), mode)
            effects = client.handle(DatagramReceived(forged, ROGUE), 0.1)
            assert all(isinstance(effect, Whisper) for effect in effects)
        assert client.handle(DatagramReceived(refuse(b"n" * 16, mode), ROGUE), 0.1) == []


def test_refusals_are_not_answered() -> None:
    """Else two nodes with different keys could be set on each other."""
    refusal = refuse(b"n" * 16, Mode.KEYED)
    assert make_node().handle(DatagramReceived(refusal, NODE), 0.1) == []
