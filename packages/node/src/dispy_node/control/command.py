"""``dispy node status``, ``cpus``, ``drain`` and ``stop``: for nodes of this user on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from dispy.errors import DispyError, UsageError
from dispy.printable import printable
from dispy_node.control.client import Found, NoSuchNode, ask, choose_node, find_nodes
from dispy_node.settings import NodeSettings

NO_NODES = 3
"""Exit status: no node runs, as of other commands."""

PLACE = ("dispy_port", "name", "dest_path_prefix")
"""Options of ``dispy node`` that say which node is meant when they stand before the command."""


def _choosing(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say which node is meant."""
    options = (
        click.option("-p", "--dispy_port", "--dispy-port", type=int, help="The node with this base port."),
        click.option("--name", help="The node with this name."),
        click.option("--dest_path_prefix", "--dest-path-prefix", help="The node that was started with it."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
    )

    @click.pass_context
    @wraps(function)
    def call(context: click.Context, /, **given: Any) -> None:
        for name in PLACE:
            if given[name] is None:
                given[name] = (context.obj or {}).get(name)
        try:
            function(**given)
        except NoSuchNode as error:
            click.echo(f"dispy: {error}", err=True)
            context.exit(NO_NODES)
        except DispyError as error:
            kind = click.UsageError if isinstance(error, UsageError) else click.ClickException
            raise kind(str(error)) from error

    for option in reversed(options):
        call = option(call)
    return call


def _find(dispy_port: int | None, dest_path_prefix: str | None) -> list[Found]:
    settings = NodeSettings(dest_path_prefix=dest_path_prefix or "")
    if dispy_port is not None:
        settings = NodeSettings(dest_path_prefix=dest_path_prefix or "", dispy_port=dispy_port)
    return find_nodes(settings, port_given=dispy_port is not None)


def _command(name: str) -> Callable[[Callable[..., None]], click.Command]:
    # So that `cpus -1` is a number; what is no option at all is an argument too many then.
    context = {"help_option_names": ["-h", "--help"], "ignore_unknown_options": name == "cpus"}
    return lambda function: click.command(name, context_settings=context)(_choosing(function))


@_command("status")
def status(dispy_port: int | None, name: str | None, dest_path_prefix: str | None, as_json: bool) -> None:
    """Tell what the nodes of this user on this machine do; all of them, unless one is named."""
    found = _find(dispy_port, dest_path_prefix)
    chosen = [one for one in found if not name or one.status["node"] == name]
    if not chosen:
        choose_node(found, name or "")
    if as_json:
        click.echo(json.dumps([one.status for one in chosen], indent=2))
    else:
        click.echo("\n\n".join(show_status(one.status) for one in chosen))


@_command("cpus")
@click.argument("number", metavar="N")
def cpus(
    number: str, dispy_port: int | None, name: str | None, dest_path_prefix: str | None, as_json: bool
) -> None:
    """Run N jobs at once from now on: 0 none for now, -n all processors but n, `all` one per processor.

    Jobs that run beyond them go on.
    """
    if number != "all" and not number.removeprefix("-").isdecimal():
        raise UsageError(f"{number!r} is no number of CPUs; give a number or `all`")
    wanted = number if number == "all" else int(number)
    _tell({"do": "cpus", "cpus": wanted}, dispy_port, name, dest_path_prefix, as_json)


@_command("drain")
def drain(dispy_port: int | None, name: str | None, dest_path_prefix: str | None, as_json: bool) -> None:
    """Take no more jobs, and end when those that run are done, as with SIGTERM."""
    _tell({"do": "drain"}, dispy_port, name, dest_path_prefix, as_json)


@_command("stop")
def stop(dispy_port: int | None, name: str | None, dest_path_prefix: str | None, as_json: bool) -> None:
    """End the node at once; jobs that run are killed."""
    _tell({"do": "stop"}, dispy_port, name, dest_path_prefix, as_json)


COMMANDS = (status, cpus, drain, stop)


def _tell(
    request: dict[str, Any],
    dispy_port: int | None,
    name: str | None,
    dest_path_prefix: str | None,
    as_json: bool,
) -> None:
    chosen = choose_node(_find(dispy_port, dest_path_prefix), name or "")
    answer = ask(chosen.folder, request)
    click.echo(json.dumps(answer, indent=2) if as_json else show_status(answer))


def show_status(told: dict[str, Any]) -> str:
    """Write what a node says of itself in a few lines."""
    reason = f": {told['reason']}" if told["reason"] else ""
    jobs = told["jobs"]
    lines = [
        f"node {told['node']}, process {told['process']}, at {', '.join(told['addresses'])}",
        f"  state         {told['state']}{reason}",
        f"  slots         {told['slots']}",
        f"  jobs          {jobs['taken']} taken, {jobs['ended']} ended, {jobs['rejected']} rejected",
        f"  served        {told['served']} computations"
        + ("" if told["serve_left"] is None else f", {told['serve_left']} left"),
    ]
    for name, items in told.get("resources", {}).items():
        used = told["resources_used"].get(name, [])
        lines.append(f"  resource      {name}: {', '.join(items)}; in use: {', '.join(used) or 'none'}")
    if told["service_hours"]:
        lines.append(f"  hours         {told['service_hours']}")
    for client in told["clients"]:
        here = "connected" if client["connected"] else f"away, {client['results_kept']} results kept"
        lines.append(f"  client        {client['name']}: {here}")
    for one in told["computations"]:
        lines.append(
            f"  computation   {one['name']} of {one['client']}: {one['state']}, {one['running']} jobs run, "
            f"{one['waiting']} wait"
        )
    return "\n".join(printable(line) for line in lines)
