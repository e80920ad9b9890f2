"""Every change of state that the scheduler's jobs, nodes and placements can go through.

Rules of this file: the tables are complete. A step that is not listed for a state is a bug of this engine and
raises `LocalProtocolError`; what a node may send out of place is sorted out (counted, or its link closed)
before a step is taken. The next state is always read from here; loops that handle thousands of jobs read it
once, when their module is imported. The diagrams in `docs/protocol.md` are generated from the tables.

Theory of operation. A *job* waits at the scheduler (QUEUED), is sent to a node under a new attempt number
(ASSIGNED), and runs there (RUNNING); the node may leave the second step out when the result follows at once.
From the moment it is sent it may have started, so only two things bring it back to the queue: the node's word
that this attempt never started (RETURNED), or the fault policy after the attempt is lost (RERUN). A policy that
says no makes it ABANDONED: it does not count as pending any more, but its result settles it if the node ever
comes back with it. A cancelled job is CANCELLING until the node tells how it ended, which may be by returning.
GIVEN_UP is the scheduler's own end for a job that nothing more is to come of. LATE_RESULT is the success of an
older attempt of a job that was sent out again: the first valid result counts.

A *node* is CONNECTED or SILENT; while silent it keeps what it has, and the scheduler keeps believing in it. When
its lease is over, when it has said that it ends, or when it greets under a higher epoch (it has started anew),
it is LOST, and so is every attempt there. It can come back from LOST, too.

A *placement* is opened at the node (PREPARING), takes jobs (READY), is closed (CLOSING, CLOSED), or cannot be used
there (FAILED), which is final for this epoch of the node. What the node has is found out after each new link by
reconciliation, and what it says then counts: FORGOTTEN (it knows nothing of the computation: open it anew),
FOUND_CLOSING (it is getting rid of it: wait for that).

Sources: docs/protocol.md, sections on jobs, leases and reconciliation.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from dispy.engine.records import Job, JobState, Node, NodeState, Placement, PlacementState
from dispy.errors import LocalProtocolError


class JobStep(enum.StrEnum):
    """What can happen to a job."""

    ASSIGNED = "assigned"
    """Sent to a node under a new attempt number."""
    STARTED = "started"
    """The node says that it runs."""
    RESULT = "result"
    """The node says how its latest attempt ended."""
    LATE_RESULT = "late result"
    """An older attempt turns out to have succeeded."""
    RETURNED = "returned"
    """The attempt never started and never will: rejected by the node, or never received by it."""
    RERUN = "rerun"
    """The attempt is lost; the fault policy allows another."""
    ABANDONED = "abandoned"
    """The attempt is lost; the fault policy allows no other."""
    CANCEL_REQUESTED = "cancel requested"
    GIVEN_UP = "given up"
    """No result is to be expected: its place is gone, or its computation is closed."""


class NodeStep(enum.StrEnum):
    """What can happen to a node."""

    LINK_OPENED = "link opened"
    LINK_CLOSED = "link closed"
    LEASE_OVER = "lease over"
    ENDED = "ended"
    """It has said that it ends for good."""
    RESTARTED = "restarted"
    """It greets under a higher epoch: what it had is gone."""


class PlacementStep(enum.StrEnum):
    """What can happen to a computation at a node."""

    READY = "ready"
    """The node says that it is ready, or it is found to be."""
    FAILED = "failed"
    """The node cannot run it, or there is no code for the node."""
    CLOSE_REQUESTED = "close requested"
    CLOSED = "closed"
    """The node says that it is gone, or does not know it any more after it was asked to close it."""
    REOPENED = "reopened"
    """Opened once more after it was closed."""
    FORGOTTEN = "forgotten"
    """The node has lost it; it is opened anew."""
    FOUND_PREPARING = "found preparing"
    FOUND_CLOSING = "found closing"
    """The node gets rid of it, without being asked to on this link."""
    NODE_LOST = "node lost"


JOB_TABLE: Final[Mapping[JobState, Mapping[JobStep, JobState]]] = {
    JobState.QUEUED: {
        JobStep.ASSIGNED: JobState.ASSIGNED,
        JobStep.LATE_RESULT: JobState.SETTLED,
        JobStep.CANCEL_REQUESTED: JobState.SETTLED,
        JobStep.GIVEN_UP: JobState.SETTLED,
    },
    JobState.ASSIGNED: {
        JobStep.STARTED: JobState.RUNNING,
        JobStep.RESULT: JobState.SETTLED,
        JobStep.LATE_RESULT: JobState.SETTLED,
        JobStep.RETURNED: JobState.QUEUED,
        JobStep.RERUN: JobState.QUEUED,
        JobStep.ABANDONED: JobState.ABANDONED,
        JobStep.CANCEL_REQUESTED: JobState.CANCELLING,
        JobStep.GIVEN_UP: JobState.SETTLED,
    },
    JobState.RUNNING: {
        # No RETURNED: the node has said that it runs, so its word that it never started is not believed.
        JobStep.STARTED: JobState.RUNNING,
        JobStep.RESULT: JobState.SETTLED,
        JobStep.LATE_RESULT: JobState.SETTLED,
        JobStep.RERUN: JobState.QUEUED,
        JobStep.ABANDONED: JobState.ABANDONED,
        JobStep.CANCEL_REQUESTED: JobState.CANCELLING,
        JobStep.GIVEN_UP: JobState.SETTLED,
    },
    JobState.CANCELLING: {
        # No way back to the queue: whoever asked for the end is not to see it start again.
        JobStep.STARTED: JobState.CANCELLING,
        JobStep.RESULT: JobState.SETTLED,
        JobStep.LATE_RESULT: JobState.SETTLED,
        JobStep.CANCEL_REQUESTED: JobState.CANCELLING,
        JobStep.GIVEN_UP: JobState.SETTLED,
    },
    JobState.ABANDONED: {
        JobStep.STARTED: JobState.ABANDONED,
        JobStep.RESULT: JobState.SETTLED,
        JobStep.LATE_RESULT: JobState.SETTLED,
        JobStep.CANCEL_REQUESTED: JobState.ABANDONED,
        JobStep.GIVEN_UP: JobState.SETTLED,
    },
    JobState.SETTLED: {},
}

JOB_STARTS: Final = frozenset({JobState.QUEUED})
"""States that a job can begin in."""

NODE_TABLE: Final[Mapping[NodeState, Mapping[NodeStep, NodeState]]] = {
    NodeState.CONNECTED: {
        NodeStep.LINK_CLOSED: NodeState.SILENT,
        NodeStep.ENDED: NodeState.LOST,
        NodeStep.RESTARTED: NodeState.LOST,
    },
    NodeState.SILENT: {
        NodeStep.LINK_OPENED: NodeState.CONNECTED,
        NodeStep.LEASE_OVER: NodeState.LOST,
        NodeStep.RESTARTED: NodeState.LOST,
    },
    NodeState.LOST: {
        NodeStep.LINK_OPENED: NodeState.CONNECTED,
        NodeStep.RESTARTED: NodeState.LOST,
    },
}

NODE_STARTS: Final = frozenset({NodeState.CONNECTED})
"""States that a node can begin in."""

PLACEMENT_TABLE: Final[Mapping[PlacementState, Mapping[PlacementStep, PlacementState]]] = {
    PlacementState.PREPARING: {
        PlacementStep.READY: PlacementState.READY,
        PlacementStep.FAILED: PlacementState.FAILED,
        PlacementStep.CLOSE_REQUESTED: PlacementState.CLOSING,
        PlacementStep.FORGOTTEN: PlacementState.PREPARING,
        PlacementStep.FOUND_PREPARING: PlacementState.PREPARING,
        PlacementStep.FOUND_CLOSING: PlacementState.CLOSING,
        PlacementStep.NODE_LOST: PlacementState.CLOSED,
    },
    PlacementState.READY: {
        PlacementStep.READY: PlacementState.READY,
        PlacementStep.FAILED: PlacementState.FAILED,
        PlacementStep.CLOSE_REQUESTED: PlacementState.CLOSING,
        PlacementStep.FORGOTTEN: PlacementState.PREPARING,
        PlacementStep.FOUND_PREPARING: PlacementState.PREPARING,
        PlacementStep.FOUND_CLOSING: PlacementState.CLOSING,
        PlacementStep.NODE_LOST: PlacementState.CLOSED,
    },
    PlacementState.CLOSING: {
        PlacementStep.CLOSE_REQUESTED: PlacementState.CLOSING,
        PlacementStep.CLOSED: PlacementState.CLOSED,
        PlacementStep.NODE_LOST: PlacementState.CLOSED,
    },
    PlacementState.CLOSED: {
        PlacementStep.REOPENED: PlacementState.PREPARING,
        PlacementStep.NODE_LOST: PlacementState.CLOSED,
    },
    PlacementState.FAILED: {
        PlacementStep.NODE_LOST: PlacementState.CLOSED,
    },
}

PLACEMENT_STARTS: Final = frozenset({PlacementState.PREPARING})
"""States that a placement can begin in."""


def advance_job(job: Job, step: JobStep) -> None:
    """Take *step*.

    Raises:
        LocalProtocolError: the step is not listed for the job's state.
    """
    try:
        job.state = JOB_TABLE[job.state][step]
    except KeyError:
        raise LocalProtocolError(f"job {job.id} cannot take {step.value!r} while {job.state.value}") from None


def advance_node(node: Node, step: NodeStep) -> None:
    """Take *step*.

    Raises:
        LocalProtocolError: the step is not listed for the node's state.
    """
    try:
        node.state = NODE_TABLE[node.state][step]
    except KeyError:
        raise LocalProtocolError(
            f"node {node.name} cannot take {step.value!r} while {node.state.value}"
        ) from None


def advance_placement(placement: Placement, step: PlacementStep) -> None:
    """Take *step*.

    Raises:
        LocalProtocolError: the step is not listed for the placement's state.
    """
    try:
        placement.state = PLACEMENT_TABLE[placement.state][step]
    except KeyError:
        raise LocalProtocolError(
            f"placement at {placement.node.name} cannot take {step.value!r} while {placement.state.value}"
        ) from None
