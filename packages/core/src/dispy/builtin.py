"""What is there without any plugin, registered through the same hooks as plugins are.

The log observers write to the standard library's logger ``dispy.events``: node changes at INFO, failed jobs
at DEBUG. Nothing is printed unless the application configures logging.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dispy.hookspecs import JobEvent, NodeEvent, hookimpl
from dispy.model import JobStatus, NodeStatus

if TYPE_CHECKING:
    from dispy.interfaces import FaultPolicy

EVENTS_LOGGER = "dispy.events"

FAILED = frozenset({JobStatus.TERMINATED, JobStatus.ABANDONED})
"""Statuses of jobs that ended badly without anybody having asked for it."""


class CoreFaults:
    """The fault policy of a bare core: jobs of a lost node are given up."""

    @hookimpl
    def dispy_register_fault_policy(self) -> type[FaultPolicy]:
        """Offer the policy ``cancel``."""
        from dispy.engine.policy import CancelPolicy

        return CancelPolicy


class NodeLog:
    """Logs node changes."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(EVENTS_LOGGER)

    @hookimpl
    def dispy_on_nodes(self, changes: Sequence[NodeEvent]) -> None:
        """Write a line for each change."""
        for change in changes:
            self._logger.info(
                "node %s (%s) is %s for %s",
                change.node,
                change.host,
                NodeStatus(change.status).name.lower(),
                change.computation,
            )


class JobLog:
    """Logs failed jobs."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(EVENTS_LOGGER)

    @hookimpl
    def dispy_on_jobs(self, changes: Sequence[JobEvent]) -> None:
        """Write a line for each job that failed."""
        for change in changes:
            if change.status in FAILED:
                self._logger.debug(
                    "job %s of %s is %s at node %s: %s",
                    change.job,
                    change.computation,
                    JobStatus(change.status).name.lower(),
                    change.node or "(none)",
                    change.reason or "it failed",
                )


def builtin_plugins() -> list[tuple[str, object]]:
    """Return (name, plugin) of everything that is built in.

    The job log is left out when nobody would see it, so that the many changes of jobs cost nothing then; the
    level of its logger counts as it is when the first cluster is made.
    """
    plugins: list[tuple[str, object]] = [("faults-cancel", CoreFaults()), ("log-nodes", NodeLog())]
    if logging.getLogger(EVENTS_LOGGER).isEnabledFor(logging.DEBUG):
        plugins.append(("log-jobs", JobLog()))
    return plugins
