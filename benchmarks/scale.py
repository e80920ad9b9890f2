"""How the scheduler grows with the number of nodes: simulated ones in virtual time, and real ones on this machine.

    python benchmarks/scale.py busy [LENGTH ...]   1000 simulated nodes with 4 slots each, jobs of LENGTH seconds
    python benchmarks/scale.py cost                the same load on each slot with 1, 10, 100 and 1000 nodes
    python benchmarks/scale.py nodes [NUMBER]      real nodes on loopback, one client, 10 000 jobs

`busy` and `cost` run the real engine of the scheduler against the model nodes of `benchmarks/balance.py`, 1 to 50 ms
away. *Core* is processor time of the engine for each second of virtual time: below 1, one core keeps up. It is without
the work of the links, which `nodes` has: `idle` there is the processor time of a client that does nothing but keep its
connections, in parts of a core. *Memory* is the peak of the whole process, model nodes and all jobs included.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import run

SLOTS = 4
LENGTHS_S = (0.1, 0.3, 1.0)
SIZES = (1, 10, 100, 1000)
JOBS_MAX = 300_000
JOBS_EACH_SLOT = 50
COST_S = 0.1
REAL_JOBS = 10_000
IDLE_S = 10.0


def simulate(nodes: int, length_s: float) -> dict[str, float]:
    """Run equal jobs on nodes that differ only in how far they are away."""
    from dispy_testing.simulation.balance import Balance, Machine

    rng = random.Random(nodes)
    machines = [Machine(SLOTS, 1.0, rng.uniform(0.001, 0.05)) for _ in range(nodes)]
    count = min(JOBS_MAX, nodes * SLOTS * JOBS_EACH_SLOT)
    if length_s >= 1.0:
        count = min(count, nodes * SLOTS * 15)
    out = Balance(machines, [length_s] * count, clock=time.process_time).run()
    return {
        "nodes": nodes,
        "length": length_s,
        "jobs": count,
        "busy": out.busy_share,
        "core": out.engine_s / out.makespan_s,
        "us": out.engine_s / count * 1e6,
        "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_process(*words: object) -> dict[str, float]:
    """Run a part of this file in a process of its own, as memory is that of a process."""
    command = [sys.executable, str(Path(__file__)), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def table(cases: list[tuple[int, float]]) -> None:
    """Print a row for each (nodes, length)."""
    print("| nodes | slots | length | jobs | busy | core | engine, each job | memory |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for nodes, length_s in cases:
        row = in_process("simulate", nodes, length_s)
        print(
            f"| {nodes} | {nodes * SLOTS} | {length_s:g} s | {row['jobs']} | {row['busy']:.1%} | {row['core']:.2f} "
            f"| {row['us']:.1f} us | {row['mb']:.0f} MB |",
            flush=True,
        )


def noop(number: int) -> int:
    """Do nothing."""
    return number


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def be_client(addresses: list[str]) -> dict[str, float]:
    """Use nodes: connect, run jobs, then do nothing for a while."""
    import dispy

    began = time.perf_counter()
    with dispy.JobCluster(noop, nodes=addresses, isolation="worker") as cluster:
        cluster.wait_for_nodes(len(addresses), timeout=300)
        usable_s, connect_s = time.perf_counter() - began, _used_s()
        began = time.perf_counter()
        jobs = [cluster.submit(number) for number in range(REAL_JOBS)]
        assert [job() for job in jobs] == list(range(REAL_JOBS))
        jobs_s, work_s = time.perf_counter() - began, _used_s() - connect_s
        before_s = _used_s()
        time.sleep(IDLE_S)
        idle = (_used_s() - before_s) / IDLE_S
    return {
        "all nodes usable s": usable_s,
        "client CPU until then s": connect_s,
        "jobs done s": jobs_s,
        "jobs/s": REAL_JOBS / jobs_s,
        "client CPU for a job us": work_s / REAL_JOBS * 1e6,
        "client CPU idle, cores": idle,
        "client memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def real_nodes(number: int) -> None:
    """Start nodes, each on a port and in a folder of its own, all with one key, and print what a client sees."""
    os.environ["DISPY_INTERFACES"] = "lo"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DISPY_CONFIG_DIR"] = folder
        began = time.perf_counter()
        nodes = [run.Node()]  # makes the key
        try:
            with ThreadPoolExecutor(4) as starters:
                nodes += starters.map(lambda _: run.Node(), range(number - 1))
            print(f"{number} nodes started in {time.perf_counter() - began:.1f} s")
            figures = in_process("client", *(node.address for node in nodes))
            for name, value in figures.items():
                print(f"{name:26} {value:10.4g}")
        finally:
            for node in nodes:
                node.process.terminate()
            for node in nodes:
                node.close()


def main(words: list[str]) -> None:
    """Do what the command line says."""
    match words:
        case ["busy", *lengths]:
            table([(SIZES[-1], length_s) for length_s in map(float, lengths or LENGTHS_S)])
        case ["cost"]:
            table([(nodes, COST_S) for nodes in SIZES])
        case ["nodes", *number]:
            real_nodes(int(number[0]) if number else 100)
        case ["simulate", nodes, length_s]:
            print(json.dumps(simulate(int(nodes), float(length_s))))
        case ["client", *addresses]:
            print(json.dumps(be_client(addresses)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
