"""Every change of state that a node's computations and attempts can go through.

Rules of this file: the tables are complete, so a step that is not listed for a state is a bug of this engine
and raises `LocalProtocolError`; what a peer may send out of place is sorted out before a step is taken. States
change nowhere but in `advance_attempt` and `advance_computation`. The diagrams in `docs/protocol.md` are
generated from the tables.

Theory of operation. A *computation* collects its code and files (RECEIVING), has its runner started and loaded
(PREPARING), runs jobs (READY), and waits for its runner to end (CLOSING). Its end is always the runner's end,
asked for or not; only one that never had a runner can be dropped at once. A runner that dies takes the
computation along from whatever state it is in.

An *attempt* needs two things before the runner can have it: its body (RECEIVING) and a runner (WAITING). At the
runner it is QUEUED, then RUNNING. The runner is the only one who knows which of the two it is, so a cancellation
never changes the state of these two: it is passed on, and the runner's answer does. FINISHED is any end that the
scheduler is told as a result: by the runner, by cancellation before the runner had it, by a body that could not
be stored, by the death of the runner. The result then stays until ACKNOWLEDGED. DROPPED is an end without a result:
rejected (it has not started and never will), not believed in by the scheduler, or of a client that is gone.

Sources: docs/protocol.md, sections on computations, attempts and reconciliation.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from dispy.errors import LocalProtocolError
from dispy_node.engine.records import Attempt, AttemptState, ComputationState, HostedComputation


class ComputationStep(enum.Enum):
    """What can happen to a computation."""

    RECEIVED = "received"
    """Its last stream is stored; its runner is started."""
    LOADED = "loaded"
    """The runner is ready."""
    CLOSED = "closed"
    """The runner is told to end."""
    RUNNER_ENDED = "runner ended"
    """The runner is gone: asked to, by itself, or because it could not load the computation."""
    DROPPED = "dropped"
    """Closed, failed or cut off before it had a runner."""


class AttemptStep(enum.Enum):
    """What can happen to an attempt."""

    STORED = "stored"
    """Its body has arrived."""
    HANDED_OVER = "handed over"
    """The runner has it."""
    STARTED = "started"
    FINISHED = "finished"
    """It has a result, which is kept."""
    ACKNOWLEDGED = "acknowledged"
    DROPPED = "dropped"
    """It is forgotten without a result."""


COMPUTATION_TABLE: Final[Mapping[ComputationState, Mapping[ComputationStep, ComputationState]]] = {
    ComputationState.RECEIVING: {
        ComputationStep.RECEIVED: ComputationState.PREPARING,
        ComputationStep.DROPPED: ComputationState.GONE,
    },
    ComputationState.PREPARING: {
        ComputationStep.LOADED: ComputationState.READY,
        ComputationStep.CLOSED: ComputationState.CLOSING,
        ComputationStep.RUNNER_ENDED: ComputationState.GONE,
    },
    ComputationState.READY: {
        ComputationStep.CLOSED: ComputationState.CLOSING,
        ComputationStep.RUNNER_ENDED: ComputationState.GONE,
    },
    ComputationState.CLOSING: {
        # Once more: it was told to end when its jobs are done, now it is told to end them.
        ComputationStep.CLOSED: ComputationState.CLOSING,
        ComputationStep.RUNNER_ENDED: ComputationState.GONE,
    },
    ComputationState.GONE: {},
}

COMPUTATION_STARTS: Final = frozenset({ComputationState.RECEIVING})
"""States that a computation can begin in."""

ATTEMPT_TABLE: Final[Mapping[AttemptState, Mapping[AttemptStep, AttemptState]]] = {
    AttemptState.RECEIVING: {
        AttemptStep.STORED: AttemptState.WAITING,
        AttemptStep.FINISHED: AttemptState.ENDED,
        AttemptStep.DROPPED: AttemptState.GONE,
    },
    AttemptState.WAITING: {
        AttemptStep.HANDED_OVER: AttemptState.QUEUED,
        AttemptStep.FINISHED: AttemptState.ENDED,
        AttemptStep.DROPPED: AttemptState.GONE,
    },
    AttemptState.QUEUED: {
        AttemptStep.STARTED: AttemptState.RUNNING,
        AttemptStep.FINISHED: AttemptState.ENDED,
        AttemptStep.DROPPED: AttemptState.GONE,
    },
    AttemptState.RUNNING: {
        AttemptStep.FINISHED: AttemptState.ENDED,
        AttemptStep.DROPPED: AttemptState.GONE,
    },
    AttemptState.ENDED: {
        AttemptStep.ACKNOWLEDGED: AttemptState.GONE,
        AttemptStep.DROPPED: AttemptState.GONE,
    },
    AttemptState.GONE: {},
}

ATTEMPT_STARTS: Final = frozenset({AttemptState.RECEIVING, AttemptState.WAITING, AttemptState.QUEUED})
"""States that an attempt can begin in: with a body on a stream, before the runner is ready, after."""


def advance_computation(computation: HostedComputation, step: ComputationStep) -> None:
    """Take *step*.

    Raises:
        LocalProtocolError: the step is not listed for the computation's state.
    """
    try:
        computation.state = COMPUTATION_TABLE[computation.state][step]
    except KeyError:
        raise LocalProtocolError(
            f"computation {computation.id!r} cannot be {step.value} while {computation.state.value}"
        ) from None


def advance_attempt(attempt: Attempt, step: AttemptStep) -> None:
    """Take *step*.

    Raises:
        LocalProtocolError: the step is not listed for the attempt's state.
    """
    try:
        attempt.state = ATTEMPT_TABLE[attempt.state][step]
    except KeyError:
        raise LocalProtocolError(
            f"attempt {attempt.key!r} cannot be {step.value} while {attempt.state.value}"
        ) from None
