"""Limits of jobs at a real node: for functions in both kinds of processes, and for programs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy
from dispy.errors import JobKilled, JobLimitExceeded, JobMemoryExceeded, JobTimeout

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what jobs use")
ISOLATIONS = pytest.mark.parametrize("isolation", ["process", "worker"])
PATIENCE_S = 30
BOMB = 200
"""Processes of a fork bomb; it ends by itself with so many."""

Make = Callable[..., dispy.JobCluster]


@pytest.fixture
def cluster_of(node: Any) -> Iterator[Make]:
    """Make clusters on one node; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        clusters.append(dispy.JobCluster(computation, nodes=[node.address], **options))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


def sleep() -> None:
    import time

    print("so far")
    time.sleep(60)


def spin_below() -> None:
    import subprocess
    import sys

    print("so far")
    subprocess.run(["setsid", "-w", sys.executable, "-S", "-c", "while True: pass"], check=False)


def fill() -> None:
    import time

    print("so far")
    kept = []
    while True:
        kept.append(bytearray(b"x") * 5_000_000)
        time.sleep(0.005)


def explode(bomb: int, path: str) -> None:
    import os
    import time

    print("so far", flush=True)
    with open(path, "ab", buffering=0) as file:
        while os.fstat(file.fileno()).st_size < bomb:
            file.write(b".")
            os.fork()
    time.sleep(60)


def kill_itself() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


@ISOLATIONS
def test_functions(cluster_of: Make, isolation: str, tmp_path: Path) -> None:
    def compute(how: Callable[..., Any], *args: Any) -> Any:
        return how(*args)

    cluster = cluster_of(compute, isolation=isolation, timeout=50)
    jobs = [
        cluster.options(timeout=0.3).submit(sleep),
        cluster.options(cpu_time=0.2).submit(spin_below),
        cluster.options(memory="80MB").submit(fill),
        cluster.options(processes=BOMB // 4).submit(explode, BOMB, str(tmp_path / "bomb")),
        cluster.submit(kill_itself),
        cluster.submit(len, "after"),
    ]
    assert all(job.wait(PATIENCE_S) for job in jobs)
    kinds = [JobTimeout, JobTimeout, JobMemoryExceeded, JobLimitExceeded, JobKilled, type(None)]
    assert [type(job.error) for job in jobs] == kinds
    assert [job.error.limit for job in jobs[:4]] == ["timeout", "cpu_time", "memory", "processes"]
    assert {job.status for job in jobs[:5]} == {dispy.DispyJob.Terminated}
    assert [job.stdout for job in jobs[:4] if job is not jobs[2]] == 3 * ["so far\n"]
    assert jobs[2].stdout in ("so far\n", ""), "it was interrupted, or on a slow machine killed at once"
    assert jobs[5].result == 5


def test_programs(cluster_of: Make) -> None:
    script = cluster_of("/bin/sh").options(processes=20)
    late = script.options(timeout=0.3).submit("-c", "echo so far; setsid sleep 60 & wait")
    busy = script.options(cpu_time=0.2).submit("-c", "while :; do :; done")
    many = script.submit("-c", "for i in $(seq 40); do sleep 60 & done; wait")
    after = script.submit("-c", "exit 3")
    assert all(job.wait(PATIENCE_S) for job in (late, busy, many, after))
    assert [type(job.error) for job in (late, busy, many)] == [JobTimeout, JobTimeout, JobLimitExceeded]
    assert late.stdout == b"so far\n"
    assert (after.status, after.result) == (dispy.DispyJob.Finished, 3)


@ISOLATIONS
def test_much_output_takes_little_memory_and_time(cluster_of: Make, isolation: str) -> None:
    def talk(count: int) -> int:
        import os

        line = b"x" * 99 + b"\n"
        for _ in range(count // 10_000):
            os.write(1, line * 100)
        with open(f"/proc/{os.getppid()}/status") as file:
            return next(int(row.split()[1]) for row in file if row.startswith("VmHWM"))

    cluster = cluster_of(talk, isolation=isolation)
    before_kb = cluster.submit(0)()
    began = time.monotonic()
    job = cluster.submit(200_000_000)
    assert job.wait(PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert job.result is not None
    assert job.result - before_kb < 60_000, "of which 20 MB are what is kept, while it is put together"
    assert isinstance(job.stdout, str)
    assert len(job.stdout) < 10_000_200
    assert "bytes of output dropped" in job.stdout
