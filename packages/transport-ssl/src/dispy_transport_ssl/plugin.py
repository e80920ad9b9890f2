"""What this distribution adds to dispy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import Command, Credentials, StreamSecurity


@hookimpl
def dispy_register_security() -> type[StreamSecurity]:
    """Offer the security ``ssl``."""
    from dispy_transport_ssl.security import SslSecurity

    return SslSecurity


@hookimpl
def dispy_register_credentials() -> type[Credentials]:
    """Offer the credentials ``certificate``."""
    from dispy_transport_ssl.credentials import CertificateCredentials

    return CertificateCredentials


@hookimpl
def dispy_register_command() -> type[Command]:
    """Offer the command ``cert``."""
    from dispy_transport_ssl.command import CertCommand

    return CertCommand
