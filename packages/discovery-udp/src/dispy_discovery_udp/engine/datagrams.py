"""What a datagram looks like, and whether it is to be believed.

    0   magic ``dspy``          4 bytes
    4   version                 1
    5   mode                    1   KEYED, OPEN or REFUSAL
    6   number                  16  random; an answer has that of its question
    22  contents                202, filled up with zeros
    224 HMAC-SHA256             32  of all that stands before, under the discovery key

Questions are as large as answers, so that a node can never be made to send more than was sent to it. The HMAC is
checked before the contents are looked at. In the mode OPEN there is no secret: the key is known to everybody and
guards against damage only.

A refusal has no contents and no HMAC, since its sender does not have the key: ``magic, version, REFUSAL, number,
mode of the node``, 23 bytes.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

MAGIC = b"dspy"
VERSION = 1
HEADER = struct.Struct("!4sBB16s")
NUMBER_BYTES = 16
SIZE = 256
"""Of every datagram but a refusal; it passes every network in one piece."""
TAG_BYTES = 32
REFUSAL_SIZE = HEADER.size + 1
OPEN_KEY = b"dispy discovery without a key"
IDENT_MAX_BYTES = 64
NODE = struct.Struct("!IHB")
"""Epoch, port, length of the ident that follows."""


class Mode(enum.IntEnum):
    """What vouches for a datagram."""

    KEYED = 1
    OPEN = 2
    REFUSAL = 3


class Kind(enum.IntEnum):
    """What a datagram is for."""

    ASK = 1
    ANSWER = 2
    ANNOUNCEMENT = 3
    FAREWELL = 4


@dataclass(frozen=True, slots=True)
class Ring:
    """The keys of one participant, the preferred one first; in open operation there is none but `OPEN_KEY`."""

    mode: Mode
    keys: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def make(cls, keys: Iterable[bytes], *, is_open: bool) -> Ring:
        """Make the ring of a participant with these keys, or of one that is open."""
        return cls(Mode.OPEN, (OPEN_KEY,)) if is_open else cls(Mode.KEYED, tuple(keys))


@dataclass(frozen=True, slots=True)
class Message:
    """A datagram whose HMAC fits.

    Attributes:
        number: random number of the question.
        key: the key that it was made with.
        ident: who the node is; empty in a question.
        epoch: how often the node has started.
        port: where it listens for connections.
        addresses: under which others reach it, without zones.
    """

    kind: Kind
    number: bytes
    key: bytes = field(repr=False)
    ident: str = ""
    epoch: int = 0
    port: int = 0
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """A node has said that our question was not made with a key of its own; nothing proves that it is a node."""

    number: bytes
    mode: Mode
    """What the node works with."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A datagram of dispy whose HMAC does not fit: it was made with another key, or not to be trusted at all.

    Attributes:
        mode: what it claims to be made with.
        kind: what it claims to be; None if that is none of ours.
    """

    number: bytes
    mode: Mode
    kind: Kind | None


def seal(message: Message, mode: Mode) -> bytes:
    """Return the datagram for a message; of many addresses the first are taken that find room."""
    contents = bytes([message.kind])
    if message.kind is not Kind.ASK:
        ident = message.ident.encode()
        assert len(ident) <= IDENT_MAX_BYTES  # made by our own storage
        contents += NODE.pack(message.epoch & 0xFFFFFFFF, message.port, len(ident)) + ident
        contents += _pack_addresses(message.addresses, _contents_size() - len(contents))
    head = HEADER.pack(MAGIC, VERSION, mode, message.number) + contents.ljust(_contents_size(), b"\0")
    return head + hmac.digest(message.key, head, hashlib.sha256)


def refuse(number: bytes, mode: Mode) -> bytes:
    """Return the datagram that tells who asked with the number *number* that our mode or key is another."""
    return HEADER.pack(MAGIC, VERSION, Mode.REFUSAL, number) + bytes([mode])


def unseal(data: bytes, ring: Ring) -> Message | Refusal | Foreign | None:
    """Return what a datagram says; None if it is none of ours, or damaged, or of another version."""
    if len(data) not in (SIZE, REFUSAL_SIZE):
        return None
    magic, version, mode, number = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION:
        return None
    if len(data) == REFUSAL_SIZE:
        claimed = data[-1]
        if mode != Mode.REFUSAL or claimed not in (Mode.KEYED, Mode.OPEN):
            return None
        return Refusal(number, Mode(claimed))
    if mode not in (Mode.KEYED, Mode.OPEN):
        return None
    if mode == ring.mode:
        head, tag = data[:-TAG_BYTES], data[-TAG_BYTES:]
        for key in ring.keys:
            if hmac.compare_digest(tag, hmac.digest(key, head, hashlib.sha256)):
                return _decode(head[HEADER.size :], number, key)
    claimed_kind = data[HEADER.size]
    return Foreign(number, Mode(mode), Kind(claimed_kind) if claimed_kind in set(Kind) else None)


def _contents_size() -> int:
    return SIZE - HEADER.size - TAG_BYTES


def _pack_addresses(addresses: Iterable[str], room: int) -> bytes:
    packed, count = b"", 0
    for address in addresses:
        one = ipaddress.ip_address(address).packed
        if 2 + len(packed) + len(one) > room:
            break
        packed += bytes([len(one)]) + one
        count += 1
    return bytes([count]) + packed


def _decode(contents: bytes, number: bytes, key: bytes) -> Message | None:
    """Read contents whose HMAC fits; None if they are of a kind that this version does not know, or cut off."""
    try:
        kind = Kind(contents[0])
        if kind is Kind.ASK:
            return Message(kind, number, key)
        epoch, port, length = NODE.unpack_from(contents, 1)
        place = 1 + NODE.size
        if not 0 < length <= IDENT_MAX_BYTES or not port:
            return None
        ident = contents[place : place + length].decode()
        return Message(kind, number, key, ident, epoch, port, _unpack_addresses(contents, place + length))
    except (
        ValueError,
        IndexError,
        struct.error,
    ):  # text that is no UTF-8 and a length of no address are ValueErrors
        return None


def _unpack_addresses(contents: bytes, place: int) -> tuple[str, ...]:
    addresses = []
    count = contents[place]
    place += 1
    for _ in range(count):
        length = contents[place]
        place += 1
        addresses.append(str(ipaddress.ip_address(contents[place : place + length])))
        place += length
    return tuple(addresses)
