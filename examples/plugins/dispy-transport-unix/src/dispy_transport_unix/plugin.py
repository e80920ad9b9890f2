"""What this distribution adds to dispy. Importing it is cheap: the transport is imported when it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import Transport


@hookimpl
def dispy_register_transport() -> type[Transport]:
    """Offer the transport ``unix``."""
    from dispy_transport_unix.transport import UnixTransport

    return UnixTransport
