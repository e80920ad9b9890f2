"""What this distribution adds to dispy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import Command


@hookimpl
def dispy_register_command() -> Sequence[type[Command]]:
    """Offer the commands ``run``, ``nodes``, ``doctor``, ``plugins`` and ``completion``."""
    from dispy_cli.commands import (
        CompletionCommand,
        DoctorCommand,
        NodesCommand,
        PluginsCommand,
        RunCommand,
    )

    return [RunCommand, NodesCommand, DoctorCommand, PluginsCommand, CompletionCommand]
