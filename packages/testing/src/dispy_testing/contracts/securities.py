"""What every security of streams must do. The streams that it gives must pass trio's own checks of streams."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import trio
import trio.testing

from dispy.errors import SecurityError, UnknownKey
from dispy.interfaces import Credential, Identity, StreamSecurity
from dispy.model import AccessRole
from dispy.wire.rights import expand
from dispy_testing.contracts.meetings import ALL_ROLES, Meeting, Secured, Side, meet
from dispy_testing.contracts.rules import (
    ContractViolation,
    check_identity,
    is_text,
    patience,
    require,
    unwrapping,
)

STRANGER_BYTES = 256 * 1024
"""Whoever has sent so much must be accepted by then, or refused."""

GARBAGE = (b"GET / HTTP/1.1\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", bytes(99), b"\xff" * 99, bytes(range(256)))
"""What others say who have found the port."""

SECRET = b"what nobody else may see: " + bytes(range(256))

PAYLOAD = bytes(range(256)) * 1024
"""256 KiB: more than one write of most securities."""


async def check_security(
    make_security: Callable[[], StreamSecurity],
    dialling: Credential,
    listening: Credential,
    stranger: Credential,
) -> None:
    """Check a security; run it with `trio.run`, or in a test under trio.

    Args:
        make_security: the class, or a function that gives a new one.
        dialling: what the side that dials has.
        listening: what the side that listens has; the two accept each other, and neither has every role.
        stranger: what neither of them accepts.

    Raises:
        ContractViolation: it breaks a rule of `dispy.interfaces.StreamSecurity`.
        AssertionError: its streams break a rule of trio's streams.
    """
    # In a process there is one object for all connections.
    case = _Case(Side(make_security(), [dialling]), Side(make_security(), [listening]), stranger)
    check_identity(type(case.dialler.security), StreamSecurity)
    with unwrapping(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for check in (
            _check_identities,
            _check_ownership,
            _check_streams,
            _check_both_ways,
            _check_secrecy,
            _check_spoiled,
            _check_cut,
            _check_strangers,
            _check_choice,
            _check_roles,
            _check_noise,
            _check_endless,
            _check_cancelling,
        ):
            await check(case)
        gc.collect()
    leaked = [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]
    require(not leaked, f"what was opened must be closed, but there were left: {leaked}")


@dataclass(frozen=True)
class _Case:
    dialler: Side
    listener: Side
    stranger: Credential

    async def met(self) -> Meeting:
        meeting = await meet(self.dialler, self.listener)
        meeting.secured()
        return meeting

    async def pair(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        return (await self.met()).streams()

    async def clogged_pair(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        """Give streams that send nothing as long as the other end does not receive."""
        return (await meet(self.dialler, self.listener, trio.testing.lockstep_stream_pair)).streams()

    def sides(self) -> tuple[tuple[Side, bool], tuple[Side, bool]]:
        """Give both sides, and whether they dial."""
        return (self.dialler, True), (self.listener, False)


async def _check_identities(case: _Case) -> None:
    meeting = await case.met()
    for (_, found), other in zip(meeting.secured(), (case.listener, case.dialler), strict=True):
        require(
            isinstance(found, Identity) and is_text(found.name) and bool(found.name),
            f"each side must be told who the other is, with a name for people, not {found!r}",
        )
        require(
            isinstance(found.roles, frozenset) and found.roles <= ALL_ROLES and bool(found.roles),
            f"who is accepted must have roles, as a frozenset of AccessRole: {found!r}",
        )
        said = other.credentials[0].roles
        require(
            not said or found.roles == said,
            f"a peer must have the roles of its certificate, {sorted(said)}, not {sorted(found.roles)}",
        )
    await meeting.close()


async def _check_streams(case: _Case) -> None:
    await trio.testing.check_two_way_stream(case.pair, case.clogged_pair)


async def _check_both_ways(case: _Case) -> None:
    meeting = await case.met()
    ours, theirs = meeting.streams()
    received: list[bytes] = []

    async def receive(stream: trio.abc.Stream) -> None:
        data = bytearray()
        while len(data) < len(PAYLOAD) and (part := await stream.receive_some()):
            data += part
        received.append(bytes(data))

    with patience("large data must go both ways at the same time"):
        async with trio.open_nursery() as nursery:
            for stream in (ours, theirs):
                nursery.start_soon(stream.send_all, PAYLOAD)
                nursery.start_soon(receive, stream)
    require(received == [PAYLOAD, PAYLOAD], "what arrives must be what was sent, in full")
    await meeting.close()


async def _check_ownership(case: _Case) -> None:
    for forcefully in (False, True):
        meeting = await case.met()
        for stream, wire in zip(meeting.streams(), (meeting.near, meeting.far), strict=True):
            with patience("closing a secured stream must come to an end"):
                await (trio.aclose_forcefully(stream) if forcefully else stream.aclose())
            require(wire.is_closed, "closing a secured stream must close the stream below it")


async def _check_secrecy(case: _Case) -> None:
    meeting = await case.met()
    ours, theirs = meeting.streams()
    for stream, wire in ((ours, meeting.near), (theirs, meeting.far)):
        await stream.send_all(SECRET)
        require(SECRET[:16] not in b"".join(wire.sent), "what is sent must not be seen on the stream below")
    await meeting.close()


async def _check_spoiled(case: _Case) -> None:
    for sender in (0, 1):
        meeting = await case.met()
        (meeting.near, meeting.far)[sender].is_spoiled = True
        await meeting.streams()[sender].send_all(SECRET)
        await _expect_broken(meeting.streams()[1 - sender], "what was changed on the way")
        await meeting.close()


async def _check_cut(case: _Case) -> None:
    """Somebody on the way ends the connection: that must not look as if the peer had closed it."""
    for sender in (0, 1):
        meeting = await case.met()
        await trio.aclose_forcefully((meeting.near, meeting.far)[sender])
        await _expect_broken(meeting.streams()[1 - sender], "an end that the peer has not announced")
        await meeting.close()


async def _expect_broken(stream: trio.abc.Stream, what: str) -> None:
    with patience(f"{what} must be noticed"):
        try:
            data = await stream.receive_some()
        except trio.BrokenResourceError:
            return
        except Exception as error:
            raise ContractViolation(f"{what} must raise a BrokenResourceError, not {error!r}") from error
        raise ContractViolation(
            f"{what} must raise a BrokenResourceError, but was received as {bytes(data)!r}"
        )


async def _check_strangers(case: _Case) -> None:
    for side, dials in case.sides():
        who = replace(side, credentials=[case.stranger])
        meeting = await (meet(who, case.listener) if dials else meet(case.dialler, who))
        what = f"a stranger that {'dials' if dials else 'listens'}"
        for name, result in (("connect", meeting.dialler), ("accept", meeting.listener)):
            error = _refusal(result, f"{name} of or to {what}")
            require(
                isinstance(error, UnknownKey),
                f"{name} of or to {what} must raise an UnknownKey, not {error!r}",
            )


async def _check_choice(case: _Case) -> None:
    """Where credentials have hints, the one that is meant is found among several."""
    ours = case.listener.credentials[0]
    if not (ours.hint_key and case.stranger.hint_key):
        return
    for credentials in ([ours, case.stranger], [case.stranger, ours]):
        meeting = await meet(case.dialler, replace(case.listener, credentials=credentials))
        meeting.secured()
        await meeting.close()


async def _check_roles(case: _Case) -> None:
    meeting = await case.met()
    (_, of_listener), (_, of_dialler) = meeting.secured()
    await meeting.close()
    for dialler, listener, refused in (
        (replace(case.dialler, wants=_lacking(of_listener)), case.listener, of_listener),
        (case.dialler, replace(case.listener, wants=_lacking(of_dialler)), of_dialler),
    ):
        meeting = await meet(dialler, listener)
        for name, result in (("connect", meeting.dialler), ("accept", meeting.listener)):
            what = f"{name}, when {sorted(refused.roles)} is not wanted of one side,"
            error = _refusal(result, what)
            require(
                not isinstance(error, UnknownKey),
                f"{what} must not raise an UnknownKey, as if another credential could help: {error!r}",
            )


def _lacking(identity: Identity) -> frozenset[AccessRole]:
    wants = ALL_ROLES - expand(identity.roles)
    if not wants:
        raise ValueError(f"{identity.name} has every role; check the security with one that lacks some")
    return wants


async def _check_noise(case: _Case) -> None:
    """Say what is no handshake, or the beginning of another one, or all of it again; then nothing more."""
    meeting = await case.met()
    recorded = {True: meeting.far.sent, False: meeting.near.sent}
    await meeting.close()
    for side, dials in case.sides():
        replay = b"".join(recorded[dials])
        cuts = (0, 1, len(replay) // 4, len(replay) // 2, len(replay))
        for said in (*GARBAGE, *(replay[:cut] for cut in cuts)):
            for closes in (False, True):
                await _check_deaf(side, dials, said, closes)


async def _check_deaf(side: Side, dials: bool, said: bytes, closes: bool) -> None:
    near, far = trio.testing.memory_stream_pair()
    if said:
        await far.send_all(said)
    await (far.aclose() if closes else far.send_eof())
    result = await side.secure(near, dials=dials)
    _refusal(result, f"{_name(dials)} must refuse who says {_shown(said)}; it")


async def _check_endless(case: _Case) -> None:
    meeting = await case.met()
    first = {True: meeting.far.sent[0], False: meeting.near.sent[0]}
    await meeting.close()
    for side, dials in case.sides():
        for part in (b"\0", first[dials]):
            stream = _Endless(part)
            result = await side.secure(stream, dials=dials)
            what = f"{_name(dials)}, when {_shown(part)} is said again and again,"
            require(not stream.is_exhausted, f"{what} must give up within {STRANGER_BYTES} bytes")
            _refusal(result, what)


class _Endless(trio.abc.Stream):
    """Says the same for ever, or rather until there was too much of it."""

    def __init__(self, part: bytes) -> None:
        self.is_exhausted = False
        self._rest = part * (STRANGER_BYTES // len(part) + 1)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        size = max_bytes or 16 * 1024
        part, self._rest = self._rest[:size], self._rest[size:]
        self.is_exhausted = not part
        return part

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _check_cancelling(case: _Case) -> None:
    for side, dials in case.sides():
        near, far = trio.testing.memory_stream_pair()
        results: list[object] = []

        async def wait(side: Side, stream: trio.abc.Stream, dials: bool, results: list[object]) -> None:
            results.append(await side.secure(stream, dials=dials))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, side, near, dials, results)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        require(
            not results,
            f"{_name(dials)} must wait for the other side until it is cancelled, and then end, but gave {results}",
        )
        for end in (near, far):
            await trio.aclose_forcefully(end)


def _refusal(result: Secured | Exception | None, what: str) -> SecurityError:
    if not isinstance(result, Exception):
        raise ContractViolation(f"{what} must raise a SecurityError, but gave {result!r}")
    if not isinstance(result, SecurityError):
        raise ContractViolation(f"{what} must raise a SecurityError, not {result!r}") from result
    require(bool(str(result)), f"{what} must say why")
    return result


def _name(dials: bool) -> str:
    return "connect" if dials else "accept"


def _shown(said: Sequence[int] | bytes) -> str:
    return f"{bytes(said[:16])!r}{'...' if len(said) > 16 else ''} ({len(said)} bytes)"
