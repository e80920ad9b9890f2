"""``dispy key``: see the key of this user, take it to other machines, change it.

A key is printed only by ``dispy key show``, and is never taken from the command line.
"""

from __future__ import annotations

import sys
from typing import ClassVar

import click

from dispy.interfaces import API_VERSION, Command
from dispy_auth_secret import keyfile

MAX_INPUT_BYTES = 65536

OLD_STAYS = "nodes and programs that run already use it within seconds"


@click.group("key", no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
def key() -> None:
    """Show, add and change the key by which clients and nodes know each other.

    Machines with the same home folder need none of this: the key is made on first use. For another machine, copy
    what `dispy key show` prints here and give it to `dispy key add` there.
    """


@key.command()
def show() -> None:
    """Print the preferred key, to be given to `dispy key add` on another machine."""
    preferred = keyfile.load_keys()[0]
    _note("whoever has this key can run programs here; on the other machine, run: dispy key add")
    click.echo(preferred.text)


@key.command()
@click.argument("refused", nargs=-1, metavar="")
def add(refused: tuple[str, ...]) -> None:
    """Take over a key of another machine, and prefer it; those that are here are still accepted.

    The key is asked for, or read from standard input: ssh HOST dispy key show | dispy key add
    """
    if refused:
        raise click.UsageError(
            "a key on the command line can be seen by everybody on this machine; "
            "run `dispy key add` alone, and give the key when it is asked for"
        )
    if sys.stdin.isatty():
        text = click.prompt("Key", hide_input=True, err=True)
    else:
        text = sys.stdin.buffer.read(MAX_INPUT_BYTES).decode("utf-8", "replace")
    added = keyfile.parse_keys(text, "what was given")
    for one in reversed(added):
        keyfile.prefer_key(one)
    click.echo(f"key {added[0].fingerprint} is preferred now; {OLD_STAYS}")


@key.command()
def new() -> None:
    """Make a new key and prefer it; the old ones are still accepted, until they are dropped."""
    made = keyfile.new_key()
    click.echo(f"key {made.fingerprint} is preferred now; {OLD_STAYS}")
    _note("when all machines have it (dispy key show, dispy key add), drop the old one with: dispy key drop")


@key.command("list")
def list_keys() -> None:
    """List the fingerprints of all keys, and the file that they are in."""
    path = keyfile.key_path()
    keys = keyfile.read_keys()
    if not keys:
        _note(f"there is no key in {str(path)!r} yet; it is made on first use, or with: dispy key new")
    for number, one in enumerate(keys):
        click.echo(f"{one.fingerprint}  {'accepted ' if number else 'preferred'}  {path}")


@key.command()
@click.argument("fingerprint")
def drop(fingerprint: str) -> None:
    """Remove a key by its FINGERPRINT, so that it is accepted no more."""
    left = keyfile.drop_key(fingerprint)
    click.echo(
        f"key {left[0].fingerprint} is preferred now; within seconds the old one is refused on new connections"
    )


def _note(text: str) -> None:
    click.echo(f"dispy: {text}", err=True)


class KeyCommand(Command):
    """Adds ``key`` to the ``dispy`` command."""

    NAME: ClassVar[str] = "key"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "Show, add and change the key by which clients and nodes know each other."

    def build(self) -> click.Command:
        """Return the click command."""
        return key
