"""Jobs in processes that are not forked: what the founding document says of systems that have no fork."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy
from dispy.errors import JobCancelled, JobMemoryExceeded, JobTimeout

Make = Callable[..., dispy.JobCluster]
LARGE = bytes(range(256)) * 8192  # 2 MiB
ISOLATIONS = pytest.mark.parametrize("isolation", ["process", "worker"])


@pytest.fixture
def cluster_of(node: Any) -> Iterator[Make]:
    """Make clusters on one node that do not fork; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        cluster = dispy.JobCluster(computation, nodes=[node.address], start_method="spawn", **options)
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


class C:
    def __init__(self, i: int, n: float) -> None:
        self.i = i
        self.n = n

    def show(self) -> str:
        return f"{self.i}: {self.n:.2f}"


def test_instances_of_a_shipped_class(cluster_of: Make) -> None:
    """Example 4."""

    def compute(obj: C) -> tuple[str, bool, C]:
        time.sleep(obj.n)
        print(obj.show())
        return obj.show(), type(obj) is C, obj

    cluster = cluster_of(compute, depends=[C])
    jobs = [cluster.submit(C(i, 0.01)) for i in range(4)]
    for i, job in enumerate(jobs):
        text, is_shipped, obj = job()
        assert (text, is_shipped, type(obj), obj.i) == (f"{i}: 0.01", True, C, i)
        assert job.stdout == f"{i}: 0.01\n"


@ISOLATIONS
def test_what_setup_keeps_in_files_and_what_can_be_sent(
    cluster_of: Make, tmp_path: Path, isolation: str
) -> None:
    """Example 5, which the original could run without fork only if the file stayed one."""
    (tmp_path / "file.dat").write_bytes(b"content")

    def setup() -> int:
        global data, hashlib
        import hashlib

        with open("file.dat", "rb") as file:
            data = file.read()
        with open("prepared", "wb") as file:
            file.write(data.upper())
        os.environ["PREPARED"] = "yes"
        return 0

    def cleanup() -> None:
        del globals()["data"]

    def compute(n: int) -> tuple[str, bytes, str | None]:
        with open("prepared", "rb") as file:
            return hashlib.sha256(data).hexdigest(), file.read(), os.environ.get("PREPARED")

    path = str(tmp_path / "file.dat")
    cluster = cluster_of(compute, depends=[path], setup=setup, cleanup=cleanup, isolation=isolation)
    expected = (hashlib.sha256(b"content").hexdigest(), b"CONTENT", "yes")
    assert [cluster.submit(i)() for i in range(3)] == [expected] * 3


def test_shared_variables_are_not_there_but_those_of_a_manager_are(cluster_of: Make) -> None:
    """Example 6, which the founding document excludes without fork."""

    def setup() -> int:
        global shvar, manager, served
        shvar = multiprocessing.Value("i", 1)
        manager = multiprocessing.Manager()
        served = manager.list()
        return 0

    def compute(of_manager: bool) -> int:
        if of_manager:
            served.append(1)  # type: ignore[name-defined]
            return len(served)  # type: ignore[name-defined]
        return int(shvar.value)  # type: ignore[name-defined]

    cluster = cluster_of(compute, setup=setup)
    assert [cluster.submit(True)() for _ in range(3)] == [1, 2, 3]
    failed = cluster.submit(False)
    failed()
    assert failed.status == dispy.DispyJob.Terminated
    assert "setup has set 'shvar', which jobs that are not forked" in failed.exception


@ISOLATIONS
def test_a_job_can_be_cancelled_and_limited_and_can_die(cluster_of: Make, isolation: str) -> None:
    def compute(what: str) -> str:
        print("begun", flush=True)
        if what == "wait":
            time.sleep(300)
        elif what == "fill":
            kept = []
            while True:
                kept.append(bytearray(b"x") * 5_000_000)
                time.sleep(0.005)
        elif what == "spin":
            while True:
                pass
        elif what == "die":
            os._exit(7)
        return what

    cluster = cluster_of(compute, isolation=isolation)
    job = cluster.submit("wait")
    while job.status != dispy.DispyJob.Running:
        time.sleep(0.01)
    time.sleep(0.2)
    assert cluster.cancel(job) == 0
    job()
    assert isinstance(job.error, JobCancelled)
    assert (job.status, job.stdout) == (dispy.DispyJob.Terminated, "begun\n")
    late = cluster.options(timeout=0.3).submit("wait")
    late()
    assert isinstance(late.error, JobTimeout)
    assert late.stdout == "begun\n"
    if sys.platform == "linux":  # others do not tell what jobs use
        large = cluster.options(memory="80MB").submit("fill")
        busy = cluster.options(cpu_time=0.2).submit("spin")
        assert (large.wait(30), busy.wait(30)) == (True, True)
        assert (type(large.error), type(busy.error)) == (JobMemoryExceeded, JobTimeout)
    dead = cluster.submit("die")
    dead()
    assert "status 7" in dead.exception
    assert cluster.submit("go on")() == "go on"


def test_a_job_sends_results_and_files_while_it_runs(
    cluster_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compute(name: str) -> int:
        with open(name, "w") as file:
            file.write("text")
        from dispy.job import provisional_result, send_file

        return provisional_result("half") + send_file(name)

    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []
    cluster = cluster_of(compute, job_status=lambda job: seen.append(job.result), isolation="worker")
    assert cluster.submit("made")() == 0
    cluster.wait()
    assert seen == ["half", 0]
    assert (tmp_path / "made").read_text() == "text"


@ISOLATIONS
def test_output_is_seen_and_records_are_handled_while_a_job_runs(
    cluster_of: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, isolation: str
) -> None:
    def compute(gate: str) -> None:
        logging.getLogger("test.spawn").info("begun")
        print("from Python")
        ctypes.CDLL(None).printf(b"from C\n")
        deadline = time.monotonic() + 20
        while not os.path.exists(gate) and time.monotonic() < deadline:
            time.sleep(0.01)
        print("the end")

    cluster = cluster_of(compute, isolation=isolation, forward_logs=logging.INFO)
    for number in range(2):
        gate = tmp_path / str(number)
        job = cluster.submit(str(gate))
        tail = job.tail(timeout=15)
        text = ""
        while not ("Python" in text and "C\n" in text):
            text += next(tail)
        assert not job.finish.is_set()
        gate.touch()
        assert text + "".join(tail) == job.stdout
        assert job.stdout.endswith("the end\n")
        records = [record for record in caplog.records if getattr(record, "dispy_job", None) is job]
        assert [(one.name, one.getMessage()) for one in records] == [("test.spawn", "begun")]


@ISOLATIONS
def test_shared_data_and_what_a_job_brings_along(
    cluster_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    def compute(ref: Any, again: Any, large: bytes, path: str) -> tuple[int, bool, int, str, int]:
        with open(path) as file:
            return len(ref["data"]), again is ref, len(large), file.read(), prepared  # type: ignore[name-defined]

    def setup() -> int:
        global prepared
        prepared = 5
        return 0

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_text("its own")
    cluster = cluster_of(compute, isolation=isolation, setup=setup)
    ref = cluster.put({"data": LARGE})
    jobs = [cluster.submit(ref, ref, LARGE, "own.txt", dispy_job_depends=["own.txt"]) for _ in range(3)]
    assert [job() for job in jobs] == [(len(LARGE), True, len(LARGE), "its own", 5)] * 3, jobs[0].exception
    (node,) = cluster.status().nodes
    assert node.tx < 2.5 * len(LARGE)


def test_a_program(cluster_of: Make, tmp_path: Path) -> None:
    path = tmp_path / "program.sh"
    path.write_text("#!/bin/sh\necho $1 $dispy_node_name\nexit 3\n")
    path.chmod(0o755)
    job = cluster_of(str(path)).submit("word")
    job()
    assert job.stdout.startswith(b"word ")
    assert job.result == 3
