"""Certificates of a small world at one moment, and both sides of a handshake over streams in memory."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
import trio
import trio.testing

from dispy.errors import DispyError
from dispy.interfaces import Credential, Identity
from dispy.model import AccessRole
from dispy_transport_ssl import certificates as certs
from dispy_transport_ssl.security import SslSecurity

Result = tuple[trio.abc.Stream, Identity] | DispyError


class World:
    """Makes authorities and credentials. The time is that of the machine, since OpenSSL asks for no other."""

    day = datetime.timedelta(days=1)
    lab_key = b"1" * 32
    other_key = b"2" * 32

    def __init__(self) -> None:
        self.now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        self.lab = self.authority("lab")
        self.stranger = self.authority("lab")  # the same name, as two of the same kind may have

    def authority(self, name: str) -> certs.KeyPair:
        return certs.make_authority(name, years=1, now=self.now - 100 * self.day)

    def credential(
        self,
        name: str,
        *roles: AccessRole,
        authority: certs.KeyPair | None = None,
        hint_key: bytes = b"",
        default_roles: frozenset[AccessRole] = frozenset(),
        shift_days: float = 0,
    ) -> Credential:
        """Make a credential that is valid for a day from now, or from *shift_days* later."""
        authority = authority or self.lab
        now = self.now + shift_days * self.day
        pair = certs.issue(authority, name, roles=roles, days=1, now=now)
        return Credential(
            f"key {name}" if hint_key else f"certificate {name}",
            chain=certs.write_certificates([pair.certificate]),
            key=certs.write_key(pair.key),
            authorities=certs.write_certificates([authority.certificate]),
            default_roles=default_roles,
            hint_key=hint_key,
        )


@dataclass
class Shaken:
    """What became of a handshake; after a success the streams are open."""

    client: Result | None = None
    server: Result | None = None
    to_server: list[bytes] = field(default_factory=list)
    """What the client has sent, as it was on the wire."""

    def identities(self) -> tuple[Identity, Identity]:
        """Who the client has found, and who the server has found."""
        assert isinstance(self.client, tuple), self.client
        assert isinstance(self.server, tuple), self.server
        return self.client[1], self.server[1]

    def streams(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        assert isinstance(self.client, tuple), self.client
        assert isinstance(self.server, tuple), self.server
        return self.client[0], self.server[0]

    def errors(self) -> tuple[DispyError, DispyError]:
        """What the client has raised, and what the server has raised."""
        assert isinstance(self.client, DispyError), self.client
        assert isinstance(self.server, DispyError), self.server
        return self.client, self.server


Step = Callable[[trio.abc.Stream], Awaitable[tuple[trio.abc.Stream, Identity]]]


async def shake(client: Credential, *servers: Credential) -> Shaken:
    """Let a client with one credential meet a server with several."""
    near, far = trio.testing.memory_stream_pair()
    done = Shaken()
    send_all = near.send_stream.send_all

    async def record(data: bytes | bytearray | memoryview) -> None:
        done.to_server.append(bytes(data))
        await send_all(data)

    near.send_stream.send_all = record  # type: ignore[method-assign]

    async def run(side: str, step: Step, stream: trio.abc.Stream) -> None:
        try:
            setattr(done, side, await step(stream))
        except DispyError as error:
            setattr(done, side, error)
            await trio.aclose_forcefully(stream)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                run,
                "client",
                partial(SslSecurity().connect, credential=client, wants=frozenset(AccessRole)),
                near,
            )
            nursery.start_soon(
                run,
                "server",
                partial(SslSecurity().accept, credentials=servers, wants=frozenset(AccessRole)),
                far,
            )
    return done


def shake_hands(client: Credential, *servers: Credential) -> Shaken:
    """Do what `shake` does, for tests that need nothing else of trio."""
    return trio.run(partial(shake, client, *servers), strict_exception_groups=True)


def alone(side: str, credentials: Sequence[Credential], said: bytes, *, closes: bool = True) -> DispyError:
    """Let a side of the handshake hear *said*, and nothing else; give what it raises."""

    async def main() -> DispyError:
        near, far = trio.testing.memory_stream_pair()
        if said:
            await far.send_all(said)
        if closes:
            await far.send_eof()
        security = SslSecurity()
        with trio.fail_after(10), pytest.raises(DispyError) as caught:
            if side == "server":
                await security.accept(near, credentials, wants=frozenset(AccessRole))
            else:
                await security.connect(near, credentials[0], wants=frozenset(AccessRole))
        return caught.value

    return trio.run(main, strict_exception_groups=True)


@pytest.fixture(scope="session")
def world() -> World:
    return World()


class Tools:
    """The functions above, which tests cannot import from here."""

    shake = staticmethod(shake)
    shake_hands = staticmethod(shake_hands)
    alone = staticmethod(alone)


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools
