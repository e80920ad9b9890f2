"""How nodes are found on a network: what a plugin for it implements, and what it is asked and tells.

A *search* is made for a cluster; what it finds is told to a `DiscoveryListener`. A *presence* is a node that wants to
be found. Who has none of the keys neither finds nor is found.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol


@dataclass(frozen=True, slots=True)
class Sighting:
    """A node that has answered.

    Attributes:
        ident: the node's identity, which it keeps when it starts again.
        epoch: how often it has started, from 1.
        port: where it listens for connections.
        addresses: where to try to reach it, the most promising first; at least one.
    """

    ident: str
    epoch: int
    port: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DiscoveryKeys:
    """What vouches for what is said.

    Attributes:
        is_open: everybody is believed; there are no keys then.
        keys: 32 bytes each, the preferred one first; neither open nor any key: there is nothing to be said.
    """

    is_open: bool = False
    keys: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class DiscoveryScope:
    """Where to look, or to be found, and by whom.

    Attributes:
        keys: asked again every few seconds. It raises a DispyError if they cannot be read.
        node_ports: UDP ports at which nodes are asked.
        client_port: UDP port at which clients hear what nodes announce.
        hosts: addresses of this machine; only the networks that these belong to are used. Empty: all.
        multicast: IPv4 multicast is used to send, rather than broadcast.
        ipv4_group: address of multicast for that.
        ipv6_group: address of multicast for IPv6, which has no broadcast.
        ping_interval_s: longest pause between two questions, or pause between two announcements; None: the default.
    """

    keys: Callable[[], Awaitable[DiscoveryKeys]]
    node_ports: tuple[int, ...]
    client_port: int
    hosts: tuple[str, ...] = ()
    multicast: bool = False
    ipv4_group: str = "239.255.61.59"
    ipv6_group: str = "ff05::b409:3171:9705:5134:6159"
    ping_interval_s: float | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """A node that wants to be found.

    Attributes:
        ident, epoch, port: as in `Sighting`.
        addresses: under which others reach it; empty: those that this machine has. Loopback is never told.
        clients: names or addresses of machines elsewhere whose clients are to hear of the node, too.
    """

    ident: str
    epoch: int
    port: int
    addresses: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()


class DiscoveryListener(Protocol):
    """Whom a search tells; called in the task of the search, must not block."""

    def looking(self, places: Sequence[str], *, is_local: bool) -> None:
        """These networks are searched (texts for people) from now on; *is_local*: all are of this machine alone."""

    def sighted(self, sighting: Sighting) -> None:
        """A node has answered; it may have done so before."""

    def departed(self, ident: str, epoch: int) -> None:
        """A node ends that was sighted in this epoch, or in an earlier one."""

    def refused(self, host: str, reason: str) -> None:
        """At an address there is a node that does not belong to us; the reason is for people."""


class Discovery(ABC):
    """A way to find nodes."""

    NAME: ClassVar[str]
    API_VERSION: ClassVar[int]

    @abstractmethod
    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        """Look for nodes until cancelled, also on networks that come later.

        What cannot be used, a port or a network, is logged, and the rest is.
        """

    @abstractmethod
    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        """Let a node be found until cancelled; then say, without waiting for anything, that it ends."""
