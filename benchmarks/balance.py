"""How evenly work is shared out, and what the scheduler takes for it, in virtual time.

Prints, for each cluster and mix of jobs: the time until all jobs are done next to that of list scheduling without any
network, the share of slots that are busy, how many jobs were taken back, and the processor time of the scheduler's
engine for each job.

    python benchmarks/balance.py [NODES ...]
    python benchmarks/balance.py tails         a run that is not longer than its longest job, with several seeds
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from dispy_testing.simulation.balance import Balance, list_makespan, make_machines

Mix = Callable[[random.Random], float]

MIXES: dict[str, Mix] = {
    "bimodal 10 ms / 10 s": lambda rng: 0.01 if rng.random() < 0.9 else 10.0,
    "lognormal, median 0.3 s": lambda rng: min(5.0, rng.lognormvariate(-1.2, 1.0)),
    "1 s": lambda rng: 1.0,
    "no-op, 3 ms": lambda rng: 0.003,
}

JOBS_MAX = 250_000
JOBS_FOR_EACH_SLOT = {"no-op, 3 ms": 1000, "bimodal 10 ms / 10 s": 60, "lognormal, median 0.3 s": 60}


def measure(nodes: int, mix: str) -> str:
    """Run one; give a row of a table."""
    rng = random.Random(nodes)
    machines = make_machines(nodes, rng)
    slots = sum(machine.slots for machine in machines)
    count = min(JOBS_MAX, slots * JOBS_FOR_EACH_SLOT.get(mix, 20))
    durations = [MIXES[mix](rng) for _ in range(count)]
    bound_s = list_makespan(machines, durations)
    out = Balance(machines, durations, clock=time.process_time).run()
    each_us = out.engine_s / count * 1e6
    return (
        f"| {mix} | {nodes} | {slots} | {count} | {out.makespan_s:.2f} s | {bound_s:.2f} s "
        f"| {out.makespan_s / bound_s:.3f} | {out.busy_share:.1%} | {out.recalled} | {each_us:.1f} us |"
    )


def tails() -> None:
    """Show by how much list scheduling itself changes if next to nothing about the nodes does."""
    for seed in range(6):
        rng = random.Random(1000 + seed)
        machines = make_machines(100, rng)
        durations = [
            min(30.0, rng.lognormvariate(-1.2, 1.5))
            for machine in machines
            for _ in range(20 * machine.slots)
        ]
        bounds = []
        for other in range(8):
            mixed = random.Random(other).sample(machines, len(machines))
            change = random.Random(100 + other)
            mixed = [replace(one, speed=one.speed * change.uniform(0.999, 1.001)) for one in mixed]
            bounds.append(list_makespan(mixed, durations))
        bound_s = list_makespan(machines, durations)
        took_s = Balance(machines, durations).run().makespan_s
        print(
            f"seed {seed}: {took_s:.2f} s, list scheduling {bound_s:.2f} s, ratio {took_s / bound_s:.2f}; in "
            f"other orders of nodes, as fast to a thousandth, list scheduling {min(bounds):.2f} - {max(bounds):.2f}",
            flush=True,
        )


def main() -> None:
    """Print a table."""
    if sys.argv[1:] == ["tails"]:
        tails()
        return
    sizes = [int(text) for text in sys.argv[1:]] or [1, 10, 100, 1000]
    print(
        "| jobs | nodes | slots | number | time | list scheduling | ratio | busy | taken back | engine, each job |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for mix in MIXES:
        for nodes in sizes:
            print(measure(nodes, mix), flush=True)


if __name__ == "__main__":
    main()
