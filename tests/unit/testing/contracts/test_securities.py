"""Each rule of the contract of securities, shown by one that breaks it."""

from __future__ import annotations

import ssl
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing

from dispy.errors import SecurityError, UnknownKey
from dispy.interfaces import Credential, Identity
from dispy.model import AccessRole
from dispy_auth_secret.derivation import issue_credential
from dispy_auth_secret.keys import Key
from dispy_testing.contracts import ContractViolation, check_security
from dispy_testing.contracts.meetings import Wire
from dispy_transport_ssl.security import SslSecurity

Secured = tuple[trio.abc.Stream, Identity]
Step = Callable[[trio.abc.Stream], Awaitable[Secured]]

ALL = frozenset(AccessRole)
NOW = time.time()
DIALLING, LISTENING, STRANGER = (
    issue_credential(Key(bytes([number] * 32)), role, "host", NOW)
    for number, role in ((1, AccessRole.SUBMIT), (1, AccessRole.NODE), (2, AccessRole.NODE))
)


class Wrapping(SslSecurity):
    """Keeps the contract; variants change what goes in and what comes out."""

    async def connect(
        self, stream: trio.abc.Stream, credential: Credential, *, wants: frozenset[AccessRole]
    ) -> Secured:
        return await self.around(
            stream, lambda below: SslSecurity.connect(self, below, credential, wants=self.wants(wants))
        )

    async def accept(
        self, stream: trio.abc.Stream, credentials: Sequence[Credential], *, wants: frozenset[AccessRole]
    ) -> Secured:
        chosen = self.choose(credentials)
        return await self.around(
            stream, lambda below: SslSecurity.accept(self, below, chosen, wants=self.wants(wants))
        )

    def wants(self, wants: frozenset[AccessRole]) -> frozenset[AccessRole]:
        return wants

    def choose(self, credentials: Sequence[Credential]) -> Sequence[Credential]:
        return credentials

    async def around(self, stream: trio.abc.Stream, step: Step) -> Secured:
        secured, identity = await step(stream)
        return self.change(secured), self.change_identity(identity)

    def change(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        return stream

    def change_identity(self, identity: Identity) -> Identity:
        return identity


class Nameless(Wrapping):
    def change_identity(self, identity: Identity) -> Identity:
        return replace(identity, name="")


class Roleless(Wrapping):
    def change_identity(self, identity: Identity) -> Identity:
        return replace(identity, roles=frozenset())


class Generous(Wrapping):
    def change_identity(self, identity: Identity) -> Identity:
        return replace(identity, roles=ALL)


class Leaving(Wrapping):
    """Does not close what it was given."""

    class Kept(Wire):
        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async def around(self, stream: trio.abc.Stream, step: Step) -> Secured:
        return await step(self.Kept(stream))


class Garbling(Wrapping):
    class Garbled(Wire):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await self.stream.send_all(bytes(data).replace(b"\x07", b"\x08"))

    def change(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        return self.Garbled(stream)


class Shuffling(Wrapping):
    """Sends large data in pieces, the last one first."""

    class Shuffled(Wire):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            half = len(data) // 2 if len(data) > 0x10000 else 0
            await self.stream.send_all(bytes(data[half + 1 :]) + bytes(data[: half + 1]) if half else data)

    def change(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        return self.Shuffled(stream)


class Losing(Wrapping):
    class Lossy(Wire):
        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await self.stream.send_all(data[:0x10000])

    def change(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        return self.Lossy(stream)


class Open(SslSecurity):
    """Secures nothing."""

    async def connect(
        self, stream: trio.abc.Stream, credential: Credential, *, wants: frozenset[AccessRole]
    ) -> Secured:
        await trio.lowlevel.checkpoint()
        return stream, Identity("a node", LISTENING.roles)

    async def accept(
        self, stream: trio.abc.Stream, credentials: Sequence[Credential], *, wants: frozenset[AccessRole]
    ) -> Secured:
        await trio.lowlevel.checkpoint()
        return stream, Identity("a client", DIALLING.roles)


class Forgiving(Wrapping):
    """Takes what was damaged for the end."""

    class Tolerant(Wire):
        def forgives(self, cause: BaseException | None) -> bool:
            return True

        async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
            try:
                return await self.stream.receive_some(max_bytes)
            except trio.BrokenResourceError as error:
                if self.forgives(error.__cause__):
                    return b""
                raise

    def change(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        return self.Tolerant(stream)


class Careless(Forgiving):
    """Takes a cut for the end."""

    class Tolerant(Forgiving.Tolerant):
        def forgives(self, cause: BaseException | None) -> bool:
            return cause is not None and isinstance(cause.__cause__, ssl.SSLEOFError)


class Failing(Wrapping):
    """Does something else than the contract wants when one side does not accept the other."""

    async def around(self, stream: trio.abc.Stream, step: Step) -> Secured:
        try:
            return await step(stream)
        except SecurityError as error:
            return await self.fail(stream, error)

    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        raise NotImplementedError


class Vague(Failing):
    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        raise SecurityError(str(error))


class Mute(Failing):
    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        raise type(error)("")


class Technical(Failing):
    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        raise ssl.SSLError(1, "tlsv1 unrecognized name")


class Misleading(Failing):
    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        raise UnknownKey(str(error))


class Raw(Failing):
    """Knows strangers, and nothing of those who speak otherwise."""

    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        if isinstance(error.__cause__, trio.BrokenResourceError) and not isinstance(error, UnknownKey):
            raise error.__cause__
        raise error


class Waiting(Failing):
    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        await trio.sleep_forever()
        raise error


class Listening(Failing):
    """Hears strangers out when it is dialled."""

    connect = SslSecurity.connect

    async def fail(self, stream: trio.abc.Stream, error: SecurityError) -> Secured:
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError:
            pass  # it has ended all the same
        raise error


class Narrow(Wrapping):
    """Looks at the first credential only."""

    def choose(self, credentials: Sequence[Credential]) -> Sequence[Credential]:
        return credentials[:1]


class Undemanding(Wrapping):
    def wants(self, wants: frozenset[AccessRole]) -> frozenset[AccessRole]:
        return ALL


class Stubborn(Wrapping):
    """Takes being cancelled for a trouble with the other side."""

    async def around(self, stream: trio.abc.Stream, step: Step) -> Secured:
        try:
            return await step(stream)
        except trio.Cancelled:
            raise SecurityError("the other side says nothing") from None


class Leaking(Wrapping):
    async def around(self, stream: trio.abc.Stream, step: Step) -> Secured:
        tempfile.TemporaryFile()  # noqa: SIM115 - forgotten, as the name says
        return await step(stream)


def check(security: type[SslSecurity], dialling: Credential = DIALLING) -> None:
    trio.run(
        check_security,
        security,
        dialling,
        LISTENING,
        STRANGER,
        clock=trio.testing.MockClock(autojump_threshold=0),
        strict_exception_groups=True,
    )


def test_what_keeps_the_rules_passes() -> None:
    check(Wrapping)


def test_streams_are_checked_by_trio() -> None:
    with pytest.raises(AssertionError) as caught:
        check(Garbling)
    assert not isinstance(caught.value, ContractViolation)


@pytest.mark.parametrize(
    ("security", "rule"),
    [
        (Nameless, "each side must be told who the other is, with a name for people"),
        (Roleless, "who is accepted must have roles"),
        (Generous, "a peer must have the roles of its certificate, .*'node'.*, not"),
        (Leaving, "closing a secured stream must close the stream below it"),
        (Shuffling, "what arrives must be what was sent, in full"),
        (Losing, "large data must go both ways at the same time"),
        (Open, "what is sent must not be seen on the stream below"),
        (Forgiving, "what was changed on the way must raise a BrokenResourceError, but was received as b''"),
        (Careless, "an end that the peer has not announced must raise a BrokenResourceError"),
        (Vague, "connect of or to a stranger that dials must raise an UnknownKey, not SecurityError"),
        (Mute, "a stranger that dials must say why"),
        (Technical, "a stranger that dials must raise a SecurityError, not SSLError"),
        (Narrow, "sides that have each other's credentials must accept each other, but connect raised"),
        (Undemanding, "is not wanted of one side, must raise a SecurityError, but gave"),
        (Misleading, "is not wanted of one side, must not raise an UnknownKey"),
        (Raw, "connect must refuse who says b'GET .*; it must raise a SecurityError, not BrokenResource"),
        (Waiting, "must come to an end when the other side has"),
        (Listening, "accept, when .* is said again and again, must give up within 262144 bytes"),
        (Stubborn, "connect must wait for the other side until it is cancelled, and then end"),
    ],
)
def test_violations_are_named(security: type[SslSecurity], rule: str) -> None:
    with pytest.raises(ContractViolation, match=rule):
        check(security)


def test_what_is_left_open_is_found() -> None:
    with warnings.catch_warnings(), pytest.raises(ContractViolation, match="what was opened must be closed"):
        check(Leaking)


def test_credential_with_every_role_is_of_no_use() -> None:
    everything = replace(DIALLING, roles=frozenset())

    class Omnipotent(Wrapping):
        def change_identity(self, identity: Identity) -> Identity:
            return identity if AccessRole.NODE in identity.roles else replace(identity, roles=ALL)

    with pytest.raises(ValueError, match="has every role; check the security with one that lacks some"):
        check(Omnipotent, everything)
