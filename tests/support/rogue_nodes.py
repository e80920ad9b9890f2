"""A node that speaks the protocol and tells what it likes, over an open connection."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from dispy.model import Role
from dispy.runtime.greeting import make_hello
from dispy.wire.messages import (
    CloseComputation,
    ComputationClosed,
    ComputationReady,
    Finding,
    OpenComputation,
    Reconcile,
    Reconciled,
)
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import MessagesReceived, Session

Tell = Callable[[Session, socket.socket, Any], None]
"""Does something about a message that is not about computations."""


class Zeros:
    """A stream of zeros, as long as may be wanted."""

    def read(self, size: int) -> bytes:
        """Return as many as are asked for."""
        return bytes(size)

    def close(self) -> None:
        """Do nothing."""


class TellingNode:
    """Takes every computation, and leaves the rest to *tell*."""

    def __init__(self, tell: Tell, cpus: int = 1) -> None:
        self._tell = tell
        self._cpus = cpus
        self._socks: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):  # the client has closed it
                sock.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._socks.append(sock)
            with sock, contextlib.suppress(OSError):
                self._speak(sock)

    def _speak(self, sock: socket.socket) -> None:
        hello = make_hello(Role.NODE, "f" * 32, name="rogue", cpus=self._cpus)
        session = Session(hello, now=0.0, accepts=frozenset({Role.CLIENT}), roles=EVERYTHING)
        while True:
            while pieces := session.data_to_send():
                sock.sendall(b"".join(pieces))
            data = sock.recv(1 << 20)
            if not data:
                return
            for event in session.receive_data(data, time.monotonic()):
                for message in event.messages if isinstance(event, MessagesReceived) else ():
                    self._answer(session, sock, message)

    def _answer(self, session: Session, sock: socket.socket, message: Any) -> None:
        match message:
            case Reconcile(beliefs):
                session.send(Reconciled([Finding(one.computation, "unknown", []) for one in beliefs]))
            case OpenComputation():
                session.send(ComputationReady(message.computation))
            case CloseComputation(computation):
                session.send(ComputationClosed(computation))
            case _:
                self._tell(session, sock, message)
