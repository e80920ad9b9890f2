"""The hook of this distribution."""

from __future__ import annotations

import dispy_cli.plugin
from dispy.plugins import PluginManager


def test_commands_are_registered() -> None:
    manager = PluginManager.load([dispy_cli.plugin], entry_points=[])
    assert [command.NAME for command in manager.commands()] == [
        "completion",
        "doctor",
        "nodes",
        "plugins",
        "run",
    ]
