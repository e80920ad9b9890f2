"""What this distribution adds to dispy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import Transport


@hookimpl
def dispy_register_transport() -> type[Transport]:
    """Offer the transport ``tcp``."""
    from dispy_transport_tcp.transport import TcpTransport

    return TcpTransport
