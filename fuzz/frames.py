"""Fuzzes the frame decoder and the session of a node, before and after the greeting, and what its engine is told.

The first byte of an input chooses: bit 0, whether a good greeting goes before; bit 1, whether the input is the
payload of one control frame rather than frames; bits 2 and 3, the roles of the peer; bit 4, that it comes in pieces.
"""

from __future__ import annotations

import loop

from dispy.errors import RemoteProtocolError
from dispy.model import AccessRole, Role
from dispy.runtime.greeting import make_hello
from dispy.wire.frames import HEADER, PREFACE, encode_batch
from dispy.wire.session import ChunkReceived, Session

NODE_HELLO = make_hello(Role.NODE, "0" * 32, name="node", cpus=4)
CLIENT_HELLO = make_hello(Role.CLIENT, "a" * 32, name="client")
OPENING = PREFACE + b"".join(encode_batch([CLIENT_HELLO]))
ROLES = (
    frozenset({AccessRole.ADMIN}),
    frozenset({AccessRole.SUBMIT}),
    frozenset({AccessRole.OBSERVE}),
    frozenset({AccessRole.NODE, AccessRole.ADMIN}),
)
PIECE_BYTES = 7


def target(data: bytes) -> None:
    """Let a session hear it."""
    if not data:
        return
    choice, data = data[0], data[1:]
    session = Session(NODE_HELLO, now=0.0, accepts=frozenset({Role.CLIENT}), roles=ROLES[choice >> 2 & 3])
    if choice & 2:
        data = HEADER.pack(len(data), 0) + data
    try:
        if choice & 1:
            session.receive_data(OPENING, 0.0)
        step = PIECE_BYTES if choice & 16 else len(data) or 1
        for start in range(0, len(data), step):
            for event in session.receive_data(data[start : start + step], 1.0):
                if isinstance(event, ChunkReceived):
                    session.consumed(event.stream, len(event.data))
        session.data_to_send()
        session.receive_eof()
    except RemoteProtocolError:
        pass  # what a peer gets that sends wrong bytes
    finally:
        session.close()


if __name__ == "__main__":
    loop.run("frames", target)
