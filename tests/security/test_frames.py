"""A hostile peer with a valid key: its link ends, the node's memory stays bounded, and the node goes on."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from attackers import Intruder, cost_of, greeting, header, own_credential

from dispy.model import CHUNK_BYTES, MAX_FRAME_BYTES
from dispy.wire import messages as msg
from dispy.wire.frames import PREFACE
from dispy.wire.streams import MAX_OPEN_STREAMS, WINDOW_BYTES

TellFigure = Callable[[str], None]
CID = "c" * 32
KIB_ALLOWED = 16 * 1024
LARGE_MIB_ALLOWED = 256
"""For frames of 4 MiB that are full of tiny things, each of which is an object in memory for a moment."""

encode = msgspec.msgpack.encode


def control(payload: bytes) -> bytes:
    """Return a frame with any payload where messages are expected."""
    return header(len(payload)) + payload


def array(count: int) -> bytes:
    """Return the head of a msgpack array."""
    return struct.pack(">BI", 0xDD, count)


def offer(*files: msg.FileOffer, computation: str = CID) -> bytes:
    """Return a frame that offers a computation with files."""
    return control(
        encode([msg.OpenComputation(computation, "evil", "function", "process", b"x", files=list(files))])
    )


def announced(size: int, stream: int = 1) -> bytes:
    """Return a frame that announces a stream."""
    return offer(msg.FileOffer("file", size, 0o644, 1.0, stream))


CHUNK = header(CHUNK_BYTES, 1) + bytes(CHUNK_BYTES)

ATTACKS: dict[str, tuple[bytes, str]] = {
    "frame too large": (header(MAX_FRAME_BYTES + 1), "announced a frame of 4194305 bytes"),
    "frame of 4 GiB": (header(2**32 - 1) + bytes(100), "announced a frame of 4294967295 bytes"),
    "empty frame": (header(0), "sent an empty frame"),
    "chunk too large": (announced(2**40) + header(CHUNK_BYTES + 1, 1), "announced a frame of 262145 bytes"),
    "empty batch": (control(b"\x90"), "sent an empty batch"),
    "stream that nobody announced": (header(1, 7) + b"x", "data on stream 7, which no message has announced"),
    "end of a stream that nobody announced": (
        control(encode([msg.StreamEnded(7)])),
        "end of stream 7, which no message has announced",
    ),
    "more bytes than announced": (announced(10) + header(11, 1) + bytes(11), "longer than the 10 bytes"),
    "fewer bytes than announced": (
        announced(10) + header(9, 1) + bytes(9) + control(encode([msg.StreamEnded(1)])),
        "has 9 bytes instead of 10",
    ),
    "stream of no size": (announced(-1) + header(1, 1) + b"x", "stream 1"),
    "credit for nothing": (control(encode([msg.StreamCredit(3, 2**62)])), "which it cannot know"),
    "too many streams": (
        offer(*[msg.FileOffer(f"f{n}", 2, 0o644, 1.0, n) for n in range(1, 2000)])
        + b"".join(header(1, n) + b"x" for n in range(1, 2000)),
        f"more than {MAX_OPEN_STREAMS} streams open",
    ),
    "stream twice": (
        offer(*[msg.FileOffer(f"f{n}", 2, 0o644, 1.0, 1) for n in range(2)]),
        "stream 1 is announced twice",
    ),
    "file twice": (
        offer(*[msg.FileOffer("f", 2, 0o644, 1.0, n) for n in range(1, 3)]),
        "offered twice",
    ),
    "nested arrays": (control(b"\x91" * 1_000_000), "a batch that cannot be read"),
    "nested arrays in a message": (
        control(b"\x91\x93\xa4open" + b"\x91" * 1_000_000),
        "a batch that cannot be read",
    ),
    "nested maps": (control(b"\x91\x82\xa1a" + b"\x81\xa1a" * 300_000), "a batch that cannot be read"),
    "array of 4 billion": (control(array(2**32 - 1)), "a batch that cannot be read"),
    "text of 4 GiB": (control(b"\x91\x93\xa4open\xdb\xff\xff\xff\xff"), "a batch that cannot be read"),
    "bytes of 4 GiB": (
        control(b"\x91\x96\xa4open\xa1x\xa1x\xa1x\xa1x\xc6\xff\xff\xff\xff"),
        "a batch that cannot be read",
    ),
    "array of 4 billion in a message": (
        control(b"\x91\x93\xa6cancel\xa1x" + array(2**32 - 1)),
        "a batch that cannot be read",
    ),
    "unknown message": (control(encode([["explode", 1]])), "a batch that cannot be read"),
    "extension": (control(b"\x91\xc7\x04\x01abcd"), "a batch that cannot be read"),
    "text that is none": (control(b"\x91\x93\xa5close\xa2\xff\xfe\xc2"), "a batch that cannot be read"),
    "number too large": (
        control(encode([["cancel", CID, [[2**64 - 1, 1]]]]) + b"\xcf"),
        "a batch that cannot be read",
    ),
    "random": (control(random.Random(6).randbytes(100_000)), "a batch that cannot be read"),
    "second preface": (PREFACE, "announced a frame of"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_link_is_closed(victim: Any, name: str) -> None:
    data, reason = ATTACKS[name]
    with cost_of(victim.process.pid) as cost, Intruder(victim.port, own_credential(), greeting()) as link:
        link.hear_kind(msg.Hello)
        link.send(data)
        assert reason in link.farewell()
        cost.look()
    assert cost.kib < KIB_ALLOWED
    victim.check()


def test_stream_goes_to_disk_and_not_to_memory(victim: Any) -> None:
    """Sixteen windows of a stream, as fast as the link takes them."""
    count = 16 * WINDOW_BYTES // CHUNK_BYTES
    with cost_of(victim.process.pid) as cost, Intruder(victim.port, own_credential(), greeting()) as link:
        link.hear_kind(msg.Hello)
        link.send(announced(2**40))
        for _ in range(count):
            link.send(CHUNK)
            cost.look()
        link.tell(msg.StreamEnded(1))
        assert f"has {count * CHUNK_BYTES} bytes instead of" in link.farewell()
    assert cost.kib < KIB_ALLOWED
    victim.check()


MANY = 1_000_000

LISTS: dict[str, bytes] = {
    "attempts to cancel": b"\x91\x93\xa6cancel\xa1x" + array(MANY) + b"\x92\x01\x01" * MANY,
    "results to forget": b"\x91\x93\xa3ack\xa1x" + array(MANY) + b"\x92\x01\x01" * MANY,
    "heartbeats": array(MANY // 2) + b"\x91\xa4beat" * (MANY // 2),
    "jobs": b"\x91\x93\xa6assign\xa1x" + array(MANY // 2) + b"\x93\x01\x01\xc4\x00" * (MANY // 2),
    "beliefs": b"\x91\x92\xa9reconcile" + array(MANY // 2) + b"\x92\xa1x\x91\x92\x01\x01" * (MANY // 2),
}


@pytest.mark.parametrize("name", LISTS)
def test_long_lists_cost_a_bounded_amount(victim: Any, tell_figure: TellFigure, name: str) -> None:
    """What is in them is about computations that are not there; the node goes on, and does not keep it."""
    payload = LISTS[name]
    assert len(payload) < MAX_FRAME_BYTES
    worst = []
    for _ in range(3):
        with cost_of(victim.process.pid) as cost, Intruder(victim.port, own_credential(), greeting()) as link:
            link.hear_kind(msg.Hello)
            link.send(control(payload))
            link.tell(msg.StreamCredit(3, 1))
            link.farewell(60)
            cost.look()
        worst.append(cost.kib / 1024)
    tell_figure(
        f"a frame with a long list of {name}: the node grows by {', '.join(f'{mib:.0f}' for mib in worst)} MiB"
    )
    assert max(worst) < LARGE_MIB_ALLOWED
    victim.check()


def test_computations_that_never_come(victim: Any) -> None:
    """Offers without end, each with files that are never sent; the link that made them takes them away."""
    with cost_of(victim.process.pid) as cost, Intruder(victim.port, own_credential(), greeting()) as link:
        link.hear_kind(msg.Hello)
        for number in range(200):
            files = [msg.FileOffer(f"f{n}", 1, 0, 0.0, number * 50 + n) for n in range(1, 51)]
            link.send(offer(*files, computation=f"{number:032x}"))
        link.tell(msg.StreamCredit(3, 1))
        link.farewell()
        cost.look()
    assert cost.kib < 4 * KIB_ALLOWED
    victim.check()
