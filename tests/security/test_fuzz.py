"""The targets of `fuzz/` with a bounded share of inputs: nothing but the error that is meant for it is raised."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from attackers import greeting
from hypothesis import example, given
from hypothesis import strategies as st

from dispy.errors import RemoteProtocolError
from dispy.model import AccessRole, Role
from dispy.runtime.greeting import make_hello
from dispy.wire import messages as msg
from dispy.wire.frames import PREFACE, encode_batch, encode_chunk_header
from dispy.wire.session import Session

FOLDER = Path(__file__).parents[2] / "fuzz"
TARGETS = sorted(path.name for path in (FOLDER / "corpus").iterdir())
LOOPS = 3000
CID = "c" * 32


def module(name: str) -> ModuleType:
    """Import a module of `fuzz/`, whose names are nobody else's as long as it takes."""
    sys.path.insert(0, str(FOLDER))
    known = {one: sys.modules.pop(one) for one in ("loop", name) if one in sys.modules}
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
        for one in ("loop", name):
            sys.modules.pop(one, None)
        sys.modules.update(known)


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_and_mutations_of_it(name: str) -> None:
    loop, target = module("loop"), module(name).target
    for data in loop.seeds(name):
        target(data)
    assert loop.count_loop(name, target, LOOPS, seed=random.randrange(2**32)) == 0


def test_loop_tells_of_what_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    def target(data: bytes) -> None:
        if len(data) % 2:
            raise KeyError("odd")

    assert module("loop").count_loop("frames", target, 100, seed=1) > 10
    told = capsys.readouterr()
    assert "unhandled exceptions" in told.out
    assert "KeyError: 'odd'" in told.err


SESSION = b"".join(
    (
        PREFACE,
        *map(bytes, encode_batch([greeting()])),
        *map(
            bytes,
            encode_batch(
                [
                    msg.Reconcile([]),
                    msg.OpenComputation(
                        CID, "n", "function", "process", b"x", files=[msg.FileOffer("f", 3, 0, 1.0, 1)]
                    ),
                ]
            ),
        ),
        encode_chunk_header(1, 3) + b"abc",
        *map(bytes, encode_batch([msg.StreamEnded(1), msg.AssignJobs(CID, [msg.JobAssignment(1, 1, b"y")])])),
        *map(bytes, encode_batch([msg.AckResults(CID, [(1, 1)]), msg.Goodbye("done")])),
    )
)
"""What a client sends in a session, as it is within TLS."""

Change = Callable[[bytes], bytes]


def changes() -> st.SearchStrategy[Change]:
    """Ways to spoil a session."""
    places = st.integers(0, len(SESSION))

    def flip(bit: int) -> Change:
        def change(data: bytes) -> bytes:
            if bit // 8 >= len(data):
                return data
            return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]

        return change

    return st.one_of(
        st.integers(0, 8 * len(SESSION) - 1).map(flip),
        places.map(lambda end: lambda data: data[:end]),
        st.tuples(places, st.binary(max_size=20)).map(
            lambda both: lambda data: data[: both[0]] + both[1] + data[both[0] :]
        ),
        st.tuples(places, places).map(lambda both: lambda data: data[: min(both)] + data[max(both) :]),
        st.tuples(places, places).map(lambda both: lambda data: data + data[min(both) : max(both)]),
    )


def hear(data: bytes, role: AccessRole, step: int) -> list[object]:
    """Let a node hear it in pieces; return what it takes for good."""
    session = Session(
        make_hello(Role.NODE, "0" * 32, name="node"),
        now=0.0,
        accepts=frozenset({Role.CLIENT}),
        roles=frozenset({role}),
    )
    events: list[object] = []
    try:
        for start in range(0, len(data), step):
            events += session.receive_data(data[start : start + step], 1.0)
        session.receive_eof()
    except RemoteProtocolError:
        pass  # that is what wrong bytes raise, and all that they may
    session.close()
    return events


def test_session_that_is_not_spoilt() -> None:
    assert len(hear(SESSION, AccessRole.SUBMIT, len(SESSION))) > 4


@given(
    st.lists(changes(), min_size=1, max_size=4),
    st.sampled_from(AccessRole),
    st.integers(1, len(SESSION)),
)
@example([lambda data: data], AccessRole.OBSERVE, 1)
def test_spoilt_sessions(spoil: list[Change], role: AccessRole, step: int) -> None:
    data = SESSION
    for change in spoil:
        data = change(data)
    events = hear(data, role, step)
    if role in (AccessRole.OBSERVE, AccessRole.NODE):
        assert not [
            event for event in events if type(event).__name__ in ("MessagesReceived", "ChunkReceived")
        ]


@given(st.binary(max_size=200), st.sampled_from(AccessRole))
def test_any_bytes_instead_of_a_session(data: bytes, role: AccessRole) -> None:
    assert hear(data, role, len(data) or 1) == []
    hear(SESSION[: len(PREFACE)] + data, role, len(data) or 1)
