"""The tables name every state, lead everywhere, and are the only way."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import pytest

from dispy.engine.records import Job, JobState, NodeState, Placement, PlacementState
from dispy.engine.tables import (
    JOB_STARTS,
    JOB_TABLE,
    NODE_STARTS,
    NODE_TABLE,
    PLACEMENT_STARTS,
    PLACEMENT_TABLE,
    JobStep,
    NodeStep,
    PlacementStep,
    advance_job,
    advance_node,
    advance_placement,
)
from dispy.errors import LocalProtocolError
from dispy.model import ComputationId, JobId

ALL = [
    pytest.param(JOB_TABLE, JobState, JobStep, JOB_STARTS, id="job"),
    pytest.param(NODE_TABLE, NodeState, NodeStep, NODE_STARTS, id="node"),
    pytest.param(PLACEMENT_TABLE, PlacementState, PlacementStep, PLACEMENT_STARTS, id="placement"),
]


@pytest.mark.parametrize(("table", "states", "steps", "starts"), ALL)
def test_tables_are_complete(
    table: Mapping[Any, Mapping[Any, Any]],
    states: type[enum.Enum],
    steps: type[enum.Enum],
    starts: frozenset[enum.Enum],
) -> None:
    assert set(table) == set(states)
    assert {step for row in table.values() for step in row} == set(steps)
    reached = set(starts)
    for _ in states:
        reached |= {after for state in reached for after in table[state].values()}
    assert reached == set(states)


def test_settled_is_the_only_end_and_can_always_be_reached() -> None:
    assert [state for state, row in JOB_TABLE.items() if not row] == [JobState.SETTLED]
    for state, row in JOB_TABLE.items():
        assert state is JobState.SETTLED or JobState.SETTLED in row.values()


def test_only_the_word_that_it_never_started_or_the_policy_leads_back_to_the_queue() -> None:
    back = {(state, step) for state, row in JOB_TABLE.items() for step in row if row[step] is JobState.QUEUED}
    assert back == {
        (JobState.ASSIGNED, JobStep.RETURNED),
        (JobState.ASSIGNED, JobStep.RERUN),
        (JobState.RUNNING, JobStep.RERUN),
    }


def test_a_lost_node_can_come_back() -> None:
    assert NODE_TABLE[NodeState.LOST][NodeStep.LINK_OPENED] is NodeState.CONNECTED


def test_steps_change_states_as_the_tables_say(make_world: Any) -> None:
    world = make_world()
    world.connect(1)
    node = world.node(1)
    job = Job(JobId(1), ComputationId("c"), b"")
    placement = Placement(node, PlacementState.PREPARING, 1)
    advance_job(job, JobStep.ASSIGNED)
    advance_node(node, NodeStep.LINK_CLOSED)
    advance_placement(placement, PlacementStep.READY)
    assert job.state is JobState.ASSIGNED
    assert node.state is NodeState.SILENT
    assert placement.state is PlacementState.READY


def test_steps_that_are_not_listed_are_errors_that_name_both(make_world: Any) -> None:
    world = make_world()
    world.connect(1)
    job = Job(JobId(7), ComputationId("c"), b"")
    with pytest.raises(LocalProtocolError, match="job 7 cannot take 'started' while queued"):
        advance_job(job, JobStep.STARTED)
    with pytest.raises(LocalProtocolError, match="node node1 cannot take 'lease over' while connected"):
        advance_node(world.node(1), NodeStep.LEASE_OVER)
    placement = Placement(world.node(1), PlacementState.CLOSED, 1)
    with pytest.raises(LocalProtocolError, match="placement at node1 cannot take 'ready' while closed"):
        advance_placement(placement, PlacementStep.READY)
    assert job.state is JobState.QUEUED
