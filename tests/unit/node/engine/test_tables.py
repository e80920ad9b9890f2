from __future__ import annotations

import pytest

from dispy.errors import LocalProtocolError
from dispy.model import ClientId, ComputationId
from dispy.wire.messages import OpenComputation
from dispy_node.engine.records import Attempt, AttemptState, ComputationState, HostedComputation
from dispy_node.engine.tables import (
    ATTEMPT_STARTS,
    ATTEMPT_TABLE,
    COMPUTATION_STARTS,
    COMPUTATION_TABLE,
    AttemptStep,
    ComputationStep,
    advance_attempt,
    advance_computation,
)


def reachable(table: dict, starts: frozenset) -> set:
    """Give the states that can be reached from *starts*."""
    found: set = set()
    waiting = set(starts)
    while waiting:
        state = waiting.pop()
        found.add(state)
        waiting |= set(table[state].values()) - found
    return found


@pytest.mark.parametrize(
    ("table", "states", "steps", "starts"),
    [
        (COMPUTATION_TABLE, ComputationState, ComputationStep, COMPUTATION_STARTS),
        (ATTEMPT_TABLE, AttemptState, AttemptStep, ATTEMPT_STARTS),
    ],
)
def test_tables_are_complete(table, states, steps, starts) -> None:
    assert set(table) == set(states)
    assert {step for row in table.values() for step in row} == set(steps)
    assert reachable(table, starts) == set(states)
    for state in states:
        assert states.GONE in reachable(table, frozenset({state})), f"no way out of {state}"
    assert not table[states.GONE]


@pytest.mark.parametrize("state", ComputationState)
@pytest.mark.parametrize("step", ComputationStep)
def test_computation_takes_listed_steps_only(state: ComputationState, step: ComputationStep) -> None:
    offer = OpenComputation("a", "compute", "function", "process", b"")
    computation = HostedComputation(ComputationId("a"), ClientId("c"), offer, state)
    if step in COMPUTATION_TABLE[state]:
        advance_computation(computation, step)
        assert computation.state is COMPUTATION_TABLE[state][step]
    else:
        with pytest.raises(LocalProtocolError, match=f"cannot be {step.value} while {state.value}"):
            advance_computation(computation, step)
        assert computation.state is state


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize("step", AttemptStep)
def test_attempt_takes_listed_steps_only(state: AttemptState, step: AttemptStep) -> None:
    attempt = Attempt((1, 1), state)
    if step in ATTEMPT_TABLE[state]:
        advance_attempt(attempt, step)
        assert attempt.state is ATTEMPT_TABLE[state][step]
    else:
        with pytest.raises(LocalProtocolError, match=f"cannot be {step.value} while {state.value}"):
            advance_attempt(attempt, step)
        assert attempt.state is state


def test_an_attempt_that_has_started_never_waits_again() -> None:
    """G3: from RUNNING no way leads back to a state from which it could be started."""
    later = reachable(ATTEMPT_TABLE, frozenset({AttemptState.RUNNING}))
    assert later == {AttemptState.RUNNING, AttemptState.ENDED, AttemptState.GONE}
