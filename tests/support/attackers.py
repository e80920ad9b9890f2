"""What attackers do to a real node, and what is needed to see that it goes on: plain sockets, no code of a client."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import struct
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import msgspec
import psutil
import trio

from dispy.errors import DispyError
from dispy.interfaces import Credential, SecurityRequest
from dispy.model import AccessRole, Role
from dispy.runtime.greeting import make_hello
from dispy.runtime.trust import OF_NODES
from dispy.wire.frames import CONTROL, HEADER, PREFACE, FrameDecoder, decode_batch, encode_batch
from dispy.wire.messages import Goodbye, Hello, Message
from dispy_auth_secret.credentials import SecretCredentials
from dispy_transport_ssl import certificates as certs
from dispy_transport_ssl.contexts import make_client_context
from dispy_transport_ssl.hints import NONCE_BYTES, make_hint
from dispy_transport_ssl.security import ACCEPTED, SslSecurity

HOST = "127.0.0.1"
PATIENCE_S = 30.0
"""How long an attacker waits for a node to close a connection."""


def own_credential(role: AccessRole = AccessRole.SUBMIT) -> Credential:
    """Return a credential from the key that all tests, and the nodes that they start, have by default."""
    return SecretCredentials().load(SecurityRequest(role))[0]


def credential_of(secret: str, role: AccessRole = AccessRole.SUBMIT) -> Credential:
    """Return a credential from another key."""
    return SecretCredentials().load(SecurityRequest(role, secret))[0]


class Authority:
    """Issues certificates that are good, or in one way not."""

    def __init__(self, name: str = "lab") -> None:
        self.now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.pair = certs.make_authority(name, years=1, now=self.now - datetime.timedelta(days=100))

    def pem(self) -> bytes:
        """Return the certificate of the authority."""
        return certs.write_certificates([self.pair.certificate])

    def issue(self, name: str, *roles: AccessRole, shift_days: float = 0) -> certs.KeyPair:
        """Make a certificate that is valid for a day from now, or from *shift_days* later."""
        now = self.now + datetime.timedelta(days=shift_days)
        return certs.issue(self.pair, name, roles=roles, days=1, now=now)

    def credential(
        self,
        name: str,
        *roles: AccessRole,
        shift_days: float = 0,
        hint_key: bytes = b"",
        trusts: Authority | None = None,
    ) -> Credential:
        """Make a credential; its owner trusts this authority, or another one."""
        pair = self.issue(name, *roles, shift_days=shift_days)
        return Credential(
            f"certificate {name}",
            chain=certs.write_certificates([pair.certificate]),
            key=certs.write_key(pair.key),
            authorities=(trusts or self).pem(),
            hint_key=hint_key,
        )


def dial(port: int) -> socket.socket:
    """Connect; waiting for anything is bounded."""
    sock = socket.create_connection((HOST, port), PATIENCE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def drop(sock: socket.socket) -> None:
    """Close at once, without leaving anything behind in the system."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def read_to_end(sock: socket.socket, timeout_s: float = PATIENCE_S) -> bytes:
    """Return all that comes until the other side closes.

    Raises:
        AssertionError: it does not within *timeout_s*.
    """
    data = b""
    ends_at = time.monotonic() + timeout_s
    while (left_s := ends_at - time.monotonic()) > 0:
        sock.settimeout(left_s)
        try:
            part = sock.recv(65536)
        except TimeoutError:
            break
        except OSError:  # reset, or, under TLS, closed without a farewell
            return data
        if not part:
            return data
        data += part
    raise AssertionError(f"the connection was not closed within {timeout_s:g} s; it said {data[:200]!r}")


def say(port: int, data: bytes, timeout_s: float = PATIENCE_S) -> bytes:
    """Connect, send *data*, and return what comes until the node closes."""
    sock = dial(port)
    try:
        with contextlib.suppress(OSError):  # it may have closed before all was sent
            sock.sendall(data)
        return read_to_end(sock, timeout_s)
    finally:
        drop(sock)


@lru_cache(maxsize=64)
def context_of(credential: Credential) -> ssl.SSLContext:
    """Return the context of a client with this credential."""
    return make_client_context(credential)


def hint_of(credential: Credential) -> str | None:
    """Return a new hint."""
    return make_hint(credential.hint_key, bytes(range(NONCE_BYTES))) if credential.hint_key else None


def greeting(role: Role = Role.CLIENT, ident: str = "", name: str = "attacker") -> Hello:
    """Return what an attacker greets with; each is somebody else, unless *ident* is given."""
    return make_hello(role, ident or uuid.uuid4().hex, name=name)


class Intruder:
    """A client with a credential that says what it likes, over TLS to a real node.

    Args:
        hello: its greeting; None: it does not greet.
        sock: a connection that is there already.

    Raises:
        OSError: the node has not accepted it.
    """

    def __init__(
        self,
        port: int,
        credential: Credential,
        hello: Hello | None = None,
        *,
        sock: socket.socket | None = None,
    ) -> None:
        self.socket: Any = sock or dial(port)
        try:
            self.socket = context_of(credential).wrap_socket(self.socket, server_hostname=hint_of(credential))
            verdict = self.socket.recv(1)
            if verdict != ACCEPTED:
                raise ConnectionRefusedError(f"the node said {verdict!r}")
            self.socket.sendall(ACCEPTED)
        except BaseException:
            drop(self.socket)
            raise
        self.decoder = FrameDecoder()
        if hello is not None:
            self.send(PREFACE, frame(hello))

    def send(self, *data: bytes | bytearray) -> None:
        """Send bytes; a node that has closed already is no error."""
        with contextlib.suppress(OSError):
            self.socket.sendall(b"".join(data))

    def tell(self, *messages: Message) -> None:
        """Send messages as a client would."""
        self.send(*encode_batch(messages))

    def hear(self, wanted: Callable[[Message], bool], timeout_s: float = PATIENCE_S) -> Message:
        """Return the first message that fits.

        Raises:
            AssertionError: the node closes before, or it takes too long.
        """
        ends_at = time.monotonic() + timeout_s
        seen: list[str] = []
        while (left_s := ends_at - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            try:
                data = self.socket.recv(65536)
            except OSError as error:
                raise AssertionError(f"the link broke ({error}) after {seen}") from error
            if not data:
                break
            for channel, payload in self.decoder.feed(data):
                for message in decode_batch(payload) if channel == CONTROL else ():
                    if wanted(message):
                        return message
                    seen.append(str(message)[:300])
        raise AssertionError(f"that did not come, but {seen}")

    def hear_kind(self, kind: type[Message], timeout_s: float = PATIENCE_S) -> Any:
        """Return the first message of a kind."""
        return self.hear(lambda message: isinstance(message, kind), timeout_s)

    def farewell(self, timeout_s: float = PATIENCE_S) -> str:
        """Return the reason that the node gives when it closes the link, and see that it closes it."""
        reason = self.hear_kind(Goodbye, timeout_s).reason
        read_to_end(self.socket, timeout_s)
        return str(reason)

    def close(self) -> None:
        """Leave without a word."""
        drop(self.socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def changed(hello: Hello, **fields: Any) -> Hello:
    """Return a greeting with other words in it."""
    return msgspec.structs.replace(hello, **fields)


def frame(*messages: Message) -> bytes:
    """Return messages as one frame."""
    return b"".join(encode_batch(messages))


def header(length: int, channel: int = CONTROL) -> bytes:
    """Return the header of a frame."""
    return HEADER.pack(length, channel)


def greets(port: int, credential: Credential | None = None) -> float:
    """Connect as somebody with the key does, greet, and be greeted; return how long it took in seconds."""
    began = time.monotonic()
    with Intruder(port, credential or own_credential(), greeting(ident="b" * 32, name="friend")) as link:
        link.hear_kind(Hello)
    return time.monotonic() - began


def handshake(port: int, credential: Credential) -> str:
    """Connect as a client of ours does; return why it was refused, or "" if it was not."""

    async def main() -> str:
        stream: trio.abc.Stream = await trio.open_tcp_stream(HOST, port)
        try:
            with trio.fail_after(PATIENCE_S):
                stream, _identity = await SslSecurity().connect(stream, credential, wants=OF_NODES)
        except DispyError as error:
            return str(error)
        finally:
            await trio.aclose_forcefully(stream)
        return ""

    return trio.run(main)


@dataclass
class Cost:
    """What a node spends on something."""

    process: psutil.Process
    connections: int
    cpu_ms: float = 0.0
    """For each connection."""
    kib: float = 0.0
    """For each connection, at the worst moment."""
    before: int = field(default=0)
    tells_worst: bool = False
    """The system tells the worst moment within the context; a node hides that from all but root."""

    def look(self) -> None:
        """Look how much memory is in use now, or, where the system tells it, how much it was at the worst moment."""
        now = self.process.memory_info().rss
        if self.tells_worst:
            for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    now = max(now, int(line.split()[1]) * 1024)
        self.kib = max(self.kib, (now - self.before) / 1024 / self.connections)


@contextlib.contextmanager
def cost_of(pid: int, connections: int = 1) -> Iterator[Cost]:
    """Measure what a node spends within the context."""
    process = psutil.Process(pid)
    tells_worst = False
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the worst moment from now on
        tells_worst = True
    cost = Cost(process, connections, before=process.memory_info().rss, tells_worst=tells_worst)
    began = sum(process.cpu_times()[:2])
    yield cost
    cost.look()
    cost.cpu_ms = (sum(process.cpu_times()[:2]) - began) * 1000 / connections


def percentile(values: Iterable[float], percent: float) -> float:
    """Return the value that *percent* of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
