"""Fuzzes greetings: the fields of a Hello as MessagePack, at both sides."""

from __future__ import annotations

import loop

from dispy.errors import RemoteProtocolError
from dispy.model import AccessRole, Role
from dispy.runtime.greeting import make_hello
from dispy.wire.frames import HEADER, PREFACE
from dispy.wire.session import Session

HELLOS = {role: make_hello(role, "0" * 32, name="us") for role in Role}
OTHERS = {Role.NODE: Role.CLIENT, Role.CLIENT: Role.NODE}


def target(data: bytes) -> None:
    """Let both sides be greeted with it."""
    for role, hello in HELLOS.items():
        session = Session(
            hello,
            now=0.0,
            accepts=frozenset({OTHERS[role]}),
            roles=frozenset({AccessRole.ADMIN, AccessRole.NODE}),
        )
        try:
            session.receive_data(PREFACE + HEADER.pack(len(data), 0) + data, 0.0)
            session.data_to_send()
            session.on_time(session.next_deadline())
        except RemoteProtocolError:
            pass  # what a peer gets that greets wrongly
        finally:
            session.close()


if __name__ == "__main__":
    loop.run("greeting", target)
