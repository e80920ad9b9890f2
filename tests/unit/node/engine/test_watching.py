"""Output of jobs that run, at the node."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dispy.model import ComputationId
from dispy.wire.messages import JobOutput, WatchOutput
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev

WATCH = WatchOutput("a", 1, 1, 7, 1, 0, 100)
OUTPUT = JobOutput("a", 1, 1, 7, 0, 0, b"text")
TOLD = ev.OutputTold(ComputationId("a"), OUTPUT)


@pytest.fixture
def running(node: Any) -> Any:
    """The first job of computation "a" runs."""
    node.ready()
    node.assign(1, 2)
    node.start(1)
    return node


def test_watches_go_to_the_runner_and_output_to_the_client(running: Any) -> None:
    assert running.send(WATCH) == [fx.WatchAttempt(ComputationId("a"), WATCH)]
    assert running.do(TOLD) == [running.said(OUTPUT)]


@pytest.mark.parametrize("change", [{"job": 2}, {"job": 3}, {"attempt": 2}, {"computation": "b"}])
def test_what_does_not_run_cannot_be_watched(running: Any, change: dict[str, Any]) -> None:
    assert running.send(msgspec.structs.replace(WATCH, **change)) == []
    assert running.engine.counters.stale == 1


def test_the_computation_of_another_client_cannot_be_watched(running: Any) -> None:
    running.connect(2, "c2")
    assert running.send(WATCH, 2) == []


@pytest.mark.parametrize(
    "change", [{"stream": 0}, {"number": -1}, {"number": 2**32}, {"start": -2}, {"limit": 2**63}]
)
def test_numbers_out_of_range_end_the_link(running: Any, change: dict[str, int]) -> None:
    effects = running.send(msgspec.structs.replace(WATCH, **change))
    assert any(isinstance(effect, fx.CloseLink) for effect in effects)


def test_output_for_a_client_that_is_away_is_dropped(running: Any) -> None:
    running.lose()
    assert running.do(TOLD) == []
    running.connect(2)
    assert running.do(TOLD) == []  # it has not said yet what it believes in
    running.reconcile(2, a=[1, 2])
    assert running.do(TOLD) == [running.said(OUTPUT, 2)]


def test_output_of_what_is_not_there_or_not_wanted_is_dropped(running: Any) -> None:
    assert running.do(ev.OutputTold(ComputationId("b"), OUTPUT)) == []
    running.lose()
    running.connect(2)
    running.reconcile(2, a=[2])
    assert running.do(TOLD) == []
