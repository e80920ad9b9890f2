"""What this distribution adds to dispy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispy.hookspecs import hookimpl

if TYPE_CHECKING:
    from dispy.interfaces import Command, Executor


@hookimpl
def dispy_register_executor() -> Sequence[type[Executor]]:
    """Offer the executors ``function``, ``program`` and ``java``, and three that confine what others have planned."""
    from dispy_node.confine.bubblewrap import BubblewrapExecutor
    from dispy_node.confine.cgroup import CgroupExecutor
    from dispy_node.confine.user import UserExecutor
    from dispy_node.executors import FunctionExecutor, ProgramExecutor
    from dispy_node.java import JavaExecutor

    return [FunctionExecutor, ProgramExecutor, JavaExecutor, UserExecutor, CgroupExecutor, BubblewrapExecutor]


@hookimpl
def dispy_register_command() -> type[Command]:
    """Offer the command ``node``."""
    from dispy_node.command import NodeCommand

    return NodeCommand
