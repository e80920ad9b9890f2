"""The ``dispy`` program as a command of click.

Sub-commands come from plugins, through the hook ``dispy_register_command``; for ``dispy --help`` only their names
and one-line helps are asked for.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from dispy import __version__
from dispy.errors import DispyError, PluginConflict, PluginError, PluginNotInstalled
from dispy_cli import exits

if TYPE_CHECKING:
    from dispy.plugins import PluginManager

DEFAULT_COMMAND = "run"

HELP = """Run one program or function many times over your own machines.

Without a command, `dispy [-f FILE]... -a "ARGS" [-a "ARGS"]... PROGRAM` does what `dispy run` does.
"""


class Umbrella(click.Group):
    """A group of the commands that plugins offer, each built when it is used.

    Args:
        load_plugins: called once, when the commands are first asked for.
    """

    def __init__(self, load_plugins: Callable[[], PluginManager], **options: Any) -> None:
        super().__init__(**options)
        self._load_plugins = load_plugins

    @functools.cached_property
    def _manager(self) -> PluginManager:
        return self._load_plugins()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return [command.NAME for command in self._manager.commands()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Build a command; return None if none of this name can be used."""
        if cmd_name not in self.list_commands(ctx):
            return None
        return self._manager.command(cmd_name).build()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without building any."""
        rows = [(command.NAME, command.HELP) for command in self._manager.commands()]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put in ``run`` where the command is left out, as users of the original do (F2)."""
        if args and self._leaves_command_out(ctx, args):
            args = [DEFAULT_COMMAND, *args]
        return super().parse_args(ctx, args)

    def _leaves_command_out(self, ctx: click.Context, args: list[str]) -> bool:
        first = args[0]
        if first.startswith("-") and first not in ("-", "--"):
            return first not in [name for parameter in self.get_params(ctx) for name in parameter.opts]
        # `dispy PROGRAM -a ARGS`. Without any -a there would be nothing to run, so a misspelt command is likelier.
        return any(arg.startswith(("-a", "--args")) for arg in args) and first not in self.list_commands(ctx)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant, or say why it is not there."""
        name = args[0]
        command = self.get_command(ctx, name)
        if command is not None:
            return name, command, args[1:]
        if not ctx.resilient_parsing:  # in shell completion nobody reads messages
            raise click.UsageError(self._why_not_there(ctx, name), ctx)
        return None, None, args[1:]

    def _why_not_there(self, ctx: click.Context, name: str) -> str:
        import difflib

        alike = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
        try:
            self._manager.command(name)
        except (PluginNotInstalled, PluginConflict) as error:
            return str(error)
        except PluginError as error:
            return f"no such command: {name!r}; did you mean {alike[0]!r}?" if alike else str(error)
        raise AssertionError(f"the command {name!r} is both there and not")


def make_umbrella(load_plugins: Callable[[], PluginManager] | None = None) -> click.Command:
    """Make the click command ``dispy``; by default with the plugins that are installed."""
    umbrella = Umbrella(
        load_plugins or _load_installed,
        name="dispy",
        help=HELP,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        options_metavar="[--version] [--help]",
        subcommand_metavar="COMMAND [ARGS]...",
    )
    return click.version_option(__version__, "--version", prog_name="dispy", message="%(prog)s %(version)s")(
        umbrella
    )


def _load_installed() -> PluginManager:
    # Imported here: looking for what is installed takes a third of the time that `dispy --version` may take.
    from dispy.plugins import PluginManager

    return PluginManager.load()


def completion_variable(program: str) -> str:
    """Return the environment variable by which a shell asks *program* for completions."""
    return f"_{program}_COMPLETE".replace("-", "_").replace(".", "_").upper()


def run_umbrella(umbrella: click.Command, arguments: Sequence[str] | None, program: str) -> int:
    """Run ``dispy`` with these arguments (None: those of the process) and return the exit status.

    Whatever goes wrong in an expected way is told on standard error.
    """
    try:
        status = umbrella.main(
            arguments,
            prog_name=program,
            complete_var=completion_variable(program),
            standalone_mode=False,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:
        cause = error.__cause__ or error.__context__  # older releases of click do not name the cause
        if not isinstance(cause, exits.Told):
            click.echo("dispy: interrupted", err=True)
        return exits.status_of_interrupt(cause)
    except DispyError as error:
        click.echo(f"dispy: {error}", err=True)
        return exits.status_of(error)
    except OSError as error:  # a full disk under standard output; click deals with a reader that has gone
        where = "" if error.filename else "cannot write to standard output: "
        click.echo(f"dispy: {where}{error.strerror if where and error.strerror else error}", err=True)
        _drop_output()
        return exits.SOME_JOB_FAILED
    return status if isinstance(status, int) else exits.SUCCESS


def _drop_output() -> None:
    """Have what standard output still holds go nowhere: Python would try once more, and end with its own status."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
