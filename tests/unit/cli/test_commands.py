"""What stands in the list of commands fits the commands."""

from __future__ import annotations

import pytest

from dispy.interfaces import API_VERSION, Command
from dispy_cli.commands import CompletionCommand, DoctorCommand, NodesCommand, PluginsCommand, RunCommand


@pytest.mark.parametrize("kind", [CompletionCommand, DoctorCommand, NodesCommand, PluginsCommand, RunCommand])
def test_command_is_built_under_its_name(kind: type[Command]) -> None:
    command = kind().build()
    assert command.name == kind.NAME
    assert command.help
    assert kind.API_VERSION == API_VERSION
    assert kind.HELP.endswith(".")
    assert "\n" not in kind.HELP
