from __future__ import annotations

import hashlib
import hmac
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy_discovery_udp.engine.datagrams import (
    HEADER,
    MAGIC,
    NODE,
    OPEN_KEY,
    REFUSAL_SIZE,
    SIZE,
    TAG_BYTES,
    Foreign,
    Kind,
    Message,
    Mode,
    Refusal,
    Ring,
    refuse,
    seal,
    unseal,
)

KEY, OTHER = b"k" * 32, b"o" * 32
NUMBER = bytes(range(16))
RING = Ring.make([KEY], is_open=False)
OPEN = Ring.make([], is_open=True)

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
messages = st.builds(
    Message,
    st.sampled_from([Kind.ANSWER, Kind.ANNOUNCEMENT, Kind.FAREWELL]),
    st.binary(min_size=16, max_size=16),
    st.just(KEY),
    st.text(st.characters(codec="ascii"), min_size=1, max_size=64),
    st.integers(1, 2**32 - 1),
    st.integers(1, 65535),
    st.lists(addresses, max_size=6).map(tuple),
)


def forged(contents: bytes, mode: Mode = Mode.KEYED, key: bytes = KEY) -> bytes:
    """Return a datagram with any contents and a good HMAC, as an insider could make it."""
    head = HEADER.pack(MAGIC, 1, mode, NUMBER) + contents.ljust(SIZE - HEADER.size - TAG_BYTES, b"\0")
    return head + hmac.digest(key, head, hashlib.sha256)


@given(messages)
def test_what_is_sealed_is_unsealed(message: Message) -> None:
    data = seal(message, Mode.KEYED)
    assert len(data) == SIZE
    assert unseal(data, RING) == message


def test_question_is_as_large_as_its_answer() -> None:
    ask = Message(Kind.ASK, NUMBER, KEY)
    assert unseal(seal(ask, Mode.KEYED), RING) == ask
    assert len(seal(ask, Mode.KEYED)) == SIZE > REFUSAL_SIZE


def test_of_many_addresses_the_first_are_told() -> None:
    many = tuple(str(IPv6Address(1 << 64 | number)) for number in range(20))
    message = unseal(seal(Message(Kind.ANSWER, NUMBER, KEY, "i" * 64, 1, 1, many), Mode.KEYED), RING)
    assert isinstance(message, Message)
    assert message.addresses == many[: len(message.addresses)]
    assert len(message.addresses) >= 7


def test_every_key_of_the_ring_counts_and_is_told() -> None:
    ring = Ring.make([OTHER, KEY], is_open=False)
    message = unseal(seal(Message(Kind.ASK, NUMBER, KEY), Mode.KEYED), ring)
    assert isinstance(message, Message)
    assert message.key == KEY


def test_another_key_is_foreign_and_not_looked_into() -> None:
    data = seal(Message(Kind.ANSWER, NUMBER, OTHER, "ident", 1, 1), Mode.KEYED)
    assert unseal(data, RING) == Foreign(NUMBER, Mode.KEYED, Kind.ANSWER)


def test_open_and_keyed_never_mix() -> None:
    opened = seal(Message(Kind.ASK, NUMBER, OPEN_KEY), Mode.OPEN)
    assert unseal(opened, RING) == Foreign(NUMBER, Mode.OPEN, Kind.ASK)
    assert isinstance(unseal(opened, OPEN), Message)
    keyed = seal(Message(Kind.ASK, NUMBER, KEY), Mode.KEYED)
    assert unseal(keyed, OPEN) == Foreign(NUMBER, Mode.KEYED, Kind.ASK)
    # Who knows the open key, which is everybody, can make nothing that counts as keyed.
    assert unseal(seal(Message(Kind.ASK, NUMBER, OPEN_KEY), Mode.KEYED), RING) == Foreign(
        NUMBER, Mode.KEYED, Kind.ASK
    )


def test_refusal() -> None:
    data = refuse(NUMBER, Mode.OPEN)
    assert unseal(data, RING) == Refusal(NUMBER, Mode.OPEN)
    assert unseal(data[:-1] + b"\x07", RING) is None
    assert unseal(data[:5] + b"\x01" + data[6:], RING) is None


@pytest.mark.parametrize("place", [0, 4])
def test_other_magic_or_version_is_nothing_of_ours(place: int) -> None:
    data = bytearray(seal(Message(Kind.ASK, NUMBER, KEY), Mode.KEYED))
    data[place] ^= 1
    assert unseal(bytes(data), RING) is None


def test_unknown_mode_is_nothing_of_ours() -> None:
    data = bytearray(seal(Message(Kind.ASK, NUMBER, KEY), Mode.KEYED))
    data[5] = Mode.REFUSAL  # of the wrong size for one
    assert unseal(bytes(data), RING) is None


@given(st.binary(max_size=600))
def test_noise_is_never_a_message(data: bytes) -> None:
    assert unseal(data, RING) is None or len(data) in (SIZE, REFUSAL_SIZE)


@given(st.integers(HEADER.size, SIZE - 1), st.integers(1, 255))
def test_changed_byte_makes_it_foreign(place: int, change: int) -> None:
    data = bytearray(seal(Message(Kind.ANSWER, NUMBER, KEY, "ident", 3, 51348, ("10.0.0.1",)), Mode.KEYED))
    data[place] ^= change
    assert isinstance(unseal(bytes(data), RING), Foreign)


def node(ident: bytes = b"ident", port: int = 1, rest: bytes = b"\0", length: int | None = None) -> bytes:
    return bytes([Kind.ANSWER]) + NODE.pack(1, port, len(ident) if length is None else length) + ident + rest


@pytest.mark.parametrize(
    "contents",
    [
        b"\x09",
        node(port=0),
        node(ident=b""),
        node(length=200),
        node(ident=b"\xff\xfe"),
        node(rest=b"\x01\x05abcde"),
        node(rest=b"\xff" + b"\x04abcd" * 30),
        node(ident=b"i" * 64, rest=b"\xff" + b"\x04abcd" * 23),
    ],
    ids=["kind", "port", "no ident", "long ident", "no text", "length of an address", "count", "cut off"],
)
def test_an_insider_who_sends_nonsense_is_not_heard(contents: bytes) -> None:
    assert unseal(forged(contents), RING) is None


@given(st.binary(max_size=SIZE - HEADER.size - TAG_BYTES))
def test_nothing_that_an_insider_sends_raises(contents: bytes) -> None:
    message = unseal(forged(contents), RING)
    assert message is None or isinstance(message, Message)


def test_keys_are_not_shown() -> None:
    message = Message(Kind.ASK, NUMBER, KEY)
    assert "kkkk" not in f"{RING!r} {message!r}"


def test_addresses_of_both_kinds() -> None:
    told = (str(IPv4Address("10.0.0.1")), str(IPv6Address("fd00::1")))
    message = unseal(seal(Message(Kind.ANSWER, NUMBER, KEY, "n", 1, 2, told), Mode.KEYED), RING)
    assert isinstance(message, Message)
    assert message.addresses == told
