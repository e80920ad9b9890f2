"""The networks that this machine is on."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import psutil

log = logging.getLogger("dispy")

INTERFACES_VARIABLE = "DISPY_INTERFACES"
"""Names of interfaces, or addresses of this machine, with commas between; only these are used. ``none``: none."""

LOOPBACK_BROADCAST = "127.255.255.255"
"""Reaches everybody on this machine; systems do not list it as the broadcast address of loopback."""


@dataclass(frozen=True, slots=True)
class Path:
    """One network of this machine, in one family of addresses.

    Attributes:
        interface: its name, such as ``eth0``.
        address: of this machine there; with a zone if it is of that link only.
        broadcast: address that reaches everybody there; empty for IPv6.
        index: number of the interface, as the system counts.
        others: further addresses of this machine there.
    """

    interface: str
    address: str
    broadcast: str
    index: int
    is_loopback: bool
    others: tuple[str, ...] = ()

    @property
    def family(self) -> socket.AddressFamily:
        """AF_INET or AF_INET6."""
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET

    @property
    def key(self) -> str:
        """What tells it from every other."""
        return f"{self.interface} {self.address}"

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses of this machine there, without zones."""
        return tuple(one.partition("%")[0] for one in (self.address, *self.others))


def list_paths(hosts: Sequence[str] = (), environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the networks that can be used now.

    Args:
        hosts: addresses of this machine; only their networks are used. Empty: all.
        environment: may narrow them down further, with `INTERFACES_VARIABLE`.
    """
    named = {name.strip() for name in environment.get(INTERFACES_VARIABLE, "").split(",")} - {""}
    paths: list[Path] = []
    states = psutil.net_if_stats()
    for interface, entries in psutil.net_if_addrs().items():
        state = states.get(interface)
        if state is None or not state.isup:
            continue
        allowed = [
            (str(entry.address), entry.netmask, entry.broadcast)
            for entry in entries
            if entry.family in (socket.AF_INET, socket.AF_INET6)
            and (not named or interface in named or _bare(entry.address) in named)
            and (not hosts or _bare(entry.address) in map(_bare, hosts))
        ]
        paths += _ipv4_paths(interface, allowed)
        paths += _ipv6_paths(interface, allowed)
    return paths


Entry = tuple[str, str | None, str | None]


def _ipv4_paths(interface: str, entries: Iterable[Entry]) -> list[Path]:
    paths = []
    for address, netmask, broadcast in entries:
        if ":" in address:
            continue
        is_loopback = ipaddress.ip_address(address).is_loopback
        if is_loopback:
            broadcast = LOOPBACK_BROADCAST
        elif not broadcast or broadcast == address or netmask == "255.255.255.255":
            continue  # a tunnel to one other machine, which has no broadcast
        paths.append(Path(interface, address, broadcast, _index(interface), is_loopback))
    # Of several addresses in one network, one speaks for all.
    first: dict[str, Path] = {}
    for path in paths:
        first.setdefault(path.broadcast, path)
    return [
        Path(
            path.interface,
            path.address,
            path.broadcast,
            path.index,
            path.is_loopback,
            tuple(other.address for other in paths if other is not path),
        )
        for path in first.values()
    ]


def _ipv6_paths(interface: str, entries: Iterable[Entry]) -> list[Path]:
    """Return at most two: one for addresses of the link, which all who are on it can answer to, and one for others.

    Who has an address of the link alone cannot answer to another, and such an address leads no further than the link.
    Loopback has no multicast, and IPv4 serves there.
    """
    addresses = [address for address, _, _ in entries if ":" in address]
    addresses = [address for address in addresses if not ipaddress.ip_address(_bare(address)).is_loopback]
    first: dict[bool, str] = {}
    for address in addresses:
        first.setdefault(ipaddress.ip_address(_bare(address)).is_link_local, address)
    return [
        Path(
            interface, one, "", _index(interface), False, tuple(other for other in addresses if other != one)
        )
        for _, one in sorted(first.items())
    ]


def _bare(address: str) -> str:
    return address.partition("%")[0]


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:  # it has gone in this moment
        return 0
