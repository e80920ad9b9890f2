"""Run the simulator from the command line: ``python -m dispy_testing.simulation --runs 1000``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from time import perf_counter

from dispy_testing.simulation.scenario import LinkKind, Size
from dispy_testing.simulation.story import SimulationFailure
from dispy_testing.simulation.world import World


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dispy_testing.simulation", description="Simulate clusters in which things go wrong."
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the first run (default: 0)")
    parser.add_argument("--runs", type=int, default=1, help="runs, each with the next seed (default: 1)")
    parser.add_argument("--nodes", type=int, default=0, help="nodes; left to the seed if not given")
    parser.add_argument("--jobs", type=int, default=0, help="jobs; left to the seed if not given")
    parser.add_argument("--links", choices=[kind.value for kind in LinkKind], help="how messages travel")
    parser.add_argument("--horizon", type=float, default=0.0, help="virtual seconds in which things go wrong")
    parser.add_argument("--job-time", type=float, default=0.0, help="longest run time of a job in seconds")
    parser.add_argument(
        "--calm", action="store_true", help="only crashes, resets and partitions; no job fails"
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="begin no run after so long")
    parser.add_argument("--failures", type=int, default=1, help="stop after so many failures (default: 1)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; print a line for each if there are few, the failures, and a summary.

    Returns:
        How many runs failed, at most 1: a status for the shell.
    """
    logging.getLogger("dispy").setLevel(logging.CRITICAL)  # what goes wrong is meant to
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    kind = LinkKind(options.links) if options.links else None
    size = Size(options.nodes, options.jobs, kind, options.horizon, options.job_time, options.calm)
    began = perf_counter()
    faults: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    runs = failures = steps = starts = resumed = recalled = 0
    virtual_s = real_s = 0.0
    for seed in range(options.seed, options.seed + options.runs):
        if options.seconds and perf_counter() - began > options.seconds:
            break
        runs += 1
        try:
            outcome = World(seed, size).run()
        except SimulationFailure as failure:
            failures += 1
            print(failure, file=sys.stderr)
            cause: BaseException | None = failure.__cause__
            while cause is not None and cause.__traceback__ is not None:
                frame = cause.__traceback__
                while frame.tb_next is not None:
                    frame = frame.tb_next
                print(f"raised at {frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}", file=sys.stderr)
                cause = cause.__cause__
            if failures >= options.failures:
                break
            continue
        steps, starts = steps + outcome.steps, starts + outcome.starts
        resumed += outcome.resumed
        recalled += outcome.recalled
        virtual_s, real_s = virtual_s + outcome.virtual_s, real_s + outcome.real_s
        faults += outcome.faults
        ends += outcome.statuses
        if options.runs <= 10:
            print(
                f"seed {seed}: {outcome.kind}, {outcome.nodes} nodes, {outcome.jobs} jobs, "
                f"{outcome.messages} messages, {outcome.virtual_s:.0f} s in {outcome.real_s:.2f} s, mark {outcome.mark}"
            )
    print(
        f"{runs} runs, {failures} failed; {virtual_s:.0f} virtual seconds in {real_s:.1f} s "
        f"({virtual_s / max(real_s, 1e-9):.0f} times real time), {steps} steps, {starts} job starts, "
        f"{resumed} files gone on with, {recalled} jobs taken back"
    )
    print("faults:", ", ".join(f"{name} {count}" for name, count in sorted(faults.items())) or "none")
    print("jobs:", ", ".join(f"{name} {count}" for name, count in sorted(ends.items())) or "none")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
