"""Which addresses of a node to try, and in which order."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

from dispy_discovery_udp.engine.values import Source


def order_addresses(told: Sequence[str], source: Source, own: Collection[str]) -> tuple[str, ...]:
    """Return the addresses at which to try a node, the most promising first; at least one.

    Where its answer came from goes first, if it is one of the node's own addresses or of this machine; else last,
    since then somebody in between has changed it. It goes last, too, if it is an address of the link, which nobody
    would recognise. IPv4 goes before IPv6 (H6).

    Left out are addresses that lead elsewhere from here: loopback, those of another link, and those that this machine
    has itself, such as that of a bridge for containers, unless the node is on this machine.

    Args:
        told: what the node says, without zones.
        source: where its answer came from.
        own: addresses of this machine, without zones.
    """
    bare = source.host.partition("%")[0]
    usable = [address for address in told if _leads_there(address, source, own)]
    usable.sort(key=lambda address: ":" in address)
    others = [address for address in usable if address != bare]
    if source.is_own or (bare in told and not ipaddress.ip_address(bare).is_link_local):
        return (source.host, *others)
    return (*others, source.host)


def _leads_there(address: str, source: Source, own: Collection[str]) -> bool:
    parsed = ipaddress.ip_address(address)
    if parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast:
        return False
    if parsed.version == 6 and parsed.is_link_local:
        return False  # it is of no use without the zone, which only the source has
    return source.is_own or address not in own
