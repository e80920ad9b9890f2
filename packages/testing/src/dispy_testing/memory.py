"""A transport without a network, for tests under trio, also with a MockClock.

A `MemoryNetwork` stands for the cables: it knows who listens where, and a test makes it slow, cuts it, or
breaks its connections. Each participant gets a `MemoryTransport` of its own, for the host that it runs on:

    network = MemoryNetwork()
    node, client = network.transport("node1"), network.transport("laptop")

A *partition* keeps back what is sent, as a dead cable does: nobody is told, and what is kept back arrives after
`heal`. *Breaking* ends connections at once, as a reset does.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

import trio

from dispy.errors import TransportError
from dispy.hookspecs import hookimpl
from dispy.interfaces import API_VERSION, Address, Peer, Transport
from dispy_testing.pipes import MemoryStream, Pipe

Handler = Callable[[trio.abc.Stream, Peer], Awaitable[None]]
Accept = Callable[[MemoryStream, Peer], None]

FIRST_FREE_PORT = 50001
"""Where the network begins to count when it has to choose a port."""


class MemoryNetwork:
    """Who listens where, and how the connections behave. Used by one trio run.

    Attributes:
        delay_s: how long each piece of data, and each dial, is under way.
    """

    def __init__(self) -> None:
        self.delay_s = 0.0
        self._listeners: dict[tuple[str, int], Accept] = {}
        self._cuts: set[frozenset[str]] = set()
        self._changed = trio.Event()
        self._connections: list[_Connection] = []
        self._next_port = FIRST_FREE_PORT

    def transport(self, host: str) -> MemoryTransport:
        """Return a transport for a participant on *host*."""
        return MemoryTransport(self, host)

    def plugin(self, host: str) -> object:
        """Return a plugin, for `PluginManager.load`, that offers the transport of a participant on *host*."""
        return _MemoryPlugin(self, host)

    def partition(self, some: str | Iterable[str], others: str | Iterable[str]) -> None:
        """Keep back everything between these hosts, and let dials between them wait."""
        for one in _hosts(some):
            for other in _hosts(others):
                self._cuts.add(frozenset((one, other)))
        self._wake()

    def heal(self) -> None:
        """End all partitions; what was kept back arrives."""
        self._cuts.clear()
        self._wake()

    def drop(self, some: str, others: str | Iterable[str]) -> int:
        """Break the connections between these hosts; return how many there were. New ones may be made."""
        pairs = {frozenset((some, other)) for other in _hosts(others)}
        broken = [connection for connection in self._connections if connection.hosts in pairs]
        for connection in broken:
            connection.break_off()
        return len(broken)

    @property
    def connections(self) -> int:
        """How many connections are open, at both ends or at one."""
        self._forget_closed()
        return len(self._connections)

    def is_cut(self, one: str, other: str) -> bool:
        """Tell whether a partition lies between two hosts."""
        return frozenset((one, other)) in self._cuts

    async def connect(self, host: str, address: Address) -> MemoryStream:
        """Connect *host* to whoever listens on *address*; waits while a partition lies between them.

        Raises:
            TransportError: nobody listens there.
        """
        await trio.lowlevel.checkpoint()
        while self.is_cut(host, address.host):
            await self._changed.wait()
        await trio.sleep(self.delay_s)
        accept = self._listeners.get((address.host, address.port))
        if accept is None:
            raise TransportError(f"nothing listens on {address}: is `dispy node` running there?")
        connection = _Connection(self, host, address.host)
        self._forget_closed()
        self._connections.append(connection)
        accept(connection.theirs, Peer(host, is_local=host == address.host))
        return connection.ours

    def bind(self, host: str, address: Address, accept: Accept) -> Address:
        """Have *accept* called with each connection to *address*, a port of *host*; return it as it is bound.

        Raises:
            TransportError: the address is in use, or is not of this host.
        """
        if address.host not in ("", host):
            raise TransportError(f"{address.host} is not an address of this machine, {host}")
        port = address.port or self._free_port(host)
        if (host, port) in self._listeners:
            raise TransportError(f"port {port} of {host} is in use: choose another")
        self._listeners[host, port] = accept
        return Address(MemoryTransport.NAME, host, port)

    def release(self, address: Address) -> None:
        """Undo `bind`."""
        del self._listeners[address.host, address.port]

    def _free_port(self, host: str) -> int:
        while (host, self._next_port) in self._listeners:
            self._next_port += 1
        self._next_port += 1
        return self._next_port - 1

    def _forget_closed(self) -> None:
        self._connections = [connection for connection in self._connections if not connection.is_closed]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
        for connection in self._connections:
            connection.network_changed()


class MemoryTransport(Transport):
    """The transport ``memory`` for one host of a `MemoryNetwork`."""

    NAME: ClassVar[str] = "memory"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        self._network = network
        self._host = host

    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        """Connect to *address*; waits while a partition lies in between. Cancellation leaves nothing open.

        Raises:
            TransportError: nobody listens there, or *local_host* is another host than this one.
        """
        if local_host not in (None, self._host):
            raise TransportError(f"{local_host} is not an address of this machine, {self._host}")
        stream = await self._network.connect(self._host, address)
        return stream, Peer(address.host, is_local=address.host == self._host)

    def listen(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        """Accept connections on *addresses*, whose host is this one or empty; at the end handlers are cancelled.

        Raises:
            TransportError: an address is in use, or is not of this host.
        """
        return _listening(self._network, self._host, addresses, handler)


class _MemoryPlugin:
    """Binds a `MemoryTransport` to its network and host, since plugins are made without arguments."""

    def __init__(self, network: MemoryNetwork, host: str) -> None:
        class BoundTransport(MemoryTransport):
            def __init__(self) -> None:
                super().__init__(network, host)

        self._transport = BoundTransport

    @hookimpl
    def dispy_register_transport(self) -> type[Transport]:
        """Offer the transport ``memory``."""
        return self._transport


class _Connection:
    """Two streams that are each other's other end."""

    def __init__(self, network: MemoryNetwork, host: str, other: str) -> None:
        self.hosts = frozenset((host, other))

        def is_cut() -> bool:
            return network.is_cut(host, other)

        there = Pipe(is_cut, lambda: network.delay_s)
        back = Pipe(is_cut, lambda: network.delay_s)
        self._pipes = (there, back)
        self.ours = MemoryStream(outgoing=there, incoming=back)
        self.theirs = MemoryStream(outgoing=back, incoming=there)

    @property
    def is_closed(self) -> bool:
        return self.ours.is_closed and self.theirs.is_closed

    def break_off(self) -> None:
        for pipe in self._pipes:
            pipe.break_off()

    def network_changed(self) -> None:
        for pipe in self._pipes:
            pipe.wake()


@asynccontextmanager
async def _listening(
    network: MemoryNetwork, host: str, addresses: Sequence[Address], handler: Handler
) -> AsyncIterator[Sequence[Address]]:
    bound: list[Address] = []
    send, receive = trio.open_memory_channel[tuple[MemoryStream, Peer]](math.inf)
    try:
        for address in addresses:
            bound.append(network.bind(host, address, lambda stream, peer: send.send_nowait((stream, peer))))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, receive, handler, nursery)
            yield tuple(bound)
            nursery.cancel_scope.cancel()
    finally:
        for address in bound:
            network.release(address)
        while receive.statistics().current_buffer_used:
            stream, _ = receive.receive_nowait()
            stream.close_now()


async def _accept(
    receive: trio.MemoryReceiveChannel[tuple[MemoryStream, Peer]], handler: Handler, nursery: trio.Nursery
) -> None:
    async for stream, peer in receive:
        nursery.start_soon(_handle, stream, peer, handler)


async def _handle(stream: MemoryStream, peer: Peer, handler: Handler) -> None:
    try:
        await handler(stream, peer)
    finally:
        stream.close_now()


def _hosts(hosts: str | Iterable[str]) -> Iterable[str]:
    return (hosts,) if isinstance(hosts, str) else tuple(hosts)
