"""``dispy run``, with a cluster that is none."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dispy
from dispy.errors import InvalidComputation
from dispy.model import JobStatus
from dispy.runtime import embedded
from dispy_cli import run as run_module
from dispy_cli.run import RunOptions, _node_timeout


@pytest.fixture
def cluster(fake_cluster: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the cluster that the command makes; its jobs print their arguments."""
    made = fake_cluster()
    monkeypatch.setattr(dispy, "JobCluster", made)
    return made


@pytest.fixture
def use_stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Give a function that decides what stands on standard input."""
    with contextlib.ExitStack() as stack:

        def use(data: bytes) -> None:
            ours, theirs = os.pipe()
            os.write(theirs, data)
            os.close(theirs)
            monkeypatch.setattr(run_module.sys, "stdin", stack.enter_context(os.fdopen(ours, "rb")))

        yield use


def make_options(**fields: Any) -> RunOptions:
    settings: dict[str, Any] = dict.fromkeys(["json", "verbose", "quiet", "debug"], False)
    settings |= {
        "program": "p",
        "args": ("",),
        "file": (),
        "nodes": (),
        "dispy_port": None,
        "wait_nodes": None,
    }
    return RunOptions(**(settings | fields))


def test_output_comes_in_order_and_a_summary_on_stderr(
    run_dispy: Callable[..., int], cluster: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run_dispy("run", "-a", "b 2", "-a", "a 1", "-a", "", "/some/program") == 0
    told = capsysbinary.readouterr()
    assert told.out == b"b 2\na 1\n\n"
    assert told.err.startswith(b"dispy: 3 jobs, none failed, ")
    assert cluster.closings == [(None, False)]
    assert cluster.made_with == {
        "computation": "/some/program",
        "nodes": None,
        "depends": [],
        "dispy_port": None,
    }


def test_options_reach_the_cluster(run_dispy: Callable[..., int], cluster: Any, tmp_path: Any) -> None:
    file = tmp_path / "data"
    file.touch()
    options = ["-n", "one", "--nodes", "two:77", "-f", str(file), "--dispy_port", "9000"]
    assert run_dispy("run", *options, "-a", "", "prog") == 0
    assert cluster.made_with == {
        "computation": "prog",
        "nodes": ["one", "two:77"],
        "depends": [str(file)],
        "dispy_port": 9000,
    }
    assert run_dispy("run", "--dispy-port", "9002", "-a", "", "prog") == 0
    assert cluster.made_with["dispy_port"] == 9002


def test_failed_jobs_are_status_1_and_told(
    run_dispy: Callable[..., int], cluster: Any, fake_job: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    cluster.make_job = lambda *args: fake_job(args, result=int(args[0]), stderr=b"warned\n")
    assert run_dispy("run", "-a", "0", "-a", "2", "prog") == 1
    told = capsysbinary.readouterr()
    assert told.out == b""
    assert told.err.startswith(b"warned\nwarned\ndispy: job 2 (2): exit status 2\ndispy: 2 jobs, 1 failed, ")


def test_quiet_leaves_what_the_jobs_wrote(
    run_dispy: Callable[..., int], cluster: Any, fake_job: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    cluster.make_job = lambda *args: fake_job(args, result=2, stdout=b"out", stderr=b"err")
    assert run_dispy("run", "-q", "-a", "0", "prog") == 1
    assert capsysbinary.readouterr() == (b"out", b"err")


def test_verbose_writes_headings(
    run_dispy: Callable[..., int], cluster: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run_dispy("run", "-v", "-a", "x y", "prog") == 0
    assert capsysbinary.readouterr().out == b"--- job 1 (x y): exit status 0 at node1, 0.50 s\nx y\n"


def test_json_is_one_object_for_each_job(
    run_dispy: Callable[..., int], cluster: Any, fake_job: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    cluster.make_job = lambda *args: fake_job(args, stderr=b"e", result=0 if args == ("a",) else 4)
    assert run_dispy("run", "--json", "-q", "-a", "a", "-a", "b c", "prog") == 1
    told = capsysbinary.readouterr()
    first, second = [json.loads(line) for line in told.out.splitlines()]
    assert (first["job"], first["arguments"], first["exit_status"]) == (1, ["a"], 0)
    assert (second["job"], second["arguments"], second["exit_status"]) == (2, ["b", "c"], 4)
    assert first["stderr"] == "e"
    assert told.err == b""


def test_lines_of_stdin_are_jobs(
    run_dispy: Callable[..., int],
    cluster: Any,
    use_stdin: Callable[[bytes], None],
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    use_stdin(b"a b\n\n  \n'c d'\nlast")
    assert run_dispy("run", "-a", "-", "prog") == 0
    assert [job.args for job in cluster.jobs] == [("a", "b"), ("c d",), ("last",)]
    assert capsysbinary.readouterr().out == b"a b\nc d\nlast\n"


def test_bad_line_of_stdin_ends_the_run(
    run_dispy: Callable[..., int],
    cluster: Any,
    use_stdin: Callable[[bytes], None],
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    use_stdin(b"good\ndon't\n")
    assert run_dispy("run", "-a", "-", "prog") == 2
    told = capsysbinary.readouterr()
    assert told.out == b"good\n"
    assert told.err.startswith(b"dispy: line 2 of standard input: ")
    assert cluster.closings == [(0, True)]


def test_unreadable_stdin_is_told(
    run_dispy: Callable[..., int],
    cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
    tmp_path: Any,
) -> None:
    class Folder:
        def fileno(self) -> int:
            return self.descriptor

        descriptor = os.open(tmp_path, os.O_RDONLY)

    monkeypatch.setattr(run_module.sys, "stdin", Folder())
    try:
        assert run_dispy("run", "-a", "-", "prog") == 1
    finally:
        os.close(Folder.descriptor)
    assert capsysbinary.readouterr().err.startswith(b"dispy: standard input cannot be read: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["prog"], b"nothing to run: give -a"),
        (["-a", "don't", "prog"], b"without a partner"),
        (["-a", "-", "-a", "-", "prog"], b"only once"),
        (["-a", "x"], b"Missing argument"),
        (["-a", "x", "prog", "more"], b"unexpected extra argument"),
        (["-a", "x", "-f", "/no/such/file", "prog"], b"/no/such/file"),
        (["-a", "x", "-p", "0", "prog"], b"-p"),
        (["-a", "x", "--wait-nodes", "-1", "prog"], b"--wait-nodes"),
        (["-c", "-a", "x", "prog"], b"-c"),
    ],
)
def test_wrong_usage_is_status_2_and_starts_nothing(
    run_dispy: Callable[..., int],
    cluster: Any,
    capsysbinary: pytest.CaptureFixture[bytes],
    options: list[str],
    message: bytes,
) -> None:
    assert run_dispy("run", *options) == 2
    assert message in capsysbinary.readouterr().err
    assert cluster.made_with == {}


def test_program_that_is_not_there_is_status_2(
    run_dispy: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise InvalidComputation("no such program: 'prog'")

    monkeypatch.setattr(dispy, "JobCluster", refuse)
    assert run_dispy("run", "-a", "x", "prog") == 2
    assert capsysbinary.readouterr().err == b"dispy: no such program: 'prog'\n"


def test_no_nodes_is_status_3(
    run_dispy: Callable[..., int],
    cluster: Any,
    fake_job: Any,
    capsysbinary: pytest.CaptureFixture[bytes],
) -> None:
    cluster.nodes = []
    cluster.make_job = lambda *args: fake_job(args, is_over=False)
    assert run_dispy("run", "-n", "nowhere", "--wait-nodes", "0", "-a", "x", "prog") == 3
    assert capsysbinary.readouterr().err == b"dispy: no usable node within 0 s: nobody is there\n"
    assert cluster.closings == [(0, True)]


@pytest.mark.parametrize(
    ("fields", "is_available", "timeout_s"),
    [
        ({}, True, math.inf),
        ({}, False, 10.0),
        ({"nodes": ("one",)}, True, 10.0),
        ({"nodes": ("one",), "wait_nodes": 3.0}, True, 3.0),
        ({"wait_nodes": 3.0}, True, 3.0),
    ],
)
def test_nodes_are_waited_for_as_long_as_makes_sense(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], is_available: bool, timeout_s: float
) -> None:
    monkeypatch.setattr(embedded, "is_available", lambda: is_available)
    assert _node_timeout(make_options(**fields)) == timeout_s


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupt_ends_the_jobs(
    run_dispy: Callable[..., int],
    cluster: Any,
    fake_job: Any,
    capsysbinary: pytest.CaptureFixture[bytes],
    number: signal.Signals,
    status: int,
) -> None:
    class Interrupting(type(fake_job())):  # type: ignore[misc]
        def wait(self, timeout: float | None = None) -> bool:
            signal.raise_signal(number)
            return False

    jobs = [fake_job(stdout=b"done\n"), Interrupting(is_over=False)]
    cluster.make_job = lambda *args: jobs[int(args[0])]
    assert run_dispy("run", "-a", "0", "-a", "1", "prog") == status
    told = capsysbinary.readouterr()
    assert told.out == b"done\n"
    assert b"dispy: interrupted after 1 job, none failed, " in told.err
    assert cluster.closings == [(0, True)]


def test_job_that_was_lost_is_a_failure(
    run_dispy: Callable[..., int], cluster: Any, fake_job: Any, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    cluster.make_job = lambda *args: fake_job(
        args, status=JobStatus.ABANDONED, result=None, exception="node gone", node=None
    )
    assert run_dispy("run", "-a", "x", "prog") == 1
    assert b"dispy: job 1 (x): abandoned: node gone\n" in capsysbinary.readouterr().err


def test_debug_shows_more(run_dispy: Callable[..., int], cluster: Any) -> None:
    assert run_dispy("run", "-a", "x", "prog") == 0
    assert dispy.logger.level == dispy.logger.WARNING
    assert run_dispy("run", "-d", "-a", "x", "prog") == 0
    assert dispy.logger.level == dispy.logger.DEBUG
