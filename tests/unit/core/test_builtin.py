from __future__ import annotations

import logging

import pytest

from dispy.builtin import EVENTS_LOGGER, CoreFaults, JobLog, NodeLog, builtin_plugins
from dispy.engine.policy import CancelPolicy
from dispy.hookspecs import JobEvent, NodeEvent
from dispy.model import JobId, JobStatus, NodeStatus


def test_fault_policy_of_the_core() -> None:
    assert CoreFaults().dispy_register_fault_policy() is CancelPolicy


def test_node_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, EVENTS_LOGGER):
        NodeLog().dispy_on_nodes(
            [
                NodeEvent("node1", "10.0.0.1", NodeStatus.INITIALIZED, "compute"),
                NodeEvent("node1", "10.0.0.1", NodeStatus.CLOSED, "compute"),
            ]
        )
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.INFO, "node node1 (10.0.0.1) is initialized for compute"),
        (logging.INFO, "node node1 (10.0.0.1) is closed for compute"),
    ]


def test_failed_jobs_are_logged_and_others_are_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, EVENTS_LOGGER):
        JobLog().dispy_on_jobs(
            [
                JobEvent(JobId(1), "compute", JobStatus.RUNNING, "node1"),
                JobEvent(JobId(1), "compute", JobStatus.FINISHED, "node1"),
                JobEvent(JobId(2), "compute", JobStatus.TERMINATED, "node1"),
                JobEvent(JobId(3), "compute", JobStatus.CANCELLED, "node1"),
                JobEvent(JobId(4), "compute", JobStatus.ABANDONED, "", "node1 is lost"),
            ]
        )
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.DEBUG, "job 2 of compute is terminated at node node1: it failed"),
        (logging.DEBUG, "job 4 of compute is abandoned at node (none): node1 is lost"),
    ]


@pytest.mark.parametrize(("level", "there"), [(logging.DEBUG, True), (logging.INFO, False)])
def test_jobs_are_observed_only_if_somebody_would_see_it(
    caplog: pytest.LogCaptureFixture, level: int, there: bool
) -> None:
    with caplog.at_level(level, EVENTS_LOGGER):
        plugins = builtin_plugins()
    assert [name for name, _ in plugins][:2] == ["faults-cancel", "log-nodes"]
    assert any(isinstance(plugin, JobLog) for _, plugin in plugins) is there
