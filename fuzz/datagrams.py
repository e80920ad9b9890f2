"""Fuzzes the datagrams of the search for nodes, at a node and at a client, from strangers and from insiders.

The first byte of an input chooses: bit 0, who receives it; bit 1, whether it has a good HMAC, as an insider could make
it; bit 2, open operation.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools

import loop

from dispy_discovery_udp.engine.beacon import Beacon, make_presence
from dispy_discovery_udp.engine.datagrams import (
    HEADER,
    MAGIC,
    NUMBER_BYTES,
    OPEN_KEY,
    SIZE,
    TAG_BYTES,
    VERSION,
    Mode,
    Ring,
)
from dispy_discovery_udp.engine.seeker import Seeker
from dispy_discovery_udp.engine.values import DatagramReceived, PathsChanged, Source, TimePassed, Whisper

KEY = b"k" * 32
SOURCE = Source("lan", "10.0.0.1", 4000)
FIRST = bytes(NUMBER_BYTES)
"""Number of the first question that the client asks, so that answers to it are taken."""


def target(data: bytes) -> None:
    """Let a node or a client hear it; no answer may be larger."""
    if not data:
        return
    choice, data = data[0], data[1:]
    is_open = bool(choice & 4)
    ring = Ring.make([KEY], is_open=is_open)
    if choice & 2:
        contents = data[: SIZE - HEADER.size - TAG_BYTES].ljust(SIZE - HEADER.size - TAG_BYTES, b"\0")
        head = HEADER.pack(MAGIC, VERSION, Mode.OPEN if is_open else Mode.KEYED, FIRST) + contents
        data = head + hmac.digest(OPEN_KEY if is_open else KEY, head, hashlib.sha256)
    numbers = itertools.count()
    engine: Beacon | Seeker
    if choice & 1:
        engine = Seeker(
            ring, [1], number=lambda: next(numbers).to_bytes(NUMBER_BYTES, "big"), jitter=lambda: 0.5
        )
    else:
        presence = make_presence("me", 1, 2, ("10.0.0.2",))
        engine = Beacon(presence, ring, 1, number=lambda: FIRST, jitter=lambda: 0.5)
    engine.handle(PathsChanged(), 0.0)
    engine.handle(TimePassed(), 0.0)
    effects = engine.handle(DatagramReceived(data, SOURCE), 1.0)
    assert sum(len(effect.data) for effect in effects if isinstance(effect, Whisper)) <= len(data)
    engine.check_invariants()


if __name__ == "__main__":
    loop.run("datagrams", target)
