"""Work is shared out nearly as well as if nothing had to be sent, and engine and model agree about what runs."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from dispy_testing.simulation.balance import Balance, Machine, list_makespan, make_machines


def test_list_scheduling_gives_the_next_job_to_the_slot_that_is_free_first() -> None:
    machines = [Machine(1, 1.0, 0.01), Machine(1, 2.0, 0.01)]
    # The faster one takes the first of equals: 4 until 2, 3 until 3, then 4 from 2 until 4.
    assert list_makespan(machines, [4.0, 3.0, 4.0]) == 4.0
    assert list_makespan(machines, [4.0, 3.0, 4.0, 1.0]) == 4.0


def test_machines_are_unequal_and_the_same_for_a_seed() -> None:
    machines = make_machines(50, random.Random(1))
    assert machines == make_machines(50, random.Random(1))
    assert len({machine.slots for machine in machines}) > 3
    assert all(1.0 <= machine.speed <= 4.0 and 0.001 <= machine.latency_s <= 0.05 for machine in machines)


def test_jobs_that_wait_behind_a_long_one_are_done_elsewhere() -> None:
    """Short jobs have made all nodes get many ahead when a long one comes, and others behind it."""
    machines = [Machine(1, 1.0, 0.01) for _ in range(8)]
    durations = [0.005] * 2000 + [10.0] + [1.0] * 60
    outcomes = Balance(machines, durations).run()
    bound_s = list_makespan(machines, durations)
    assert outcomes.recalled > 0
    assert outcomes.makespan_s < 1.1 * bound_s, "some have waited behind the long one"


@pytest.mark.parametrize("nodes", [3, 10, 30])
@pytest.mark.parametrize(
    "mix",
    [
        pytest.param(lambda rng: 0.01 if rng.random() < 0.9 else 10.0, id="bimodal"),
        pytest.param(lambda rng: min(5.0, rng.lognormvariate(-1.2, 1.0)), id="lognormal"),
        pytest.param(lambda rng: 1.0, id="equal"),
    ],
)
def test_mixed_jobs_on_unequal_nodes_end_within_a_tenth_of_list_scheduling(
    nodes: int, mix: Callable[[random.Random], float]
) -> None:
    rng = random.Random(nodes)
    machines = make_machines(nodes, rng)
    durations = [mix(rng) for _ in range(30 * sum(machine.slots for machine in machines))]
    outcomes = Balance(machines, durations).run()
    work_s = sum(durations) / sum(machine.slots * machine.speed for machine in machines)
    last_s = max(durations) / min(machine.speed for machine in machines)
    assert outcomes.makespan_s <= 1.1 * (work_s + last_s), "beyond what list scheduling guarantees"
    assert outcomes.busy_share > 0.95


def test_short_jobs_keep_distant_nodes_busy() -> None:
    machines = [Machine(2, 1.0, 0.05) for _ in range(5)]
    outcomes = Balance(machines, [0.003] * 20_000).run()
    assert outcomes.busy_share > 0.95
    assert outcomes.makespan_s < 1.2 * list_makespan(machines, [0.003] * 20_000)
