"""Bad input at a real node: the tables of docs/bad-input.md, row by row."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from real_nodes import NodeProcess

import dispy
from dispy.errors import (
    JobBroken,
    JobDied,
    JobKilled,
    JobLimitExceeded,
    JobMemoryExceeded,
    JobTimeout,
    UsageError,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what jobs use")

DOC = Path(__file__).parents[2] / "docs" / "bad-input.md"
FREE_S = 10.0
PATIENCE_S = 60.0
DAEMON_KB = 20_000
FINISHED, TERMINATED = dispy.DispyJob.Finished, dispy.DispyJob.Terminated


def rows(heading: str) -> list[str]:
    """Give the first column of the table below a heading of the document."""
    part = DOC.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| (.*?) \|", part, re.MULTILINE)[2:]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One node for all tests here: none of them harms it."""
    node = NodeProcess(tmp_path_factory.mktemp("node"))
    yield node
    node.end()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's working directory."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def misbehave(how: str) -> Any:
    import ctypes
    import os
    import signal
    import sys
    import threading
    import time

    def send(path: str, *, make: bool = True) -> int:
        if make:
            with open(path, "w") as file:
                file.write("content")
        return dispy_send_file(path)  # type: ignore[name-defined, no-any-return]  # noqa: F821

    def change(stop: threading.Event) -> None:
        while not stop.wait(0.001):
            with open("changing", "ab") as file:
                file.write(b"more")

    if how == "segmentation fault":
        ctypes.string_at(0)
    if how == "`sys.exit`, `os._exit`":
        sys.exit(3)
    if how == "more memory than there is":
        return len(bytearray(1 << 60))
    if how == "more memory than its limit":
        kept = []
        while True:
            kept.append(bytearray(b"x") * 5_000_000)
            time.sleep(0.01)
    if how.startswith("fork bomb"):
        for _ in range(7):
            os.fork()
        time.sleep(60)
    if how == "ignores SIGINT and SIGTERM":
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(1)
    if how == "prints 10 GB":  # 50 MB do here
        for _ in range(50):
            os.write(1, b"x" * 1_000_000)
    if how == "result that cannot be pickled":
        return threading.Lock()
    if how == "intermediate result that cannot be pickled":
        dispy_provisional_result(threading.Lock())  # type: ignore[name-defined]  # noqa: F821
    if how == "sends a missing file":
        return send("missing", make=False)
    if how == "sends a folder":
        return send(".", make=False)
    if how == "sends a device or pipe":
        return send("/dev/zero", make=False)
    if how == "sends a name of 300 characters":
        return send("x" * 300, make=False)
    if how == "sends a name with control characters":
        return send("a\nb"), send("a\\b"), send(".hidden")
    if how == "sends a file that is being changed":
        with open("changing", "wb") as file:
            file.truncate(20_000_000)
        stop = threading.Event()
        writer = threading.Thread(target=change, args=(stop,))
        writer.start()
        try:
            return send("changing", make=False)
        finally:
            stop.set()
            writer.join()
    if how == "sends a file above the folder":
        return send("../above")
    if how == "sends a link to a file":
        os.symlink("/etc/hosts", "link")
        return send("link", make=False)
    return "well"


ENDS: dict[str, tuple[int, Any, dict[str, Any]]] = {
    "segmentation fault": (TERMINATED, JobKilled, {}),
    "`sys.exit`, `os._exit`": (TERMINATED, JobDied, {}),
    "more memory than there is": (TERMINATED, MemoryError, {}),
    "more memory than its limit": (TERMINATED, JobMemoryExceeded, {"memory": "100MB"}),
    "fork bomb with a limit of processes": (TERMINATED, JobLimitExceeded, {"processes": 20}),
    "fork bomb without one": (TERMINATED, JobTimeout, {"timeout": 0.5}),
    "ignores SIGINT and SIGTERM": (TERMINATED, JobTimeout, {"timeout": 0.5}),
    "prints 10 GB": (FINISHED, "well", {}),
    "result that cannot be pickled": (TERMINATED, JobBroken, {}),
    "intermediate result that cannot be pickled": (TERMINATED, TypeError, {}),
    "sends a missing file": (TERMINATED, FileNotFoundError, {}),
    "sends a folder": (TERMINATED, IsADirectoryError, {}),
    "sends a device or pipe": (TERMINATED, OSError, {}),
    "sends a name of 300 characters": (TERMINATED, OSError, {}),
    "sends a name with control characters": (FINISHED, (-1, -1, -1), {}),
    "sends a file that is being changed": (FINISHED, -1, {}),
    "sends a file above the folder": (FINISHED, 0, {}),
    "sends a link to a file": (FINISHED, 0, {}),
}


def memory_kb(node: NodeProcess) -> int:
    """Tell how much memory the daemon has had at most."""
    status = Path(f"/proc/{node.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def test_a_bad_job_harms_only_itself(node: NodeProcess, home: Path) -> None:
    assert [*ENDS] == rows("Jobs")
    with contextlib.ExitStack() as stack:
        clusters = [
            stack.enter_context(dispy.JobCluster(misbehave, nodes=[node.address], isolation=isolation))
            for isolation in ("process", "worker")
        ]
        assert [cluster.submit("well")() for cluster in clusters] == 2 * ["well"]
        before_kb = memory_kb(node)
        # The one that takes long is first, so that those of both clusters take that long at the same time.
        order = sorted(ENDS, key="ignores SIGINT and SIGTERM".__ne__)
        jobs = [(how, cluster.options(**ENDS[how][2]).submit(how)) for how in order for cluster in clusters]
        for how, job in reversed(jobs):
            status, end, _ = ENDS[how]
            assert job.wait(PATIENCE_S), how
            assert (how, job.status) == (how, status), job.exception
            assert job.result == end if status == FINISHED else type(job.error) is end, (how, job.error)
            assert job.end_time - job.start_time < FREE_S, how
            if how == "prints 10 GB":
                assert "bytes of output dropped" in job.stdout
            if how == "sends a file that is being changed":
                assert "has changed while it was read" in job.stderr
        began = time.monotonic()
        after = [cluster.submit("well") for cluster in clusters for _ in range(4)]
        assert [job() for job in after] == 8 * ["well"]
        assert time.monotonic() - began < FREE_S
        assert memory_kb(node) - before_kb < DAEMON_KB
    assert sorted(os.listdir(home)) == ["above", "link"]


def read(path: str) -> str:
    with open(path) as file:
        return file.read()


def make_files(home: Path) -> dict[str, tuple[list[str], Any]]:
    """Make what is named; give the names, and what to expect: words of the error, or where the node has the file."""
    for path in ("plain", "sub/plain", "a\nb", "../above"):
        (home / path).parent.mkdir(exist_ok=True)
        (home / path).write_text("content")
    os.mkfifo(home / "pipe")
    (home / "nowhere").symlink_to("missing")
    (home / "link").symlink_to("plain")
    (home.parent / "other").mkdir()
    (home.parent / "other" / "plain").write_text("other")
    return {
        "missing file": (["missing"], UsageError("there is no such file")),
        "folder": (["sub"], UsageError("it is not a file; name the files in it")),
        "device or pipe": (["pipe"], UsageError("it is not a regular file")),
        "link that leads nowhere": (["nowhere"], UsageError("there is no such file")),
        "link to a file": (["link"], "link"),
        "absolute path, or one with `..`": (["../above"], "above"),
        "two files for one place": (["plain", "../other/plain"], UsageError("would both be 'plain'")),
        "name with control characters or a backslash": (["a\nb"], UsageError("cannot be sent")),
    }


def test_files_that_are_named(node: NodeProcess, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = make_files(home)
    assert [*cases] == rows("Files that you name")
    with dispy.JobCluster(read, nodes=[node.address]) as cluster:
        assert cluster.wait_for_nodes(timeout=PATIENCE_S)

        def with_depends(paths: list[str], place: str) -> Any:
            with dispy.JobCluster(read, nodes=[node.address], depends=paths) as other:
                return other.submit(place)()

        def with_job(paths: list[str], place: str) -> Any:
            return cluster.submit(place, dispy_job_depends=paths)()

        def sent(paths: list[str], place: str) -> Any:
            return cluster.send_file(paths[0], "127.0.0.1") or cluster.submit(place)()

        ways: list[Callable[[list[str], str], Any]] = [with_depends, with_job, sent]
        for what, (paths, end) in cases.items():
            for way in ways:
                if isinstance(end, str):
                    assert (what, way(paths, end)) == (what, "content")
                elif way is not sent:
                    with pytest.raises(UsageError, match=re.escape(str(end))):
                        way(paths, "")
                elif what.startswith("name with"):
                    assert sent(paths, "") == -1
                    assert str(end) in capsys.readouterr().out
                elif len(paths) == 1:
                    with pytest.raises(UsageError, match=re.escape(str(end))):
                        sent(paths, "")
