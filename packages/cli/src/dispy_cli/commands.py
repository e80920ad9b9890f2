"""Names and one-line helps of the sub-commands; their code is imported when one of them is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dispy.interfaces import API_VERSION, Command

if TYPE_CHECKING:
    import click


class RunCommand(Command):
    """Adds ``run``."""

    NAME: ClassVar[str] = "run"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "Run a program once for each -a, in parallel on all nodes."

    def build(self) -> click.Command:
        """Return the click command."""
        from dispy_cli.run import run

        return run


class NodesCommand(Command):
    """Adds ``nodes``."""

    NAME: ClassVar[str] = "nodes"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "List nodes and what they have free."

    def build(self) -> click.Command:
        """Return the click command."""
        from dispy_cli.nodes import nodes

        return nodes


class DoctorCommand(Command):
    """Adds ``doctor``."""

    NAME: ClassVar[str] = "doctor"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "Look for what keeps clients and nodes apart, and say what to do."

    def build(self) -> click.Command:
        """Return the click command."""
        from dispy_cli.doctor import doctor

        return doctor


class PluginsCommand(Command):
    """Adds ``plugins``."""

    NAME: ClassVar[str] = "plugins"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "List installed plugins, and what is wrong with them."

    def build(self) -> click.Command:
        """Return the click command."""
        from dispy_cli.plugins import plugins

        return plugins


class CompletionCommand(Command):
    """Adds ``completion``."""

    NAME: ClassVar[str] = "completion"
    API_VERSION: ClassVar[int] = API_VERSION
    HELP: ClassVar[str] = "Print a script that makes a shell complete this program's options."

    def build(self) -> click.Command:
        """Return the click command."""
        from dispy_cli.completion import completion

        return completion
