"""Names to addresses, in a thread that is there from the start.

trio would start a thread for each look-up. Since Python 3.12 no thread can be started while the interpreter
shuts down, and that is when the jobs of a program that never waits are done; so this one is started early.
"""

from __future__ import annotations

import contextlib
import ipaddress
import queue
import socket
import threading
from collections.abc import Sequence

import trio

from dispy.errors import TransportError, UsageError
from dispy.logger import logger

CLOSE_S = 0.2
"""How long a look-up may still take when the resolver is closed: those of a slow name server take many seconds."""


def is_numeric(host: str) -> bool:
    """Tell whether *host* is an address, not a name. A zone (``%eth0``) is allowed."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def own_addresses(host: str | Sequence[str]) -> list[str]:
    """Return the addresses of this machine that the parameter ``host`` of a cluster means. It may block.

    Names and addresses that are not valid, or not of this machine, are left out with a warning.

    Raises:
        UsageError: none is left.
    """
    found: dict[str, None] = {}
    for name in [host] if isinstance(host, str) else host:
        try:
            entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, ValueError, TypeError) as error:  # unknown, no name at all, not even a text
            logger.warning("host %r is not used: %s", name, error)
            continue
        usable = [str(entry[4][0]) for entry in entries if _is_own(entry[0], entry[4])]
        if not usable:
            logger.warning("host %r is not used: it is not an address of this machine", name)
        found |= dict.fromkeys(usable)
    if not found:
        raise UsageError(f"no valid IP address found: host={host!r} must name addresses of this machine")
    return list(found)


def _is_own(family: int, address: tuple[object, ...]) -> bool:
    """Tell whether a socket address is one of this machine: then, and only then, can it be bound."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind(address)
        return True
    return False


class Resolver:
    """Looks host names up, one at a time, in a daemon thread of its own."""

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[tuple[str, _Answer] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="dispy-resolver", daemon=True)
        self._thread.start()

    async def resolve(self, host: str) -> list[str]:
        """Return the addresses of *host*, IPv4 first as the original does (H6); an address is returned as it is.

        Raises:
            TransportError: the name is unknown.
        """
        if is_numeric(host):
            return [host]
        answer = _Answer(trio.lowlevel.current_trio_token())
        self._requests.put((host, answer))
        await answer.arrived.wait()
        if answer.error:
            raise TransportError(
                f"unknown host {host!r}: check the spelling, or use its address"
            ) from answer.error
        return answer.addresses

    def close(self) -> None:
        """End the thread, after the look-up that it is at; that is waited for CLOSE_S only."""
        self._requests.put(None)
        self._thread.join(CLOSE_S)

    def _serve(self) -> None:
        while request := self._requests.get():
            host, answer = request
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
                found.sort(key=lambda entry: entry[0] != socket.AF_INET)
                answer.addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            except OSError as error:
                answer.error = error
            try:
                answer.token.run_sync_soon(answer.arrived.set)
            except trio.RunFinishedError:
                return


class _Answer:
    """Filled in by the resolver's thread."""

    def __init__(self, token: trio.lowlevel.TrioToken) -> None:
        self.token = token
        self.arrived = trio.Event()
        self.addresses: list[str] = []
        self.error: OSError | None = None
