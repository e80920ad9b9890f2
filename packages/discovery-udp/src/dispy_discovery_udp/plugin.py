"""What this distribution adds to dispy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.discovery import Discovery


@hookimpl
def dispy_register_discovery() -> type[Discovery]:
    """Offer the discovery ``udp``."""
    from dispy_discovery_udp.discovery import UdpDiscovery

    return UdpDiscovery
