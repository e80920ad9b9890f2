"""Runs of whole clusters: the same code as in production, but for sockets, processes and clocks.

``DISPY_SIMULATION_RUNS`` is how many seeds are run (the nox session ``property_deep`` runs 10 000).
"""

from __future__ import annotations

import os
import re

import pytest

from dispy_testing.simulation import LinkKind, SimulationFailure, Size, World, simulate
from dispy_testing.simulation.truth import Truth

RUNS = int(os.environ.get("DISPY_SIMULATION_RUNS", "200"))


@pytest.mark.hypothesis
@pytest.mark.parametrize("seed", range(RUNS))
def test_seed(seed: int) -> None:
    simulate(seed)


@pytest.mark.parametrize("kind", list(LinkKind))
def test_same_seed_is_the_same_run(kind: LinkKind) -> None:
    first, second = (simulate(5, Size(kind=kind, nodes=3, jobs=40)) for _ in range(2))
    assert first.mark == second.mark
    assert simulate(6, Size(kind=kind, nodes=3, jobs=40)).mark != first.mark


def test_hundred_nodes() -> None:
    size = Size(nodes=100, jobs=300, kind=LinkKind.MESSAGES, horizon_s=60.0, job_s=30.0, calm=True)
    outcome = simulate(1, size)
    assert outcome.jobs == 300
    assert outcome.nodes >= 100
    assert outcome.statuses.total() == 300


def test_failure_tells_seed_command_and_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Truth, "check_ends", lambda self: 1 / 0)
    size = Size(nodes=2, jobs=5, kind=LinkKind.WIRE, horizon_s=5.0)
    with pytest.raises(SimulationFailure) as caught:
        World(3, size).run()
    text = str(caught.value)
    assert text.startswith("seed 3: ZeroDivisionError")
    assert "--seed 3 --nodes 2 --jobs 5 --links wire --horizon 5" in text
    assert re.search(r"^ +\d+\.\d+ [cn]\d ", text, re.MULTILINE), "no line of its story"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize("kind", [LinkKind.MESSAGES, LinkKind.WIRE])
def test_files_go_on_where_links_break(kind: LinkKind) -> None:
    size = Size(nodes=3, jobs=20, kind=kind, horizon_s=30.0)
    assert any(simulate(seed, size).resumed for seed in range(100))


def test_runs_have_jobs_taken_back() -> None:
    """Else nothing of what may go wrong with that would be found."""
    size = Size(nodes=5, jobs=120, kind=LinkKind.MESSAGES, horizon_s=10.0)
    counts = [simulate(seed, size).recalled for seed in range(12)]
    assert sum(count > 0 for count in counts) >= 3
    assert sum(counts) >= 20
