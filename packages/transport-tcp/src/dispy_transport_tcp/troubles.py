"""What the operating system's errors mean to somebody who connects or listens, and what to do about them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping

from dispy.errors import TransportError
from dispy.interfaces import Address

DIAL_TROUBLES: Mapping[int, str] = {
    errno.ECONNREFUSED: "nothing listens on {place}: is `dispy node` running there?",
    errno.ECONNRESET: "{place} broke the connection at once: is it a dispy node that listens there?",
    errno.ETIMEDOUT: "no answer from {place}: is the machine on, and does its firewall let port {port} through?",
    errno.EHOSTUNREACH: "no way to {host}: is the machine on, and in a network that this one reaches?",
    errno.ENETUNREACH: "no way to the network of {host}: is this machine connected to it?",
    errno.EACCES: "connecting to {place} is not allowed: is there a firewall on this machine?",
    errno.EPERM: "connecting to {place} is not allowed: is there a firewall on this machine?",
    errno.EADDRNOTAVAIL: "no connection to {place} can be made: no port of this machine is free for it",
    errno.EMFILE: "no connection to {place} can be made: too many open files; raise the limit with: ulimit -n",
    errno.ENFILE: "no connection to {place} can be made: this machine has too many open files",
}
"""Error number -> message; of several that one attempt gave, the one that stands first here is told."""

LISTEN_TROUBLES: Mapping[int, str] = {
    errno.EADDRINUSE: (
        "port {port} of {host} is in use: does another node run here? choose another port with --dispy_port"
    ),
    errno.EACCES: "port {port} may not be used by this user: choose one above 1023 with --dispy_port",
    errno.EPERM: "port {port} may not be used by this user: choose one above 1023 with --dispy_port",
    errno.EADDRNOTAVAIL: "{host} is not an address of this machine: choose one that is with --host",
    errno.EAFNOSUPPORT: "this machine does not have the kind of address that {host} is: choose another with --host",
    errno.EMFILE: "too many open files to listen on {place}; raise the limit with: ulimit -n",
}

LOCAL_ERRORS = frozenset({None, errno.EADDRNOTAVAIL, errno.EINVAL, errno.EAFNOSUPPORT})
"""What binding to, or connecting from, a local address that does not fit gives; trio tells it without a number."""

UNKNOWN_HOST = "unknown host {host!r}: check the spelling, or use its address"
NO_NAME_SERVICE = "the name {host!r} cannot be looked up at the moment: use its address, or try again"


def dial_trouble(address: Address, error: Exception, local_host: str | None = None) -> TransportError:
    """Tell why *address* could not be reached, from *local_host* if that was asked for."""
    if local_host is not None and any(cause.errno in LOCAL_ERRORS for cause in _causes(error)):
        return TransportError(
            f"no connection to {_place(address)} can be made from {local_host}, which is not an address of this "
            "machine, or of another kind: choose another with host="
        )
    return _trouble(address, error, DIAL_TROUBLES, "no connection to {place} can be made")


def listen_trouble(address: Address, error: Exception) -> TransportError:
    """Tell why *address* could not be listened on."""
    return _trouble(address, error, LISTEN_TROUBLES, "{place} cannot be listened on")


def _trouble(address: Address, error: Exception, table: Mapping[int, str], otherwise: str) -> TransportError:
    causes = list(_causes(error))
    host = address.host or "all addresses"
    fields = {"host": host, "port": address.port, "place": _place(address)}
    numbers = {cause.errno for cause in causes if not isinstance(cause, socket.gaierror)}
    for number, text in table.items():
        if number in numbers:
            return TransportError(text.format_map(fields))
    for cause in causes:
        if isinstance(cause, socket.gaierror):
            text = NO_NAME_SERVICE if cause.errno == socket.EAI_AGAIN else UNKNOWN_HOST
            return TransportError(text.format_map(fields))
    if isinstance(error, ValueError):  # not even the form of a host name
        return TransportError(UNKNOWN_HOST.format_map(fields))
    return TransportError(f"{otherwise.format_map(fields)}: {causes[0] if causes else error}")


def _causes(error: BaseException | None) -> Iterator[OSError]:
    """Give the operating system's own errors below *error*, which may be a summary of several."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _causes(part)
    elif isinstance(error, OSError):
        if error.errno is None and error.__cause__ is not None:
            yield from _causes(error.__cause__)
        else:
            yield error


def _place(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host or "all addresses"
    return f"{host}:{address.port}"
