"""Which of this machine's addresses others use."""

from __future__ import annotations

import ipaddress
import socket

import psutil

LOOPBACK = "127.0.0.1"

FAMILIES = {"": (socket.AF_INET, socket.AF_INET6), "0.0.0.0": (socket.AF_INET,), "::": (socket.AF_INET6,)}
"""What stands for all addresses of this machine -> of which kinds."""


def listening_addresses(host: str) -> list[str]:
    """Return the addresses that one listens on by listening on *host*; none if that is an unknown name. It may block.

    All addresses of this machine are those that its interfaces have now.
    """
    families = FAMILIES.get(host)
    if families is not None:
        interfaces = psutil.net_if_addrs().values()
        return [one.address for entries in interfaces for one in entries if one.family in families]
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):  # whoever listens on it tells what is wrong
        return []


def own_addresses() -> tuple[str, ...]:
    """Return the addresses of this machine under which others may reach it, IPv4 first: neither loopback nor local to
    one link.
    """
    found = []
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(entry.address.partition("%")[0])
                if not (address.is_loopback or address.is_link_local):
                    found.append(str(address))
    return tuple(sorted(dict.fromkeys(found), key=lambda address: ":" in address))


def local_address(peer: str) -> str:
    """Return the address of this machine that the host *peer* reaches it by; loopback if it is no address.

    Nothing is sent: the system is asked which address it would send from.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            peer, 9, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)
            return str(probe.getsockname()[0])
    except (OSError, UnicodeError):  # a name, or nothing that can be reached any more
        return LOOPBACK
