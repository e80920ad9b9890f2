"""The transport ``tcp``: streams are trio's socket streams, with their defaults.

Those switch off Nagle's algorithm, and keep what waits unsent in the kernel small, so that a heartbeat is not
queued behind megabytes; larger buffers were tried on loopback and gain nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar

import trio

from dispy.errors import TransportError
from dispy.interfaces import API_VERSION, Address, Peer, Transport
from dispy_transport_tcp.troubles import dial_trouble, listen_trouble

Handler = Callable[[trio.abc.Stream, Peer], Awaitable[None]]

FULL_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What accept gives when this process or the machine has no room for one more connection."""

FULL_PAUSE_S = 0.1
"""Pause before the next accept then: connections wait in the kernel's queue meanwhile."""

LAST_PORT = 65535

_logger = logging.getLogger("dispy")


class TcpTransport(Transport):
    """Plain TCP over IPv4 and IPv6: neither encrypted nor authenticated.

    A host that is a numeric address is reached without looking up anything, so no thread is started for it. An
    empty host stands for all addresses of this machine, which makes sense for listening only.
    """

    NAME: ClassVar[str] = "tcp"
    API_VERSION: ClassVar[int] = API_VERSION

    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        """Connect to *address*; if the name has several, all are tried. Cancellation leaves nothing open.

        Raises:
            TransportError: nobody answers there, the name is unknown, or *local_host* is not of this machine, or
                not of the kind of *address*.
        """
        if not (address.host and 0 < address.port <= LAST_PORT):
            raise TransportError(
                f"{str(address)!r} cannot be dialled: it needs a host and a port from 1 to {LAST_PORT}"
            )
        try:
            stream = await trio.open_tcp_stream(address.host, address.port, local_address=local_host)
        except (OSError, ValueError) as error:
            raise dial_trouble(address, error, local_host) from error
        except RuntimeError as error:
            if "thread" not in str(error):
                raise
            # trio looks names up in a thread, and while the interpreter ends none can be started.
            raise TransportError(
                f"the name {address.host!r} cannot be looked up while the program ends: use its address"
            ) from error
        try:
            return stream, _peer_of(stream)
        except OSError as error:
            await trio.aclose_forcefully(stream)
            raise dial_trouble(address, error) from error

    def listen(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        """Accept connections on *addresses* while the context is open; it gives the addresses really bound.

        At the end of the context handlers that still run are cancelled. An exception that leaves a handler ends
        the context, in an exception group.

        Raises:
            TransportError: an address cannot be bound (in use, not of this machine, not allowed).
        """
        return _listening(addresses, handler)


@asynccontextmanager
async def _listening(addresses: Sequence[Address], handler: Handler) -> AsyncIterator[Sequence[Address]]:
    listeners: list[trio.SocketListener] = []
    try:
        for address in addresses:
            listeners += await _open_listeners(address)
        bound = [_address_of(listener) for listener in listeners]
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(_accept, listener, handler, nursery)
            yield bound
            nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.socket.close()


async def _open_listeners(address: Address) -> list[trio.SocketListener]:
    if not 0 <= address.port <= LAST_PORT:
        raise TransportError(f"{str(address)!r} cannot be listened on: choose a port from 1 to {LAST_PORT}")
    try:
        return await trio.open_tcp_listeners(address.port, host=address.host or None)
    except (OSError, ValueError) as error:
        raise listen_trouble(address, error) from error


async def _accept(listener: trio.SocketListener, handler: Handler, nursery: trio.Nursery) -> None:
    full = False
    while True:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno not in FULL_ERRORS:
                raise
            if not full:
                _logger.warning(
                    "%s takes no more connections for now: %s; raise the limit with: ulimit -n",
                    _address_of(listener),
                    error.strerror,
                )
            full = True
            await trio.sleep(FULL_PAUSE_S)
        else:
            full = False
            nursery.start_soon(_handle, stream, handler)


async def _handle(stream: trio.SocketStream, handler: Handler) -> None:
    try:
        try:
            peer = _peer_of(stream)
        except OSError as error:
            _logger.debug("a connection was gone before it was looked at: %s", error)
            return
        await handler(stream, peer)
    finally:
        await trio.aclose_forcefully(stream)


def _address_of(listener: trio.SocketListener) -> Address:
    host, port = listener.socket.getsockname()[:2]
    return Address(TcpTransport.NAME, host, port)


def _peer_of(stream: trio.SocketStream) -> Peer:
    host = str(stream.socket.getpeername()[0])
    return Peer(host, is_local=_is_loopback(host))


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address.is_loopback
