"""``dispy node``, also installed as ``dispynode`` and ``dispynode.py``."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import click

from dispy import __version__
from dispy.errors import DispyError, UsageError
from dispy.interfaces import API_VERSION, Command
from dispy_node.control.command import COMMANDS, PLACE
from dispy_node.settings import NodeSettings, read_settings, write_settings

PING_LEAST_S = 10
"""As in the original (C14)."""

Function = TypeVar("Function", bound=Callable[..., Any])


def _option(*names: str, **keywords: Any) -> Callable[[Function], Function]:
    """Declare an option under the original's spelling and with dashes."""
    spelled = [variant for name in names for variant in dict.fromkeys((name, _dashed(name)))]
    return click.option(*spelled, **keywords)


def _dashed(name: str) -> str:
    return name[:2] + name[2:].replace("_", "-")


def _check_interval(context: click.Context, parameter: click.Parameter, value: int | None) -> int | None:
    if value is not None and value != 0 and value < PING_LEAST_S:
        raise click.BadParameter(f"{value} is neither 0 nor at least {PING_LEAST_S} seconds")
    return value


@click.group(
    "node",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    subcommand_metavar="[COMMAND]",
)
@_option(
    "--config", type=click.Path(path_type=Path), help="Read settings from this TOML file; options given win."
)
@_option("--save_config", type=click.Path(path_type=Path), help="Write the settings to this file, and end.")
@_option("-c", "--cpus", type=int, help="Jobs at once: 0 one per processor, -n all but n.  [default: 0]")
@_option("-i", "--host", multiple=True, help="Address to listen on (repeatable).  [default: all]")
@_option("--ext_host", multiple=True, help="Address under which others reach this node (repeatable).")
@_option(
    "-p",
    "--dispy_port",
    type=click.IntRange(0, 65534),
    help="Listen on the port above this.  [default: 51347]",
)
@_option("--name", help="Name of the node.  [default: the host's name]")
@_option("--dest_path_prefix", help="Keep the node's files below this folder.")
@_option(
    "-s",
    "--secret",
    help="Key or passphrase that clients must have too; other users can see it: --secret-file.",
)
@_option("--secret_file", help="File that holds it.  [default: the key that `dispy key` shows]")
@_option("--certfile", help="Certificate (PEM) to show, with its key unless --keyfile is given.")
@_option("--keyfile", help="Key (PEM) of that certificate.")
@_option(
    "--cafile", help="Authorities (PEM) whose certificates clients must have.  [default: that of --certfile]"
)
@_option(
    "--confine",
    multiple=True,
    metavar="KIND",
    help="Confine jobs: user=NAME, cgroup:memory=2G,pids=200 or bubblewrap[:net=yes] (repeatable).",
)
@_option(
    "--env",
    multiple=True,
    metavar="NAME",
    help="Let confined jobs have this variable of the node too (repeatable).",
)
@_option(
    "--resource",
    multiple=True,
    metavar="NAME=COUNT",
    help="Give jobs that ask for it items of a resource: gpu=2, or the items gpu=0,3 (repeatable).",
)
@_option("--service_start", metavar="HH:MM", help="Take jobs from this time of day on.  [default: the start]")
@_option("--service_stop", metavar="HH:MM", help="Take no jobs from then on; those that run go on.")
@_option("--service_end", metavar="HH:MM", help="End jobs that still run then.")
@_option(
    "--serve", type=int, metavar="N", help="End after N computations; 0: clean up and end.  [default: -1]"
)
@_option(
    "--client_shutdown",
    is_flag=True,
    default=None,
    help="Let the cleanup of a computation end the node by dispynode_shutdown().",
)
@_option(
    "--zombie_interval",
    type=float,
    metavar="MINUTES",
    help="Keep results so long for a client that is away; 0: without end.  [default: 60]",
)
@_option("--clean", is_flag=True, help="End the node that uses the same folder, with its jobs, first.")
@_option(
    "--max_file_size",
    metavar="SIZE",
    help="Largest file to take from clients and to send: bytes, or with k, m, g, t.  [default: 0, no limit]",
)
@_option(
    "--force_cleanup", is_flag=True, default=None, help="Let no files stay for clusters with cleanup=False."
)
@_option(
    "--open", is_flag=True, default=None, help="Accept anybody who can connect. Read the warning it prints."
)
@_option("--no_discovery", is_flag=True, default=None, help="Serve only clients that name this node.")
@_option(
    "--ping_interval",
    type=int,
    callback=_check_interval,
    help="Announce the node again every so many seconds, at least 10.  [default: 0, when it starts only]",
)
@_option(
    "--ipv4_udp_multicast",
    is_flag=True,
    default=None,
    help="Announce the node by IPv4 multicast rather than broadcast.",
)
@_option(
    "--scheduler_host",
    multiple=True,
    help="Announce the node to a client on this machine too, which is elsewhere (repeatable).",
)
@_option("-d", "--debug", is_flag=True, default=None, help="Log more.")
@_option("--log_format", type=click.Choice(["human", "json"]), help="Form of the log.  [default: human]")
@_option(
    "--daemon", is_flag=True, help="Accepted for old scripts: a node never reads commands from its terminal."
)
@click.pass_context
@click.version_option(__version__, "--version", message="%(prog)s %(version)s")
def node(
    context: click.Context,
    /,
    config: Path | None,
    save_config: Path | None,
    secret: str | None,
    daemon: bool,
    clean: bool,
    **options: Any,
) -> None:
    """Run jobs on this machine for clients that connect; or, with a COMMAND, ask a node that runs here.

    SIGTERM or Ctrl-C lets running jobs finish and then ends the node; a second one ends it at once.
    """
    if context.invoked_subcommand is not None:
        context.obj = {name: options[name] for name in PLACE}
        return
    import trio

    from dispy.argv import take_secret
    from dispy_node.logs import set_up_logging
    from dispy_node.secrecy import close_memory, take_variable
    from dispy_node.service import serve

    failures: list[BaseException] = []
    try:
        close_memory()
        variable = take_variable()
        secret = take_secret(secret)  # before a thread starts: it may have this process begin anew
        values = read_settings(config) if config else {}
        values |= {name: value for name, value in options.items() if value not in (None, ())}
        settings = dataclasses.replace(NodeSettings(), **values)  # type: ignore[arg-type]
        if save_config:
            write_settings(save_config, settings)
            return
        if not (settings.open or settings.secret_file or settings.certfile):  # all of which go before it
            secret = secret or variable or None
        set_up_logging(level="debug" if settings.debug else "info", json_lines=settings.log_format == "json")
        trio.run(partial(serve, clean=clean), settings, secret, strict_exception_groups=True)
    except* DispyError as group:
        failures.append(_first_of(group))
    if failures:  # raised inside the handler, it would go into a group, which click does not show
        kind = click.UsageError if isinstance(failures[0], UsageError) else click.ClickException
        raise kind(str(failures[0])) from failures[0]


for _command in COMMANDS:
    node.add_command(_command)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first: BaseException = group
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


class NodeCommand(Command):
    """Adds ``node`` to the ``dispy`` command."""

    NAME: ClassVar[str] = "node"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "Run jobs on this machine for clients that connect."

    def build(self) -> click.Command:
        """Return the click command."""
        return node


def main() -> None:
    """Entry point of ``dispynode``."""
    node(prog_name=Path(sys.argv[0]).name)
