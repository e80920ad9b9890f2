"""The client's side, alone and on a network that loses, delays and doubles datagrams."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lossy_network import LossyNetwork

from dispy.discovery import Sighting
from dispy_discovery_udp.engine import seeker as seekers
from dispy_discovery_udp.engine.datagrams import (
    OPEN_KEY,
    Kind,
    Message,
    Mode,
    Ring,
    refuse,
    seal,
    unseal,
)
from dispy_discovery_udp.engine.seeker import AGAIN_MAX, ANNOUNCED_MAX, NUMBER_S, NUMBERS_MAX, Seeker
from dispy_discovery_udp.engine.values import (
    DatagramReceived,
    Effect,
    Ended,
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

KEY, OTHER = b"k" * 32, b"o" * 32
RING, OTHERS = Ring.make([KEY], is_open=False), Ring.make([OTHER], is_open=False)
OPEN = Ring.make([], is_open=True)
NODE = Source("lan", "10.0.0.1", 4000)


class Talk:
    """A seeker, and what it has asked."""

    def __init__(self, ring: Ring = RING, ports: tuple[int, ...] = (51348,), **options: float) -> None:
        numbers = itertools.count()
        self.seeker = Seeker(
            ring,
            ports,
            number=lambda: next(numbers).to_bytes(16, "big"),
            jitter=lambda: 0.5,
            **options,
        )
        self.seeker.handle(PathsChanged(("10.0.0.9",)), 0.0)
        self.asked: list[tuple[float, Shout | Whisper, bytes]] = []

    def take(self, effects: list[Effect], now: float) -> list[Effect]:
        """Note what was asked; return the rest."""
        self.seeker.check_invariants()
        rest: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Shout | Whisper):
                message = unseal(effect.data, Ring.make([KEY, OTHER], is_open=False))
                message = unseal(effect.data, OPEN) if not isinstance(message, Message) else message
                assert isinstance(message, Message)
                assert message.kind is Kind.ASK
                self.asked.append((round(now, 6), effect, message.number))
            else:
                rest.append(effect)
        return rest

    def run(self, until: float) -> None:
        while self.seeker.deadline <= until:
            now = self.seeker.deadline
            assert self.take(self.seeker.handle(TimePassed(), now), now) == []

    def hear(
        self,
        kind: Kind,
        number: bytes = b"\xff" * 16,
        *,
        ident: str = "node",
        epoch: int = 1,
        key: bytes = KEY,
        now: float = 1.0,
        source: Source = NODE,
    ) -> list[Effect]:
        message = Message(kind, number, key, ident, epoch, 51348, ("10.0.0.1",))
        mode = Mode.OPEN if key == OPEN_KEY else Mode.KEYED
        return self.take(self.seeker.handle(DatagramReceived(seal(message, mode), source), now), now)

    def answer(self, *, epoch: int = 1, now: float = 1.0) -> list[Effect]:
        """Answer the latest question."""
        return self.hear(Kind.ANSWER, self.asked[-1][2], epoch=epoch, now=now)


def sighted(epoch: int = 1) -> TellSighted:
    return TellSighted(Sighting("node", epoch, 51348, ("10.0.0.1",)))


def test_it_asks_again_and_again_and_ever_more_seldom() -> None:
    talk = Talk()
    talk.run(5)
    times = [when for when, _, _ in talk.asked]
    assert times == pytest.approx([0.5 * (1.2**number - 1) for number in range(14)])
    talk.run(4000)
    assert talk.asked[-1][0] - talk.asked[-2][0] == pytest.approx(60)
    assert len({number for _, _, number in talk.asked}) == len(talk.asked)


def test_ping_interval_is_the_longest_pause() -> None:
    talk = Talk(ping_interval_s=2.0)
    talk.run(50)
    assert talk.asked[-1][0] - talk.asked[-2][0] == pytest.approx(2)


def test_each_key_and_each_port_has_its_question() -> None:
    talk = Talk(Ring.make([KEY, OTHER], is_open=False), ports=(51348, 51358))
    talk.run(0)
    assert [effect.port for _, effect, _ in talk.asked if isinstance(effect, Shout)] == [51348, 51358] * 2
    assert len({number for _, _, number in talk.asked}) == 2


def test_networks_and_keys_that_come_make_it_begin_anew() -> None:
    talk = Talk()
    talk.run(100)
    talk.seeker.handle(PathsChanged(()), 200.0)
    assert talk.seeker.deadline == 200.0
    talk.run(300)
    talk.seeker.handle(KeysChanged(OTHERS), 400.0)
    assert talk.seeker.deadline == 400.0
    talk.run(400)
    assert unseal(talk.asked[-1][1].data, OTHERS)


def test_answer_to_a_question_of_ours_is_told() -> None:
    talk = Talk()
    talk.run(0)
    assert talk.answer() == [sighted()]
    assert talk.answer() == [sighted()]


def test_answer_to_nobodys_question_and_an_old_one_is_not_believed() -> None:
    talk = Talk()
    talk.run(0)
    assert talk.hear(Kind.ANSWER) == []
    assert talk.answer(now=NUMBER_S + 1) == []


def test_only_so_many_questions_are_remembered() -> None:
    talk = Talk(ping_interval_s=1)
    talk.run(0)
    first = talk.asked[0][2]
    talk.run(NUMBERS_MAX + 5.0)
    assert talk.hear(Kind.ANSWER, first) == []


def test_who_announces_itself_is_asked_where_it_has_spoken() -> None:
    talk = Talk()
    assert talk.hear(Kind.ANNOUNCEMENT, now=50.0) == []
    whispers = [effect for _, effect, _ in talk.asked if isinstance(effect, Whisper)]
    assert [whisper.source for whisper in whispers] == [NODE]
    (number,) = [number for _, effect, number in talk.asked if isinstance(effect, Whisper)]
    assert talk.hear(Kind.ANSWER, number, now=50.1) == [sighted()]


def whispered(talk: Talk) -> list[float]:
    return [when for when, effect, _ in talk.asked if isinstance(effect, Whisper)]


def test_who_announces_itself_and_does_not_answer_is_asked_a_few_times() -> None:
    talk = Talk()
    talk.run(1000)
    talk.hear(Kind.ANNOUNCEMENT, now=1000.0)
    talk.hear(Kind.ANNOUNCEMENT, now=1000.0)
    talk.run(2000)
    assert whispered(talk) == pytest.approx([1000, 1000.1, 1000.3, 1000.7, 1001.5])
    assert len(whispered(talk)) == AGAIN_MAX


def test_announcement_of_an_epoch_that_is_over_is_a_recording() -> None:
    talk = Talk()
    talk.run(0)
    talk.answer(epoch=2)
    talk.hear(Kind.ANNOUNCEMENT, epoch=1)
    assert whispered(talk) == []


def test_flood_of_announcements_is_bounded() -> None:
    talk = Talk()
    for number in range(ANNOUNCED_MAX + 10):
        talk.hear(Kind.ANNOUNCEMENT, ident=f"node {number}")
    assert 0 < len(whispered(talk)) <= seekers.BURST
    talk.seeker.handle(KeysChanged(OTHERS), 2.0)
    talk.seeker.check_invariants()


def test_farewell_of_a_node_that_was_sighted() -> None:
    talk = Talk()
    talk.run(0)
    assert talk.hear(Kind.FAREWELL) == []  # of one that was not
    talk.answer(epoch=2)
    assert talk.hear(Kind.FAREWELL, epoch=1) == []  # a recording
    assert talk.hear(Kind.FAREWELL, epoch=2) == [TellDeparted("node", 2)]
    assert talk.hear(Kind.FAREWELL, epoch=2) == []
    assert talk.answer(epoch=2) == []  # it was under way
    assert talk.answer(epoch=1) == []
    assert talk.answer(epoch=3) == [sighted(3)]


def test_refusal_counts_only_as_answer_to_a_question() -> None:
    talk = Talk()
    talk.run(0)
    number = talk.asked[0][2]
    for data, told in (
        (refuse(number, Mode.KEYED), [TellRefused("10.0.0.1", Mode.KEYED)]),
        (refuse(b"\xff" * 16, Mode.KEYED), []),
    ):
        assert talk.seeker.handle(DatagramReceived(data, NODE), 1.0) == told


@pytest.mark.parametrize("key", [OTHER, OPEN_KEY])
def test_who_announces_himself_with_another_key_is_asked_and_refuses(key: bytes) -> None:
    """That is told at once, and not with the next question to everybody, which may be a minute away."""
    talk = Talk()
    talk.run(0)
    assert talk.hear(Kind.ANNOUNCEMENT, key=key) == []
    _, question, number = talk.asked[-1]
    assert isinstance(question, Whisper)
    assert question.source == NODE
    refusal = DatagramReceived(refuse(number, Mode.KEYED), NODE)
    assert talk.seeker.handle(refusal, 1.0) == [TellRefused("10.0.0.1", Mode.KEYED)]


@pytest.mark.parametrize("kind", set(Kind) - {Kind.ANNOUNCEMENT})
def test_what_others_say_is_not_looked_into(kind: Kind) -> None:
    """Two clients with different keys would else ask each other for ever."""
    talk = Talk()
    talk.run(0)
    assert talk.hear(kind, key=OTHER) == []
    assert whispered(talk) == []


def test_announcements_with_other_keys_do_not_push_out_our_own_questions() -> None:
    talk = Talk()
    talk.run(0)
    number = talk.asked[0][2]
    for turn in range(30_000):
        source = Source("lan", f"10.{turn % 250}.{turn // 250 % 250}.1", 4000)
        foreign = seal(Message(Kind.ANNOUNCEMENT, bytes(16), OTHER, "stranger", 1, 51348), Mode.KEYED)
        talk.seeker.handle(DatagramReceived(foreign, source), turn * 29 / 30_000)
    refusal = DatagramReceived(refuse(number, Mode.KEYED), NODE)
    assert talk.seeker.handle(refusal, 29.0) == [TellRefused("10.0.0.1", Mode.KEYED)]


def test_questions_of_other_clients_and_noise_are_passed_over() -> None:
    talk = Talk()
    assert talk.hear(Kind.ASK) == []
    assert talk.seeker.handle(DatagramReceived(b"noise", NODE), 1.0) == []


def test_it_ends() -> None:
    talk = Talk()
    talk.hear(Kind.ANNOUNCEMENT)
    assert talk.seeker.handle(Ended(), 1.0) == []
    assert talk.seeker.deadline == math.inf


def test_nodes_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seekers, "KNOWN_MAX", 3)
    talk = Talk()
    talk.run(0)
    for number in range(5):
        assert talk.hear(Kind.ANSWER, talk.asked[0][2], ident=f"node {number}")


# On a network


@given(st.integers(0, 2**32), st.integers(1, 12))
def test_with_a_fifth_of_all_datagrams_lost_all_are_found_within_five_seconds(seed: int, nodes: int) -> None:
    network = LossyNetwork(seed, loss=0.2, copies=0.1)
    for number in range(nodes):
        network.add_node(f"10.0.0.{number + 1}", RING)
    network.run(20.0)  # they have long ceased to announce themselves
    client = network.add_client("10.0.1.1", RING)
    network.run(25.0)
    assert len(client.sighted) == nodes


@given(st.integers(0, 2**32))
def test_late_node_is_found_within_half_a_second_where_little_is_lost(seed: int) -> None:
    network = LossyNetwork(seed, copies=0.1)
    clients = [network.add_client(f"10.0.1.{number}", RING) for number in range(3)]
    network.run(100.0)
    network.add_node("10.0.0.1", RING)
    network.run(100.5)
    assert all(len(client.sighted) == 1 for client in clients)


@given(st.integers(0, 2**32))
def test_node_that_returns_is_the_same_in_a_new_epoch(seed: int) -> None:
    network = LossyNetwork(seed, loss=0.1)
    client = network.add_client("10.0.1.1", RING)
    node = network.add_node("10.0.0.1", RING, ident="it")
    network.run(10.0)
    network.end(node)
    network.run(30.0)
    network.add_node("10.0.0.1", RING, ident="it", epoch=2)
    network.run(36.0)
    assert client.sighted["it"][1].epoch == 2
    assert client.departed in ([("it", 1)], [])  # a farewell may be lost


@given(st.integers(0, 2**32))
def test_recorded_datagrams_bring_nobody_back(seed: int) -> None:
    network = LossyNetwork(seed)
    client = network.add_client("10.0.1.1", RING)
    node = network.add_node("10.0.0.1", RING, ident="it")
    network.run(10.0)
    network.end(node)
    network.run(50.0)
    assert client.departed == [("it", 1)]
    client.sighted.clear()
    for data in list(network.recorded):
        network.feed(client, DatagramReceived(data, Source("lan", "10.0.0.66", 1)))
    assert client.sighted == {}
    assert client.departed == [("it", 1)]


def test_keys_and_open_operation_keep_to_themselves_and_are_counted() -> None:
    network = LossyNetwork(1)
    rings = {"10.0.0.1": RING, "10.0.0.2": OTHERS, "10.0.0.3": OPEN}
    for host, ring in rings.items():
        network.add_node(host, ring)
    network.run(20.0)
    for number, (host, ring) in enumerate(rings.items()):
        client = network.add_client(f"10.0.1.{number}", ring)
        network.run(network.now + 1)
        assert set(client.sighted) == {f"node at {host}"}
        assert client.refused == set(rings) - {host}


def test_traffic_is_small() -> None:
    network = LossyNetwork(1)
    for number in range(10):
        network.add_node(f"10.0.0.{number}", RING)
    network.run(100.0)
    before = network.sent
    network.add_client("10.0.1.1", RING)
    network.run(3700.0)
    # A question reaches ten nodes, and each answers: once a minute, and a few times more in the beginning.
    assert network.sent - before < 2 * 10 * (35 + 60)
