"""What jobs print and log, seen while they run."""

from __future__ import annotations

import ctypes
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy


@pytest.fixture
def cluster_of(node: Any, tmp_path: Path) -> Iterator[Callable[..., dispy.JobCluster]]:
    """Make clusters on one node; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        clusters.append(dispy.JobCluster(computation, nodes=[node.address], **options))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


def talk(gate: str) -> None:
    """Print in all ways; go on when the file *gate* is there, which is when all has been seen."""
    print("from Python")
    ctypes.CDLL(None).printf(b"from C\n")
    subprocess.run(["echo", "from a child"], check=True)
    os.write(2, "half ü".encode()[:-1])
    deadline = time.monotonic() + 20
    while not os.path.exists(gate) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.write(2, "ü".encode()[-1:])
    print("the end")


@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_output_is_seen_before_the_job_ends(
    cluster_of: Callable[..., Any], tmp_path: Path, isolation: str
) -> None:
    seen: list[tuple[str, str]] = []
    cluster = cluster_of(
        talk, isolation=isolation, on_output=lambda job, stream, text: seen.append((stream, text))
    )
    job = cluster.submit(str(tmp_path / "gate"))
    text = ""
    tail = job.tail(timeout=15)
    for piece in tail:
        text += piece
        if "Python" in text and "C\n" in text and "child" in text:
            break
    assert not job.finish.is_set()
    late = job.tail("stderr", timeout=15)
    assert next(late) == "half "
    (tmp_path / "gate").touch()
    assert "".join(late) == "ü"
    assert text + "".join(tail) == job.stdout == "".join(job.tail())
    assert job.stdout.endswith("the end\n")
    cluster.wait(timeout=15)
    assert "".join(text for stream, text in seen if stream == "stdout") == job.stdout
    assert "".join(text for stream, text in seen if stream == "stderr") == job.stderr == "half ü"


def test_programs_in_python_hold_nothing_back(cluster_of: Callable[..., Any], tmp_path: Path) -> None:
    program, gate = tmp_path / "talk.py", tmp_path / "gate"
    program.write_text(
        "import os, sys, time\nprint('begin')\nend = time.time() + 20\n"
        "while not os.path.exists(sys.argv[1]) and time.time() < end: time.sleep(0.01)\nprint('end')\n"
    )
    seen: list[str] = []

    def note(job: dispy.DispyJob, stream: str, text: str) -> None:
        seen.append(text)
        gate.touch()

    job = cluster_of(str(program), on_output=note).submit(str(gate))
    assert "".join(job.tail(timeout=15)) == "begin\nend\n"
    assert "".join(seen[:2]).startswith("begin")  # without that, there is no end
    assert (job(), job.stdout) == (0, b"begin\nend\n")


def flood(count: int) -> None:
    for number in range(count):
        print(f"{number:09d}" + "x" * 990)


def test_more_than_can_be_sent_is_left_out_with_a_mark(cluster_of: Callable[..., Any]) -> None:
    job = cluster_of(flood).submit(12_000)
    text = "".join(job.tail(timeout=30))
    assert "bytes of output dropped" in job.stdout
    assert text[:1_000_000] == job.stdout[:1_000_000]
    assert text[-1_000_000:] == job.stdout[-1_000_000:]


def note_down(number: int) -> None:
    log = logging.getLogger("test.live")
    log.debug("not wanted")
    log.info("number %d", number)
    try:
        raise ValueError("oh")
    except ValueError:
        log.exception("failed")


def test_records_are_handled_here(cluster_of: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    cluster = cluster_of(note_down, isolation="worker", forward_logs=logging.INFO)
    jobs = [cluster.submit(number) for number in range(20)]
    assert cluster.wait(timeout=30)
    for number, job in enumerate(jobs):
        records = [record for record in caplog.records if getattr(record, "dispy_job", None) is job]
        assert [(one.name, one.levelname, one.getMessage()) for one in records] == [
            ("test.live", "INFO", f"number {number}"),
            ("test.live", "ERROR", "failed"),
        ]
        assert "ValueError: oh" in records[1].exc_text
        assert records[0].dispy_node == job.node
