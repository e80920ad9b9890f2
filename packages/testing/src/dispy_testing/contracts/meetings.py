"""Two sides that secure a connection, over streams in memory that show what passes, and can spoil it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio
import trio.testing

from dispy.interfaces import Credential, Identity, StreamSecurity
from dispy.model import AccessRole
from dispy_testing.contracts.rules import ContractViolation, patience, unwrapping

ALL_ROLES = frozenset(AccessRole)

Secured = tuple[trio.abc.Stream, Identity]
Ends = Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]]


class Wire(trio.abc.Stream):
    """One end of the connection below.

    Attributes:
        stream: what it passes everything on to.
        sent: each piece that was sent here.
        is_spoiled: one bit of what is sent from now on is changed on the way.
        is_closed: whoever has this end has closed it.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.sent: list[bytes] = []
        self.is_spoiled = False
        self.is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*, and remember it."""
        self.sent.append(bytes(data))
        if self.is_spoiled and data:
            data = bytes(data[:-1]) + bytes([data[-1] ^ 1])
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room to send."""
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Return what has arrived."""
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close this end."""
        self.is_closed = True
        await self.stream.aclose()


@dataclass(frozen=True)
class Side:
    """Who takes part; the side that dials shows the first of its credentials."""

    security: StreamSecurity
    credentials: Sequence[Credential]
    wants: frozenset[AccessRole] = ALL_ROLES

    async def secure(self, stream: trio.abc.Stream, *, dials: bool) -> Secured | Exception:
        """Secure a stream; what is raised is given back, and *stream* is closed then, as callers do."""
        with patience(f"{'connect' if dials else 'accept'} must come to an end when the other side has"):
            try:
                if dials:
                    return await self.security.connect(stream, self.credentials[0], wants=self.wants)
                return await self.security.accept(stream, self.credentials, wants=self.wants)
            except Exception as error:
                with trio.CancelScope(shield=True):  # so that an error in place of a cancellation is seen
                    await trio.aclose_forcefully(stream)
                return error
        raise AssertionError("patience has raised")


@dataclass
class Meeting:
    """What became of a connection; after a success both streams are open."""

    near: Wire
    """End of the side that dials."""
    far: Wire
    dialler: Secured | Exception | None = None
    listener: Secured | Exception | None = None

    def secured(self) -> tuple[Secured, Secured]:
        """What each side has of the other, that which dialled first.

        Raises:
            ContractViolation: one has raised something.
        """
        for name, result in (("connect", self.dialler), ("accept", self.listener)):
            if isinstance(result, Exception):
                raise ContractViolation(
                    f"sides that have each other's credentials must accept each other, but {name} raised {result!r}"
                ) from result
        assert isinstance(self.dialler, tuple), self.dialler
        assert isinstance(self.listener, tuple), self.listener
        return self.dialler, self.listener

    def streams(self) -> tuple[trio.abc.Stream, trio.abc.Stream]:
        """Both secured streams; raises as `secured` does."""
        (ours, _), (theirs, _) = self.secured()
        return ours, theirs

    async def close(self) -> None:
        """Close whatever is open still."""
        for result in (self.dialler, self.listener):
            if isinstance(result, tuple):
                await trio.aclose_forcefully(result[0])
        for wire in (self.near, self.far):
            await trio.aclose_forcefully(wire)


async def meet(dialler: Side, listener: Side, ends: Ends = trio.testing.memory_stream_pair) -> Meeting:
    """Have both sides secure a new connection.

    Raises:
        ContractViolation: one of them waits for ever.
    """
    near, far = ends()
    meeting = Meeting(Wire(near), Wire(far))

    async def dial() -> None:
        meeting.dialler = await dialler.secure(meeting.near, dials=True)

    async def accept() -> None:
        meeting.listener = await listener.secure(meeting.far, dials=False)

    with unwrapping():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(dial)
            nursery.start_soon(accept)
    return meeting
