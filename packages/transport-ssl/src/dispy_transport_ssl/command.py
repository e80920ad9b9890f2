"""Adds ``dispy cert``. Neither click nor cryptography is imported before the command is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dispy.interfaces import API_VERSION, Command

if TYPE_CHECKING:
    import click


class CertCommand(Command):
    """Adds ``cert`` to the ``dispy`` command."""

    NAME: ClassVar[str] = "cert"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "Make a certificate authority of your own, and certificates for nodes and users."

    def build(self) -> click.Command:
        """Return the click command."""
        from dispy_transport_ssl.cert import cert

        return cert
