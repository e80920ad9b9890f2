"""Options that say who may take part, as every command that connects to nodes has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class SecurityOptions:
    """What the options say; None where nothing was said."""

    secret: str | None = field(default=None, repr=False)
    secret_file: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    cafile: str | None = None
    open: bool = False

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of `dispy.JobCluster` that say the same, without a secret on the command line.

        Call it once, and before any thread starts: see `dispy.argv.take_secret`.

        Raises:
            UsageError: ``--open`` and a key exclude each other.
        """
        from dispy import OPEN
        from dispy.argv import take_secret
        from dispy.errors import UsageError

        secret = take_secret(self.secret)
        if secret and self.open:
            raise UsageError("--open and --secret exclude each other: leave one of them out")
        given = {
            "secret": OPEN if self.open else secret,
            "secret_file": self.secret_file,
            "certfile": self.certfile,
            "keyfile": self.keyfile,
            "cafile": self.cafile,
        }
        return {name: value for name, value in given.items() if value is not None}


def security_options(function: Function) -> Function:
    """Add the options to a command, which gets them as keyword arguments; see `take_security`."""
    options = (
        click.option(
            "-s",
            "--secret",
            help="Key or passphrase of the nodes; other users can see it: prefer --secret-file.",
        ),
        click.option(
            "--secret_file",
            "--secret-file",
            metavar="FILE",
            help="File that holds it.  [default: the key that `dispy key` shows]",
        ),
        click.option(
            "--certfile", metavar="FILE", help="Certificate (PEM) to show, with its key or --keyfile."
        ),
        click.option("--keyfile", metavar="FILE", help="Key (PEM) of that certificate."),
        click.option(
            "--cafile", metavar="FILE", help="Authorities (PEM) of the nodes.  [default: that of --certfile]"
        ),
        click.option(
            "--open", is_flag=True, help="Use nodes that were started with --open; nothing is encrypted then."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def take_security(options: dict[str, Any]) -> SecurityOptions:
    """Take the options of `security_options` out of those of a command."""
    return SecurityOptions(**{name: options.pop(name) for name in SecurityOptions.__slots__})
