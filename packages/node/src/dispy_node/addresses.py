"""Which of this machine's addresses others use."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


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
