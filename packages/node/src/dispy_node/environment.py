"""The environment variables that a runner and its jobs get."""

from __future__ import annotations

from collections.abc import Mapping

from dispy.interfaces import ExecutorPlan

OWN_PREFIX = "DISPY_"
"""How all variables begin that dispy reads, secrets among them: jobs get none but those that their runner needs."""

SESSION_PREFIXES = ("XDG_", "SUDO_", "SSH_", "DBUS_")
"""How variables begin that lead into the session of whoever has started the node: wrong for another user."""


def runner_environment(
    inherited: Mapping[str, str], plan: ExecutorPlan, own: Mapping[str, str]
) -> dict[str, str]:
    """Make the environment of a runner.

    Args:
        inherited: what the node has.
        plan: how it is run; its variables win over those of the node.
        own: what the node tells the runner; wins over everything.
    """
    unwanted = (OWN_PREFIX, *SESSION_PREFIXES) if plan.user else (OWN_PREFIX,)
    kept = {name: value for name, value in inherited.items() if not name.startswith(unwanted)}
    return {**kept, **plan.environment, **own}
