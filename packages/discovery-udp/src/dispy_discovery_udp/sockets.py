"""UDP sockets on one network: one that speaks, and those that hear what is sent to everybody.

What speaks is bound to this machine's own address there and to a free port, so that answers come back to it and each
goes out under the right address. What hears is bound to the address of the broadcast or of the group, so that it
hears nothing from other networks, and shares its port: several clients and nodes of one machine all hear everything.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from dataclasses import dataclass

from dispy_discovery_udp.interfaces import Path

# Linux only, and not in the module socket: whether a socket hears groups that others on this machine have joined.
IP_MULTICAST_ALL = 49
IPV6_MULTICAST_ALL = 29

HOPS = 1
"""Multicast stays in the local network, as broadcast does."""

ON_LINUX = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Groups:
    """Addresses of multicast, and whether IPv4 uses its one to send."""

    ipv4: str
    ipv6: str
    multicast: bool = False

    def target(self, path: Path) -> str:
        """Return the address that reaches everybody on a path."""
        if path.family == socket.AF_INET6:
            return self.ipv6
        return self.ipv4 if self.multicast and not path.is_loopback else path.broadcast


def open_talker(path: Path) -> socket.socket:
    """Return a socket that speaks on a path and hears what is sent to this very socket.

    Raises:
        OSError: the address is not there any more, or not yet.
    """
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_make(path.family))
        if path.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, path.index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOPS)
            sock.bind((path.address.partition("%")[0], 0, 0, path.index if "%" in path.address else 0))
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(path.address))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
            sock.bind((path.address, 0))
        stack.pop_all()
    return sock


def open_direct_ear(path: Path, port: int) -> socket.socket:
    """Return the socket that hears what is sent to this machine alone, on a path and at *port*.

    Of several programs that share the port, the one that came last hears it.

    Raises:
        OSError: as `open_ears`.
    """
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_make(path.family, shared=True))
        if path.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind((path.address.partition("%")[0], port, 0, path.index if "%" in path.address else 0))
        else:
            sock.bind((path.address, port))
        stack.pop_all()
    return sock


def open_ears(path: Path, port: int, groups: Groups) -> list[socket.socket]:
    """Return the sockets that hear what is sent to everybody on a path, at *port*.

    Raises:
        OSError: a program that does not share has the port, or the network is gone.
    """
    if path.family == socket.AF_INET6:
        return [_open_ipv6_ear(path, port, groups.ipv6)]
    with contextlib.ExitStack() as stack:
        ears = [stack.enter_context(_open_broadcast_ear(path, port))]
        if not path.is_loopback:
            ears.append(stack.enter_context(_open_ipv4_ear(path, port, groups.ipv4)))
        stack.pop_all()
    return ears


def _make(family: socket.AddressFamily, *, shared: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.setblocking(False)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not ON_LINUX:  # there SO_REUSEADDR is enough, and this one would keep other users out
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def _open_broadcast_ear(path: Path, port: int) -> socket.socket:
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_make(socket.AF_INET, shared=True))
        # Only Linux delivers a broadcast to a socket that is bound to its address (H5).
        sock.bind((path.broadcast if ON_LINUX else "", port))
        stack.pop_all()
    return sock


def _open_ipv4_ear(path: Path, port: int, group: str) -> socket.socket:
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_make(socket.AF_INET, shared=True))
        if ON_LINUX:
            sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
        member = socket.inet_aton(group) + socket.inet_aton(path.address)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.bind((group, port))
        stack.pop_all()
    return sock


def _open_ipv6_ear(path: Path, port: int, group: str) -> socket.socket:
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(_make(socket.AF_INET6, shared=True))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if ON_LINUX:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        member = socket.inet_pton(socket.AF_INET6, group) + path.index.to_bytes(4, sys.byteorder)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
        sock.bind((group, port, 0, path.index))
        stack.pop_all()
    return sock
