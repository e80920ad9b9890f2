"""Setup and cleanup on real nodes: what jobs see of it, and what the user hears when it fails."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy
from dispy.errors import NotPicklable, UsageError

ROOT = Path(__file__).parents[2]
ISOLATIONS = pytest.mark.parametrize("isolation", ["process", "worker"])
Make = Callable[..., dispy.JobCluster]


@pytest.fixture
def cluster_of(node: Any) -> Iterator[Make]:
    """Make clusters on one node; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        options.setdefault("nodes", [node.address])
        cluster = dispy.JobCluster(computation, **options)
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


# ---- the examples of the founding document, word for word where it has code

FILE_DATA = """
def setup(): # executed on each node before jobs are scheduled
    # read data in file to global variable
    global data
    data = open('file.dat', 'rb').read()
    return 0

def cleanup(): # executed on each node while cluster is closed
    del globals()['data']

def compute(n):
    import hashlib
    alg = sorted(a for a in hashlib.algorithms_guaranteed if not a.startswith('shake'))[n % 8]
    csum = getattr(hashlib, alg)()
    # 'data' global variable has file data
    csum.update(data)
    return (alg, csum.hexdigest())

if __name__ == '__main__':
    import dispy
    cluster = dispy.JobCluster(compute, NODESdepends=['file.dat'], setup=setup, cleanup=cleanup)
    jobs = []
    for i in range(10):
        job = cluster.submit(i)
        job.id = i
        jobs.append(job)

    for job in jobs:
        job()
        print('%s: %s : %s' % (job.id, job.result[0], job.result[1]))
"""

SHARED_VARIABLE = """
def setup(): # executed on each node before jobs are scheduled
    import multiprocessing, multiprocessing.sharedctypes
    # import 'random' into global scope, create global shared variable
    global random, shvar
    import random
    lock = multiprocessing.Lock()
    shvar = multiprocessing.sharedctypes.Value('i', 1, lock=lock)
    return 0

def cleanup(): # executed on each node while cluster is closed
    del globals()['shvar']
    # unload 'random' module (doesn't undo everything import does)
    del globals()['random']

def compute():
    r = random.randint(1, 10)
    global shvar
    shvar.value += r
    return shvar.value

if __name__ == '__main__':
    import dispy
    cluster = dispy.JobCluster(compute, NODESsetup=setup, cleanup=cleanup)
    jobs = []
    for i in range(10):
        job = cluster.submit()
        job.id = i
        jobs.append(job)

    for job in jobs:
        job()
        if job.status != dispy.DispyJob.Finished:
            print('job %s failed: %s' % (job.id, job.exception))
        else:
            print('%s: %s' % (job.id, job.result))
"""


def run_example(text: str, folder: Path, where: str, node: Any) -> subprocess.CompletedProcess[str]:
    nodes = {"loopback": f"nodes=[{node.address!r}], ", "embedded": "nodes=['local'], ", "as it is": ""}
    (folder / "example.py").write_text(text.replace("NODES", nodes[where]))
    return subprocess.run(
        [sys.executable, "example.py"], cwd=folder, capture_output=True, text=True, timeout=60, check=True
    )


WHERE = pytest.mark.parametrize("where", ["loopback", "embedded", "as it is"])


@WHERE
def test_file_that_is_read_once(tmp_path: Path, node: Any, where: str) -> None:
    data = os.urandom(100_000)
    (tmp_path / "file.dat").write_bytes(data)
    ended = run_example(FILE_DATA, tmp_path, where, node)
    names = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))
    expected = [f"{n}: {names[n % 8]} : {hashlib.new(names[n % 8], data).hexdigest()}" for n in range(10)]
    assert ended.stdout.splitlines() == expected
    assert "cleanup" not in ended.stderr


@WHERE
def test_variable_that_jobs_share(tmp_path: Path, node: Any, where: str) -> None:
    ended = run_example(SHARED_VARIABLE, tmp_path, where, node)
    found = dict(re.findall(r"(\d+): (\d+)", ended.stdout))
    assert len(found) == 10, ended
    values = sorted(int(value) for value in found.values())
    # `+=` of a shared value takes the lock for reading and for writing, not for both at once: two jobs at the same
    # time may add to the same number.
    assert values[-1] > 1 + 5
    assert "cleanup" not in ended.stderr


# ---- what jobs see


@ISOLATIONS
def test_a_lock_of_setup_excludes_jobs_from_each_other(cluster_of: Make, isolation: str) -> None:
    def setup() -> int:
        import multiprocessing

        global shared
        shared = multiprocessing.Value("i", 0)
        return 0

    def compute() -> int:
        import time

        with shared.get_lock():  # type: ignore[name-defined]
            seen: int = shared.value  # type: ignore[name-defined]
            time.sleep(0.005)
            shared.value = seen + 1  # type: ignore[name-defined]
        return seen

    cluster = cluster_of(compute, setup=setup, isolation=isolation)
    jobs = [cluster.submit() for _ in range(30)]
    assert sorted(job() for job in jobs) == list(range(30))


def test_what_a_manager_of_setup_serves_is_shared(cluster_of: Make) -> None:
    def setup() -> int:
        import multiprocessing

        global manager, found
        manager = multiprocessing.Manager()
        found = manager.list(["setup"])
        return 0

    def compute(number: int) -> int:
        found.append(number)  # type: ignore[name-defined]
        return len(found)  # type: ignore[name-defined]

    cluster = cluster_of(compute, setup=setup)
    jobs = [cluster.submit(number) for number in range(10)]
    assert max(job() for job in jobs) == 11


@ISOLATIONS
def test_globals_are_each_jobs_own_copy(cluster_of: Make, isolation: str) -> None:
    def setup() -> int:
        global state
        state = {"jobs": 0}
        return 1

    def compute() -> int:
        state["jobs"] += 1  # type: ignore[name-defined]
        return state["jobs"]  # type: ignore[name-defined, no-any-return]

    cluster = cluster_of(compute, setup=setup, isolation=isolation)
    counts = [job() for job in [cluster.submit() for _ in range(8)]]
    assert counts == [1] * 8 if isolation == "process" else max(counts) <= 8


def remember(value: Any) -> int:
    global remembered
    remembered = value
    return 0


def recall() -> Any:
    return remembered  # type: ignore[name-defined]


def test_each_node_gets_its_arguments(start_node: Callable[..., Any], cluster_of: Make) -> None:
    """Computations do not see each other's globals, and nodes have their own."""
    first, second = start_node(), start_node()
    nodes = [
        dispy.NodeAllocate("127.0.0.1", first.port, setup_args=("one",)),
        {"host": "127.0.0.1", "port": second.port, "setup_args": "two"},
    ]
    cluster = cluster_of(recall, nodes=nodes, setup=remember, cleanup=remember)
    other = cluster_of(recall, nodes=[("127.0.0.1", first.port, 0, [], [3])], setup=remember)
    assert other.submit()() == 3
    deadline = time.monotonic() + 30
    while len(cluster.status().nodes) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert {job() for job in [cluster.submit() for _ in range(40)]} == {"one", "two"}


class Box:
    def __init__(self, content: int) -> None:
        self.content = content


def keep(box: Box, more: bytes) -> int:
    global kept
    kept = box, more
    return 0 if isinstance(box, Box) else 3


def compare(box: Box) -> tuple[bool, int, Box]:
    mine, more = kept  # type: ignore[name-defined]
    return type(mine) is type(box), len(more), mine


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_arguments_are_instances_of_shipped_classes_and_of_any_size(
    node: Any, cluster_of: Make, size: int
) -> None:
    nodes = [dispy.NodeAllocate("127.0.0.1", node.port, setup_args=(Box(5), os.urandom(size)))]
    same, length, box = cluster_of(compare, nodes=nodes, setup=keep).submit(Box(6))()
    assert (same, length, type(box), box.content) == (True, size, Box, 5)


def test_partial_as_setup(cluster_of: Make) -> None:
    assert cluster_of(recall, setup=functools.partial(remember, [1, 2])).submit()() == [1, 2]


def test_setup_prepares_the_folder_and_environment_of_programs(
    node: Any, cluster_of: Make, tmp_path: Path
) -> None:
    def setup(word: str) -> int:
        import os

        with open("word.txt", "w") as file:
            file.write(word)
        os.environ["WORD"] = word.upper()
        return 0

    program = tmp_path / "speak.sh"
    program.write_text('#!/bin/sh\ncat word.txt\necho " $WORD $1"\n')
    program.chmod(0o755)
    nodes = [dispy.NodeAllocate("127.0.0.1", node.port, setup_args="hello")]
    job = cluster_of(str(program), nodes=nodes, setup=setup).submit("end")
    assert job() == 0
    assert job.stdout == b"hello HELLO end\n"


def test_setup_finds_the_files_and_its_folder(cluster_of: Make, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("content")

    def setup() -> int:
        import os

        global found
        with open("data.txt") as file:
            found = file.read(), os.getcwd()
        os.chdir("/")
        return 0

    def compute() -> tuple[str, bool]:
        import os

        content, folder = found  # type: ignore[name-defined]
        return content, folder == os.getcwd()

    assert cluster_of(compute, depends=[str(tmp_path / "data.txt")], setup=setup).submit()() == (
        "content",
        True,
    )


def init_depends() -> None:
    global begun
    begun = "begun"


def tell_begun() -> str:
    return begun  # type: ignore[name-defined, no-any-return]


def test_init_depends_is_called(cluster_of: Make) -> None:
    def setup() -> int:
        return 0 if tell_begun() == "begun" else 3

    assert cluster_of(tell_begun, depends=[init_depends, tell_begun], setup=setup).submit()() == "begun"


# ---- failures


def returns_nothing() -> None:
    pass


def raises() -> int:
    print("looking for the data")
    raise ValueError("no data here")


def calls_exit() -> int:
    sys.exit("no licence")


def leaves() -> int:
    print("leaving", flush=True)
    os._exit(4)


def crashes() -> int:
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)
    return 0


def cannot_be_interrupted() -> int:
    import signal
    import time

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)
    return 0


def prints_much() -> int:
    for number in range(200_000):
        print("line", number)
    return 5


def imports_what_is_missing() -> int:
    import nowhere_found  # type: ignore[import-not-found]  # noqa: F401

    return 0


FAILURES: list[tuple[Callable[[], Any], list[str]]] = [
    (returns_nothing, [r"setup has returned None on node .*: end it with return 0"]),
    (raises, [r"setup has failed on node .*: ValueError: no data here", "in raises", "looking for the data"]),
    (calls_exit, [r"setup has called sys.exit\('no licence'\)"]),
    (leaves, ["setup has ended its process, which ended with status 4", "leaving"]),
    (crashes, [r"setup has ended its process, which was killed by signal 11 \(SIGSEGV\)"]),
    (cannot_be_interrupted, [r"setup did not finish within 1 s \(setup_timeout\) and was killed"]),
    (prints_much, ["setup has returned 5", "line 199999"]),
    (imports_what_is_missing, ["module 'nowhere_found' is not installed on node"]),
]


@pytest.mark.parametrize(("setup", "told"), FAILURES, ids=[setup.__name__ for setup, _ in FAILURES])
def test_failing_setup_is_told_at_once_and_jobs_end(
    node: Any,
    cluster_of: Make,
    capfd: pytest.CaptureFixture[str],
    setup: Callable[[], Any],
    told: list[str],
) -> None:
    cluster = cluster_of(lambda: 1, setup=setup, setup_timeout=1 if "cannot" in setup.__name__ else 60)
    job = cluster.submit()
    assert job() is None
    assert job.status == dispy.DispyJob.Terminated
    stderr = capfd.readouterr().err
    assert "dispy: node " in stderr
    for text in told:
        assert re.search(text, stderr), stderr
        assert re.search(text, job.exception)
    assert len(stderr) < 5000
    assert cluster_of(lambda: 2).submit()() == 2, "the node goes on"
    node.wait_for(told[0])


def test_other_nodes_do_the_work(
    start_node: Callable[..., Any], cluster_of: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    def setup(result: int) -> int:
        return result

    nodes = [("127.0.0.1", start_node().port, 0, [], result) for result in (0, 7)]
    cluster = cluster_of(lambda: os.getppid(), nodes=nodes, setup=setup)
    assert len({job() for job in [cluster.submit() for _ in range(20)]}) == 1
    deadline = time.monotonic() + 30
    stderr = ""
    while "setup has returned 7" not in stderr:
        assert time.monotonic() < deadline
        stderr += capfd.readouterr().err
        time.sleep(0.05)
    assert len(cluster.status().nodes) == 1


# ---- cleanup


def mark(path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{os.path.basename(os.getcwd())} {sorted(set(globals()) & {'remembered'})}\n")
    del globals()["remembered"]


def hold(path: str) -> int:
    global remembered
    remembered = path
    return 0


def nap(seconds: float) -> None:
    time.sleep(seconds)


@pytest.mark.parametrize("end", ["close", "terminate", "killed client"])
def test_cleanup_runs_after_the_last_job(
    node: Any, cluster_of: Make, tmp_path: Path, eventually: Callable[..., None], end: str
) -> None:
    marker = tmp_path / "marker"
    if end == "killed client":
        client = f"""
import dispy, os, sys, time
sys.path.insert(0, {str(ROOT / "tests" / "e2e")!r})
from test_setup import hold, mark, nap
nodes = [("127.0.0.1", {node.port}, 0, [], {str(marker)!r})]
cluster = dispy.JobCluster(nap, nodes=nodes, setup=hold, cleanup=mark)
cluster.submit(0)()
os._exit(1)
"""
        subprocess.run([sys.executable, "-c", client], timeout=60, check=False)
    else:
        nodes = [("127.0.0.1", node.port, 0, [], str(marker))]
        cluster = cluster_of(nap, nodes=nodes, setup=hold, cleanup=mark)
        cluster.submit(0)()
        jobs = [cluster.submit(0.3 if end == "close" else 600.0) for _ in range(2)]
        assert not marker.exists()
        if end == "terminate":
            eventually(lambda: jobs[0].status == dispy.DispyJob.Running, "a job runs")
            cluster.close(timeout=0, terminate=True)
        else:
            cluster.close()
            assert all(job.status == dispy.DispyJob.Finished for job in jobs)
    eventually(marker.exists, "cleanup ran", 60)
    assert re.fullmatch(r"[0-9a-f]{32} \['remembered'\]\n", marker.read_text())


def test_cleanup_runs_when_the_node_ends(
    start_node: Callable[..., Any], cluster_of: Make, tmp_path: Path
) -> None:
    node = start_node()
    marker = tmp_path / "marker"
    nodes = [("127.0.0.1", node.port, 0, [], str(marker))]
    cluster_of(nap, nodes=nodes, setup=hold, cleanup=mark).submit(0)()
    node.end()
    assert marker.exists()


def test_cleanup_runs_after_a_failed_setup(node: Any, cluster_of: Make, tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    def setup(path: str) -> int:
        global remembered
        remembered = path
        return 3

    nodes = [("127.0.0.1", node.port, 0, [], str(marker))]
    cluster_of(nap, nodes=nodes, setup=setup, cleanup=mark).submit(0)()
    assert marker.exists()


def test_failing_cleanup_is_told(node: Any, cluster_of: Make, capfd: pytest.CaptureFixture[str]) -> None:
    def cleanup() -> None:
        raise OSError("the disk is in use")

    cluster = cluster_of(lambda: 1, cleanup=cleanup)
    assert cluster.submit()() == 1
    cluster.close()
    assert "cleanup has failed on node" in (stderr := capfd.readouterr().err)
    assert "OSError: the disk is in use" in stderr
    node.wait_for("cleanup has failed on node")


def test_cleanup_that_hangs_is_killed_and_told(
    node: Any, cluster_of: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    def cleanup() -> None:
        import signal
        import time

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("waiting for the disk", flush=True)
        time.sleep(600)

    cluster = cluster_of(lambda: 1, cleanup=cleanup)
    assert cluster.submit()() == 1
    cluster.close()
    told = "cleanup did not finish within 8 s and was killed"
    assert told in capfd.readouterr().err
    node.wait_for(told)
    assert "prints: waiting for the disk" in node.log


def test_what_setup_has_started_lives_as_long_as_the_computation(
    cluster_of: Make, eventually: Callable[..., None]
) -> None:
    def setup() -> int:
        import subprocess

        global server
        server = subprocess.Popen(["sleep", "600"], start_new_session=True)
        return 0

    def compute() -> int:
        import os

        os.kill(server.pid, 0)  # type: ignore[name-defined]
        return server.pid  # type: ignore[name-defined, no-any-return]

    cluster = cluster_of(compute, setup=setup)
    for _ in range(5):
        pid = cluster.submit()()
        time.sleep(0.3)  # the runner looks for what jobs have left behind
    cluster.close()
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "the server has ended")


# ---- what is refused


def test_what_cannot_work_is_refused_at_once(node: Any, cluster_of: Make) -> None:
    with pytest.raises(UsageError, match="setup function 'remember' cannot be called with the 0 setup_args"):
        cluster_of(recall, setup=remember)
    lock = threading.Lock()
    with pytest.raises(NotPicklable, match="setup function cannot be sent"):
        cluster_of(recall, setup=lambda: int(lock.locked()))
