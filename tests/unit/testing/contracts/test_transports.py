"""Each rule of the transports' contract, shown by a transport that breaks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
import trio.testing

from dispy.errors import TransportError
from dispy.interfaces import Address, Peer
from dispy_testing.contracts import ContractViolation, check_transport
from dispy_testing.contracts.meetings import Wire
from dispy_testing.memory import MemoryNetwork, MemoryTransport

NODE = Address("memory", "node1")
NOBODY = Address("memory", "node1", 1)

Handler = Callable[[trio.abc.Stream, Peer], Awaitable[None]]
Dialled = tuple[trio.abc.Stream, Peer]


class Garbling(Wire):
    """Changes what it carries."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(bytes(data).replace(b"\x07", b"\x08"))


class Crossed(Wire):
    """Confuses what is sent on the third connection with what is sent on the fourth."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        start = b"\x03\x00\x01\x02\x03"
        await self.stream.send_all(bytes(data).replace(start, b"\x04" + start[1:], 1))


class Plain(MemoryTransport):
    """A transport that keeps the contract, with streams that cannot be half closed."""

    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        stream, peer = await super().dial(address, local_host=local_host)
        return Wire(stream), peer


class Trusting(MemoryTransport):
    """Connects to nobody, and finds out later."""

    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        try:
            return await super().dial(address, local_host=local_host)
        except TransportError:
            ours, _ = trio.testing.memory_stream_pair()
            return ours, Peer(address.host, is_local=True)


class Blunt(MemoryTransport):
    """Gives the operating system's errors to users."""

    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        try:
            return await super().dial(address, local_host=local_host)
        except TransportError:
            raise ConnectionRefusedError(111, "Connection refused") from None


class Mute(MemoryTransport):
    """Says nothing about what is wrong."""

    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        try:
            return await super().dial(address, local_host=local_host)
        except TransportError:
            raise TransportError from None


class Hanging(MemoryTransport):
    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        try:
            return await super().dial(address, local_host=local_host)
        except TransportError:
            await trio.sleep_forever()
            raise


class Corrupting(MemoryTransport):
    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        stream, peer = await super().dial(address, local_host=local_host)
        return Garbling(stream), peer


class Crossing(MemoryTransport):
    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        stream, peer = await super().dial(address, local_host=local_host)
        return Crossed(stream), peer


class Leaking(MemoryTransport):
    """Forgets a connection when a dial is cancelled after it was made."""

    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        stream, peer = await super().dial(address, local_host=local_host)
        await trio.lowlevel.checkpoint()
        return stream, peer


class Anonymous(MemoryTransport):
    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        stream, _ = await super().dial(address, local_host=local_host)
        return stream, Peer(None, is_local=True)  # type: ignore[arg-type]


class Rooted(MemoryTransport):
    """Does not know that a connection may have to come from some address."""

    async def dial(self, address: Address) -> Dialled:  # type: ignore[override]
        return await super().dial(address)


class Uprooted(MemoryTransport):
    """Gives the operating system's errors to users when they choose a wrong address."""

    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        if local_host is not None:
            raise OSError(99, "Cannot assign requested address")
        return await super().dial(address)


class Fixed(MemoryTransport):
    """Has no local addresses, which is allowed."""

    async def dial(self, address: Address, *, local_host: str | None = None) -> Dialled:
        return await super().dial(address)


class Listening(MemoryTransport):
    """Listens in some wrong way."""

    def listen(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        return self._wrongly(addresses, handler)

    @asynccontextmanager
    async def _wrongly(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AsyncIterator[Sequence[Address]]:
        async with MemoryTransport.listen(self, addresses, handler) as bound:
            yield bound


class Secretive(Listening):
    @asynccontextmanager
    async def _wrongly(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AsyncIterator[Sequence[Address]]:
        async with MemoryTransport.listen(self, addresses, handler):
            yield []


class OtherScheme(Listening):
    @asynccontextmanager
    async def _wrongly(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AsyncIterator[Sequence[Address]]:
        async with MemoryTransport.listen(self, addresses, handler) as bound:
            yield [Address("other", address.host, address.port) for address in bound]


class Deaf(Listening):
    """Never calls the handler."""

    @asynccontextmanager
    async def _wrongly(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AsyncIterator[Sequence[Address]]:
        async def ignore(_stream: trio.abc.Stream, _peer: Peer) -> None:
            await trio.sleep_forever()

        async with MemoryTransport.listen(self, addresses, ignore) as bound:
            yield bound


class Clinging(Listening):
    """Does not close a stream when its handler returns."""

    @asynccontextmanager
    async def _wrongly(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AsyncIterator[Sequence[Address]]:
        async def forever(stream: trio.abc.Stream, peer: Peer) -> None:
            await handler(stream, peer)
            await trio.sleep_forever()

        async with MemoryTransport.listen(self, addresses, forever) as bound:
            yield bound


class Sharing(Listening):
    """Moves to another port when one is taken."""

    @asynccontextmanager
    async def _wrongly(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AsyncIterator[Sequence[Address]]:
        try:
            async with MemoryTransport.listen(self, addresses, handler) as bound:
                yield bound
        except TransportError:
            yield addresses


class Staying(Listening):
    """Listens on after the context has ended."""

    @asynccontextmanager
    async def _wrongly(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AsyncIterator[Sequence[Address]]:
        async with MemoryTransport.listen(self, addresses, handler) as bound:
            yield bound
        if bound[0] not in STAYING:
            STAYING.append(bound[0])
            self._network.bind("node1", bound[0], lambda _stream, _peer: None)


STAYING: list[Address] = []


def check(transport: type[MemoryTransport], address: Address = NODE) -> None:
    network = MemoryNetwork()

    async def main() -> None:
        await check_transport(lambda: transport(network, "node1"), address, NOBODY)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_streams_need_not_be_half_closeable() -> None:
    check(Plain)


def test_local_host_may_mean_nothing() -> None:
    check(Fixed)


def test_streams_are_checked_by_trio() -> None:
    with pytest.raises(AssertionError) as caught:
        check(Corrupting)
    assert not isinstance(caught.value, ContractViolation)


@pytest.mark.parametrize(
    ("transport", "rule"),
    [
        (Trusting, "where nobody listens, must raise a TransportError"),
        (Blunt, "must raise a TransportError, not ConnectionRefusedError"),
        (Mute, "must say what is wrong and what to do"),
        (Hanging, "dialling memory:node1:1, where nobody listens, must fail"),
        (Crossing, "what arrives must be what was sent"),
        (Leaking, "the connection of a cancelled dial must be closed"),
        (Anonymous, "the other end must have an address, as text"),
        (Rooted, "dial must take local_host"),
        (Uprooted, "a local_host that cannot be used must raise a TransportError, not OSError"),
        (Secretive, "must give the addresses that it bound, but gave none"),
        (OtherScheme, "bound addresses must have the scheme 'memory': other:node1"),
        (Deaf, "a dialled connection must be handled at the listening side"),
        (Clinging, "the stream must be closed when its handler returns"),
        (Sharing, "where somebody listens already, must raise a TransportError"),
        (Staying, "where nobody listens any more, must raise a TransportError"),
    ],
)
def test_violations_are_named(transport: type[MemoryTransport], rule: str) -> None:
    STAYING.clear()
    with pytest.raises(ContractViolation, match=rule):
        check(transport)
