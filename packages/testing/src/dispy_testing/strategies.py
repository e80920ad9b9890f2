"""Hypothesis strategies for the protocol: any message, any way to cut bytes into reads, any damage to bytes.

@given(data=st.data(), batch=st.lists(messages(), min_size=1))
def test_something(data, batch):
    written = b"".join(encode_batch(batch))
    for read in data.draw(chunkings(written)):
        ...
"""

from __future__ import annotations

import itertools
import types
import typing

from hypothesis import strategies as st

from dispy.model import MAX_FRAME_BYTES, Role
from dispy.wire.messages import PROTOCOL_VERSION, Hello, Message

MESSAGE_TYPES: tuple[type[Message], ...] = typing.get_args(Message)
"""Every kind of message."""

_SCALARS: dict[object, st.SearchStrategy[object]] = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=20),
    bytes: st.binary(max_size=40),
    types.NoneType: st.none(),
}
"""What msgpack can carry and gives back equal."""


def messages(*kinds: type[Message]) -> st.SearchStrategy[Message]:
    """Make messages of these kinds, of any kind if none is given.

    Fields have any value of their type, whether or not it makes sense: this is for what must carry messages, not
    for what must understand them.
    """
    return st.one_of([_values(kind) for kind in kinds or MESSAGE_TYPES])


def _values(kind: typing.Any) -> st.SearchStrategy[typing.Any]:
    """Make values of a type that stands in a message: a scalar, a struct, a list, a dict, a tuple or a union."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    arguments = [_values(argument) for argument in typing.get_args(kind) if argument is not ...]
    match typing.get_origin(kind):
        case None:
            fields = typing.get_type_hints(kind)
            return st.builds(kind, **{name: _values(field) for name, field in fields.items()})
        case types.UnionType:
            return st.one_of(arguments)
        case origin if origin is tuple and ... in typing.get_args(kind):
            return st.lists(arguments[0], max_size=3).map(tuple)
        case origin if origin is tuple:
            return st.tuples(*arguments)
        case origin if origin is list:
            return st.lists(*arguments, max_size=3)
        case origin if origin is dict:
            return st.dictionaries(*arguments, max_size=3)
        case origin:
            raise NotImplementedError(f"no strategy for a field of type {origin!r}; add it here")


def hellos(role: Role = Role.NODE) -> st.SearchStrategy[Hello]:
    """Make greetings that a correct peer of this role and a version that fits sends."""
    return st.builds(
        Hello,
        protocol_min=st.integers(1, PROTOCOL_VERSION),
        protocol_max=st.integers(PROTOCOL_VERSION, PROTOCOL_VERSION + 3),
        role=st.just(role.value),
        ident=st.text("0123456789abcdef", min_size=32, max_size=32),
        epoch=st.integers(1, 1000),
        name=st.text(max_size=20),
        version=st.just("1.0"),
        python=st.sampled_from(["3.11.0", "3.12.1", "3.13.2"]),
        platform=st.just("linux-x86_64"),
        max_frame_bytes=st.integers(MAX_FRAME_BYTES, 4 * MAX_FRAME_BYTES),
        heartbeat_s=st.floats(0.05, 3600.0),
        cpus=st.integers(0, 256),
        addresses=st.lists(st.text(max_size=20), max_size=3),
    )


@st.composite
def chunkings(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut *data* as reads from a connection may: pieces of at least one byte that make *data* when joined."""
    inner = st.integers(1, max(1, len(data) - 1))
    cuts = draw(st.one_of(st.lists(inner, max_size=12), st.just(list(range(1, min(len(data), 100))))))
    edges = [0, *sorted(set(cuts)), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    return [piece for piece in pieces if piece]


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """Damage *data* in one to four places: bytes changed, left out, put in or sent twice, or the end cut off.

    Now and then the result happens to be *data* itself.
    """
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(damaged)))
        stop = min(len(damaged), start + draw(st.integers(1, 16)))
        match draw(st.sampled_from(["change", "drop", "insert", "repeat", "cut"])):
            case "change":
                damaged[start:stop] = draw(st.binary(min_size=stop - start, max_size=stop - start))
            case "drop":
                del damaged[start:stop]
            case "insert":
                damaged[start:start] = draw(st.binary(min_size=1, max_size=16))
            case "repeat":
                damaged[start:start] = damaged[start:stop]
            case _:
                del damaged[start:]
    return bytes(damaged)
