"""The transport ``unix``: the host of an address is the path of a socket, and there is no port."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import ClassVar

import trio

from dispy.errors import TransportError
from dispy.interfaces import API_VERSION, Address, Peer, Transport

Handler = Callable[[trio.abc.Stream, Peer], Awaitable[None]]

TROUBLES: Mapping[int, str] = {
    errno.ENOENT: "there is no socket {path}: is a node running that listens there?",
    errno.ECONNREFUSED: "nobody listens on {path} any more: start the node again",
    errno.EADDRINUSE: "{path} is in use: another node listens there, or it is not a socket; choose another path",
    errno.EACCES: "{path} may not be used by this user: choose a path in a folder of your own",
    errno.EPERM: "{path} may not be used by this user: choose a path in a folder of your own",
    errno.ENOTDIR: "the folder of {path} is not a folder",
}
"""What the operating system's errors mean here, and what to do."""


class UnixTransport(Transport):
    """Unix sockets: for participants on one machine, and for the user who listens only."""

    NAME: ClassVar[str] = "unix"
    API_VERSION: ClassVar[int] = API_VERSION

    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        """Connect to the socket at ``address.host``; *local_host* means nothing here. Cancellation leaves nothing open.

        Raises:
            TransportError: there is no such socket, or nobody listens on it.
        """
        with _mapped(address.host):
            stream = await trio.open_unix_socket(address.host)
        return stream, _peer(address.host)

    def listen(
        self, addresses: Sequence[Address], handler: Handler
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        """Make a socket at each path, which goes away at the end of the context; handlers are cancelled then.

        Raises:
            TransportError: somebody listens there already, or the socket cannot be made.
        """
        return _listening(addresses, handler)


@asynccontextmanager
async def _listening(addresses: Sequence[Address], handler: Handler) -> AsyncIterator[Sequence[Address]]:
    async def handle(stream: trio.SocketStream) -> None:
        await handler(stream, _peer(""))  # serve_listeners closes the stream

    paths: list[str] = []
    listeners: list[trio.SocketListener] = []
    try:
        for address in addresses:
            with _mapped(address.host):
                listeners.append(_open_listener(address.host))
            paths.append(address.host)
        bound = tuple(Address(UnixTransport.NAME, path) for path in paths)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, handle, listeners)
            yield bound
            nursery.cancel_scope.cancel()
    finally:
        for listener in listeners:
            listener.socket.close()
        for path in paths:
            os.unlink(path)


def _open_listener(path: str) -> trio.SocketListener:
    _remove_stale(path)
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Nobody may connect between bind and chmod: that is what the umask is for.
        before = os.umask(0o177)
        try:
            raw.bind(path)
        finally:
            os.umask(before)
        raw.listen()
        raw.setblocking(False)
        return trio.SocketListener(trio.socket.from_stdlib_socket(raw))
    except BaseException:
        raw.close()
        raise


def _remove_stale(path: str) -> None:
    """Remove the socket that a killed node has left; leave everything else for bind to complain about."""
    if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


@contextmanager
def _mapped(path: str) -> Iterator[None]:
    """Turn the operating system's errors into what the user can act upon."""
    if not path or "\0" in path:  # the kernel would cut the path there
        raise TransportError(f"{path!r} is not the path of a socket")
    try:
        yield
    except OSError as error:
        text = TROUBLES.get(error.errno or 0, "{path} cannot be used as a socket: {error}")
        raise TransportError(text.format(path=repr(path), error=error)) from error


def _peer(path: str) -> Peer:
    return Peer(path, is_local=True)
