"""What every transport must do. Its streams must pass trio's own checks of streams."""

from __future__ import annotations

import gc
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from dispy.errors import TransportError
from dispy.interfaces import Address, Peer, Transport
from dispy_testing.contracts.rules import (
    ContractViolation,
    check_identity,
    is_text,
    patience,
    require,
    unwrapping,
)

CONNECTIONS = 5
"""How many connections are held open at once."""

MAX_STEPS = 200
"""No dial needs as many steps between checkpoints as this."""

NO_LOCAL_HOST = "192.0.2.1"
"""Address for documentation (RFC 5737), which no machine has."""

PAYLOAD = bytes(range(256)) * 1024
"""256 KiB: more than one write of most transports."""

Pair = tuple[trio.abc.Stream, trio.abc.Stream]


async def check_transport(make_transport: Callable[[], Transport], address: Address, nobody: Address) -> None:
    """Check a transport; run it with `trio.run`, or in a test under trio.

    Args:
        make_transport: the class, or a function that gives a new transport.
        address: to listen on, again and again; its port may be 0.
        nobody: an address of the right form that nobody listens on.

    Raises:
        ContractViolation: it breaks a rule of `dispy.interfaces.Transport`.
        AssertionError: its streams break a rule of trio's streams.
    """
    check_identity(type(make_transport()), Transport)
    with unwrapping():  # what fails while listening passes through the nursery of the transport
        await _check_nobody(make_transport(), nobody)
        for check in (
            _check_addresses,
            _check_streams,
            _check_several,
            _check_handler_ends,
            _check_cancelled_dial,
            _check_occupied,
            _check_closed,
        ):
            await check(make_transport(), address)


class _Server:
    """Listens, and hands out accepted streams; a stream stays open until the server ends."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.bound: Address | None = None
        self._send, self._receive = trio.open_memory_channel[tuple[trio.abc.Stream, Peer]](1000)

    async def handle(self, stream: trio.abc.Stream, peer: Peer) -> None:
        self._send.send_nowait((stream, peer))
        await trio.sleep_forever()

    async def accepted(self) -> tuple[trio.abc.Stream, Peer]:
        with patience("a dialled connection must be handled at the listening side"):
            return await self._receive.receive()

    async def dialled(self) -> tuple[trio.abc.Stream, Peer]:
        assert self.bound is not None  # set before the server is given out
        with patience(f"dialling {self.bound} must succeed while somebody listens there"):
            return await self.transport.dial(self.bound)

    async def pair(self) -> Pair:
        (ours, _), (theirs, _) = await self.dialled(), await self.accepted()
        return ours, theirs


@asynccontextmanager
async def _serving(transport: Transport, address: Address) -> AsyncIterator[_Server]:
    server = _Server(transport)
    async with transport.listen([address], server.handle) as bound:
        require(bool(bound), f"listen on {address} must give the addresses that it bound, but gave none")
        server.bound = bound[0]
        yield server


async def _check_nobody(transport: Transport, nobody: Address) -> None:
    with patience(f"dialling {nobody}, where nobody listens, must fail"):
        await _expect_trouble(lambda: transport.dial(nobody), f"dialling {nobody}, where nobody listens,")


async def _check_addresses(transport: Transport, address: Address) -> None:
    async with _serving(transport, address) as server:
        bound = server.bound
        assert bound is not None  # _serving has set it
        require(
            bound.scheme == transport.NAME,
            f"bound addresses must have the scheme {transport.NAME!r}: {bound}",
        )
        require(
            address.port == 0 or bound.port == address.port,
            f"{address} must be bound as it is, not as {bound}",
        )
        ours, peer = await server.dialled()
        theirs, dialler = await server.accepted()
        await _check_local_host(transport, bound)
        for end in (peer, dialler):
            require(is_text(end.host), f"the other end must have an address, as text: {end!r}")
            require(
                end.is_local in (True, False), f"is_local of the other end must be True or False: {end!r}"
            )
        await trio.aclose_forcefully(ours)
        await trio.aclose_forcefully(theirs)


async def _check_local_host(transport: Transport, bound: Address) -> None:
    """Dial from an address that no machine has: that fails as every dial does, or is not the transport's business."""
    require(
        "local_host" in inspect.signature(transport.dial).parameters,
        "dial must take local_host, or ignore it",
    )
    try:
        with patience(f"dialling {bound} from {NO_LOCAL_HOST} must succeed or fail"):
            stream, _ = await transport.dial(bound, local_host=NO_LOCAL_HOST)
    except TransportError:
        return
    except Exception as error:
        raise ContractViolation(
            f"a local_host that cannot be used must raise a TransportError, not {error!r}"
        ) from error
    await trio.aclose_forcefully(stream)


async def _check_streams(transport: Transport, address: Address) -> None:
    async with _serving(transport, address) as server:
        ours, theirs = await server.pair()
        closeable = isinstance(ours, trio.abc.HalfCloseableStream)
        await trio.aclose_forcefully(ours)
        await trio.aclose_forcefully(theirs)
        if closeable:
            await trio.testing.check_half_closeable_stream(server.pair, None)  # type: ignore[arg-type]
        else:
            await trio.testing.check_two_way_stream(server.pair, None)


async def _check_several(transport: Transport, address: Address) -> None:
    async with _serving(transport, address) as server:
        pairs = [await server.pair() for _ in range(CONNECTIONS)]
        with patience("several connections must carry data at the same time"):
            async with trio.open_nursery() as nursery:
                for number, (ours, theirs) in enumerate(pairs):
                    nursery.start_soon(_exchange, ours, theirs, bytes([number]) + PAYLOAD)
        for ours, theirs in pairs:
            await trio.aclose_forcefully(ours)
            await trio.aclose_forcefully(theirs)


async def _exchange(ours: trio.abc.Stream, theirs: trio.abc.Stream, data: bytes) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.send_all, data)
        received = await _read(theirs, len(data))
    require(received == data, "what arrives must be what was sent, on the connection that it was sent on")


async def _read(stream: trio.abc.Stream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        chunk = await stream.receive_some()
        require(
            bool(chunk), f"all that was sent must arrive, but the stream ended after {len(received)} bytes"
        )
        received += chunk
    return bytes(received)


async def _check_handler_ends(transport: Transport, address: Address) -> None:
    async def answer(stream: trio.abc.Stream, _peer: Peer) -> None:
        await stream.send_all(b"done")

    async with transport.listen([address], answer) as bound:
        stream, _ = await transport.dial(bound[0])
        with patience("the stream must be closed when its handler returns"):
            require(await _read(stream, 4) == b"done", "what a handler sends before it returns must arrive")
            require(await _rest(stream) == b"", "nothing must follow what the handler sent")
        await trio.aclose_forcefully(stream)


async def _rest(stream: trio.abc.Stream) -> bytes:
    """Read to the end; a stream that breaks has ended too."""
    received = bytearray()
    try:
        while chunk := await stream.receive_some():
            received += chunk
    except trio.BrokenResourceError:
        received += b""
    return bytes(received)


async def _check_cancelled_dial(transport: Transport, address: Address) -> None:
    """Cancel dials after one, two, ... steps, until one succeeds: none may leave a connection or a socket."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        async with _serving(transport, address) as server:
            assert server.bound is not None  # _serving has set it
            for steps in range(1, MAX_STEPS):
                if await _dial_for(steps, transport, server.bound):
                    break
            await trio.testing.wait_all_tasks_blocked(0.01)
            ours, theirs = await _last_pair(server)
            await trio.aclose_forcefully(ours)
            await trio.aclose_forcefully(theirs)
        gc.collect()
    leaked = [str(warning.message) for warning in caught if issubclass(warning.category, ResourceWarning)]
    require(not leaked, f"a cancelled dial must close what it has opened, but left: {leaked}")


async def _dial_for(steps: int, transport: Transport, address: Address) -> bool:
    """Dial, and cancel that after so many steps; return True if it succeeded before."""
    succeeded = False

    async def dial() -> None:
        nonlocal succeeded
        stream, _ = await transport.dial(address)
        succeeded = True
        await trio.aclose_forcefully(stream)

    canceller = _CancelAfter(steps)
    trio.lowlevel.add_instrument(canceller)
    try:
        async with trio.open_nursery() as canceller.nursery:
            canceller.nursery.start_soon(dial)
    finally:
        trio.lowlevel.remove_instrument(canceller)
    return succeeded


class _CancelAfter(trio.abc.Instrument):
    """Cancels a nursery when its tasks, and those below them, have made so many steps between checkpoints."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self.nursery: trio.Nursery | None = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.nursery is not None and self._is_inside(task):
            self._left -= 1
            if self._left == 0:
                self.nursery.cancel_scope.cancel()

    def _is_inside(self, task: trio.lowlevel.Task) -> bool:
        parent = task.parent_nursery
        while parent is not None and parent is not self.nursery:
            parent = parent.parent_task.parent_nursery
        return parent is not None


async def _last_pair(server: _Server) -> Pair:
    """Dial once more; every connection that was accepted before must have ended."""
    marker, _ = await server.dialled()
    await marker.send_all(b"!")
    while True:
        stream, _ = await server.accepted()
        with patience("the connection of a cancelled dial must be closed"):
            try:
                if await stream.receive_some() == b"!":
                    return marker, stream
            except trio.BrokenResourceError:
                await trio.aclose_forcefully(stream)
        await trio.aclose_forcefully(stream)


async def _check_occupied(transport: Transport, address: Address) -> None:
    async with _serving(transport, address) as server:
        assert server.bound is not None  # _serving has set it
        taken = server.bound

        async def listen() -> None:
            async with transport.listen([taken], server.handle):
                await trio.lowlevel.checkpoint()

        await _expect_trouble(listen, f"listening on {taken}, where somebody listens already,")
        ours, theirs = await server.pair()
        await trio.aclose_forcefully(ours)
        await trio.aclose_forcefully(theirs)


async def _check_closed(transport: Transport, address: Address) -> None:
    async with _serving(transport, address) as server:
        assert server.bound is not None  # _serving has set it
        bound = server.bound
        ours, _ = await server.pair()
    with patience("connections must be closed when the listening context ends"):
        require(await _rest(ours) == b"", "nothing must arrive after the listening context has ended")
    await trio.aclose_forcefully(ours)
    with patience(f"dialling {bound} must fail when nobody listens there any more"):
        await _expect_trouble(
            lambda: transport.dial(bound), f"dialling {bound}, where nobody listens any more,"
        )
    async with _serving(transport, bound) as again:
        ours, theirs = await again.pair()
        await trio.aclose_forcefully(ours)
        await trio.aclose_forcefully(theirs)


async def _expect_trouble(action: Callable[[], Awaitable[object]], what: str) -> None:
    try:
        await action()
    except TransportError as error:
        require(bool(str(error)), f"{what} must say what is wrong and what to do")
    except Exception as error:
        raise ContractViolation(f"{what} must raise a TransportError, not {error!r}") from error
    else:
        raise ContractViolation(f"{what} must raise a TransportError")
