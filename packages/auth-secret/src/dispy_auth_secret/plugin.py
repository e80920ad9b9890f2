"""What this distribution adds to dispy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import Command, Credentials


@hookimpl
def dispy_register_credentials() -> type[Credentials]:
    """Offer the credentials ``secret``."""
    from dispy_auth_secret.credentials import SecretCredentials

    return SecretCredentials


@hookimpl
def dispy_register_command() -> type[Command]:
    """Offer the command ``key``."""
    from dispy_auth_secret.command import KeyCommand

    return KeyCommand
