"""``dispy plugins``: what is installed, which hooks it has, and what is wrong with it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import click

from dispy.plugins import PluginInfo, PluginManager
from dispy.printable import printable
from dispy_cli import exits
from dispy_cli.tables import format_table

HEADINGS = ("PLUGIN", "VERSION", "DISTRIBUTION", "HOOKS")


@click.command("plugins", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def plugins(as_json: bool) -> int:
    """List installed plugins, the built-in ones first, with their hooks and what is wrong with them.

    Exit status: 0 all is well with them, 1 one or more cannot be used.
    """
    found = PluginManager.load().describe()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(info) for info in found], indent=2))
    else:
        show(found)
    return exits.SOME_JOB_FAILED if any(info.error for info in found) else exits.SUCCESS


def show(found: Sequence[PluginInfo]) -> None:
    """Print a table, and what is wrong below it, on standard error."""
    rows = [
        (info.name, info.version or "-", info.dist or "-", ", ".join(info.hooks) or "-") for info in found
    ]
    click.echo(format_table(HEADINGS, rows))
    for info in found:
        if info.error:
            click.echo(f"dispy: plugin {info.name!r} is not used: {printable(info.error)}", err=True)
