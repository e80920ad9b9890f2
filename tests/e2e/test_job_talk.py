"""What jobs can do while they run: intermediate results, files, the names in their namespace."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy
from dispy.errors import UsageError
from dispy.job import node_name, provisional_result, send_file

ISOLATIONS = ["process", "worker"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The client's working directory."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def cluster_of(node: Any, home: Path) -> Iterator[Callable[..., dispy.JobCluster]]:
    """Make clusters on one node; they are closed with the test."""
    clusters: list[dispy.JobCluster] = []

    def make(computation: Any, **options: Any) -> dispy.JobCluster:
        clusters.append(dispy.JobCluster(computation, nodes=[node.address], **options))
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.close(timeout=0, terminate=True)


def talk(count: int, size: int) -> str:
    for number in range(count):
        assert dispy_provisional_result((number, "x" * size * number)) == 0  # type: ignore[name-defined]  # noqa: F821
    return "end"


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("size", [10, 30_000])
def test_intermediate_results_come_in_order_and_before_the_end(
    cluster_of: Callable[..., Any], isolation: str, size: int
) -> None:
    seen: dict[int, list[Any]] = {}

    def note(job: dispy.DispyJob) -> None:
        value = job.result if job.status == dispy.DispyJob.Finished else job.result[0]
        seen.setdefault(job.id, []).append((job.status, value))

    cluster = cluster_of(talk, job_status=note, isolation=isolation)
    jobs = [cluster.submit(8, size) for _ in range(6)]
    for job in jobs:
        assert list(job.stream(timeout=60)) == [(number, "x" * size * number) for number in range(8)]
        assert (job(), job.status) == ("end", dispy.DispyJob.Finished)
    assert cluster.wait(timeout=60)
    expected = [(dispy.DispyJob.ProvisionalResult, number) for number in range(8)]
    assert seen == {job.id: [*expected, (dispy.DispyJob.Finished, "end")] for job in jobs}


def test_cluster_status_hears_of_them_too(cluster_of: Callable[..., Any]) -> None:
    seen: list[Any] = []

    def note(status: int, node: Any, job: Any) -> None:
        if status == dispy.DispyJob.ProvisionalResult:
            seen.append((node.name is not None, job.status == status, job.result[0]))

    cluster = cluster_of(talk, cluster_status=note)
    assert cluster.submit(2, 0)() == "end"
    cluster.wait(timeout=60)
    assert seen == [(True, True, 0), (True, True, 1)]


def unfit(value: Any) -> str:
    try:
        provisional_result(threading.Lock() if value is None else value)
    except TypeError as error:
        return str(error)
    return "sent"


def test_what_cannot_be_sent_raises_in_the_job(cluster_of: Callable[..., Any]) -> None:
    assert "cannot be pickled" in cluster_of(unfit).submit(None)()
    safe = cluster_of(unfit, results="safe")
    job = safe.submit({"n": (1, 2.5)})
    assert list(job.stream(timeout=60)) == [{"n": (1, 2.5)}]
    assert job() == "sent"
    assert "Fraction" in safe.submit(__import__("fractions").Fraction(1, 2))()


def names(number: int) -> Any:
    dispynode_logger.warning("line of job %d", number)  # type: ignore[name-defined]  # noqa: F821
    used = (
        hashlib.md5(b"").hexdigest()[:4],
        struct.calcsize("<I"),  # type: ignore[name-defined]  # noqa: F821
        re.sub("a", "b", "a"),  # type: ignore[name-defined]  # noqa: F821
        multiprocessing.current_process().name,  # type: ignore[name-defined]  # noqa: F821
    )
    return (
        used,
        dispy_node_name == node_name(),  # type: ignore[name-defined]  # noqa: F821
        dispy_node_ip_addr,  # type: ignore[name-defined]  # noqa: F821
        os.path.samefile(dispy_job_path, os.getcwd()),  # type: ignore[name-defined]  # noqa: F821
        "trio" in sys.modules,
    )


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_names_in_the_namespace(cluster_of: Callable[..., Any], node: Any, isolation: str) -> None:
    job = cluster_of(names, isolation=isolation).submit(5)
    assert job() == (("d41d", 4, "b", "MainProcess"), True, "127.0.0.1", True, False), job.exception
    node.wait_for("line of job 5")


def test_outside_of_a_job_the_names_say_so() -> None:
    with pytest.raises(UsageError, match="only while a job runs"):
        send_file("x")


def test_program_finds_them_in_its_environment(cluster_of: Callable[..., Any], home: Path) -> None:
    program = home / "show.py"
    program.write_text(
        "import os\nprint(os.environ['dispy_node_ip_addr'], os.environ['dispy_job_path'] == os.getcwd())\n"
    )
    job = cluster_of(str(program)).submit()
    assert (job(), job.stdout) == (0, b"127.0.0.1 True\n")


def make_files(names: list[str], size: int) -> list[int]:
    told = []
    for name in names:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "w") as file:
            file.write(name[0] * size)
        os.chmod(name, 0o777)
        told.append(dispy_send_file(name))  # type: ignore[name-defined]  # noqa: F821
    return told


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_files_come_to_the_same_place(
    cluster_of: Callable[..., Any], home: Path, tmp_path: Path, isolation: str
) -> None:
    outside = str(tmp_path / "outside.dat")
    job = cluster_of(make_files, isolation=isolation).submit(
        ["a.dat", "sub/b.dat", outside, "empty"], 3_000_000
    )
    assert job() == [0, 0, 0, 0], job.exception
    assert (home / "a.dat").read_text() == "a" * 3_000_000
    assert (home / "sub/b.dat").read_text() == "s" * 3_000_000
    assert (home / "outside.dat").stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in home.iterdir()) == ["a.dat", "empty", "outside.dat", "sub"]


def test_files_that_the_client_does_not_take(
    cluster_of: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    (home / "taken").mkdir()
    (home / "link").symlink_to(tmp_path)
    job = cluster_of(make_files).submit(["taken", "link/x", "new\nline", "fine"], 10)
    assert job() == [-1, -1, -1, 0], job.exception
    assert not (tmp_path / "x").exists()
    assert sorted(path.name for path in home.iterdir()) == ["fine", "link", "taken"]


def send_odd(what: str) -> str:
    os.makedirs("folder", exist_ok=True)
    try:
        return str(send_file(what))
    except OSError as error:
        return type(error).__name__


def test_missing_files_and_folders_raise_in_the_job(cluster_of: Callable[..., Any]) -> None:
    cluster = cluster_of(send_odd)
    assert cluster.submit("missing")() == "FileNotFoundError"
    assert cluster.submit("folder")() == "IsADirectoryError"


def send_same(folder: str, letter: str) -> int:
    os.makedirs(folder)
    path = os.path.join(folder, "same")
    with open(path, "w") as file:
        file.write(letter * 1_000_000)
    return sum(send_file(path) for _ in range(5))


def test_parameters_of_the_original_are_accepted(
    cluster_of: Callable[..., Any], home: Path, node: Any
) -> None:
    def compute() -> tuple[int, int]:
        with open("x", "w") as file:
            file.write("x")
        return (
            dispy_send_file("x", relay=False, timeout=10),  # type: ignore[name-defined]  # noqa: F821
            dispy_provisional_result(1, False, 10),  # type: ignore[name-defined]  # noqa: F821
        )

    cluster = cluster_of(compute)
    assert cluster.submit()() == (0, 0)
    assert cluster.send_file("x", "127.0.0.1", relay=True) == 0


def test_two_jobs_that_send_one_name_each_send_it_whole(
    cluster_of: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    cluster = cluster_of(send_same)
    jobs = [cluster.submit(str(tmp_path / letter), letter) for letter in "ab"]
    assert [job() for job in jobs] == [0, 0]
    assert (home / "same").read_text() in ("a" * 1_000_000, "b" * 1_000_000)
    assert [path.name for path in home.iterdir()] == ["same"]


def one_word(number: int) -> int:
    provisional_result(-number)
    return number


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_many_small_jobs_that_all_tell_something(cluster_of: Callable[..., Any], isolation: str) -> None:
    jobs = [
        cluster.submit(number)
        for cluster in [cluster_of(one_word, isolation=isolation)]
        for number in range(500)
    ]
    assert [(list(job.stream(timeout=60)), job()) for job in jobs] == [
        ([-number], number) for number in range(500)
    ]


def caught_sending(path: str) -> str:
    with open(path, "wb") as file:
        file.truncate(3_000_000_000)
    try:
        send_file(path)
    except KeyboardInterrupt:
        return "interrupted"
    return "sent"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_job_that_sends_can_be_cancelled(cluster_of: Callable[..., Any], home: Path, isolation: str) -> None:
    cluster = cluster_of(caught_sending, isolation=isolation)
    job = cluster.submit("large")
    while job.status != dispy.DispyJob.Running:
        time.sleep(0.01)
    cluster.cancel(job)
    assert job.wait(30)
    assert not (home / "large").exists()
    other = cluster.submit("small")
    cluster.cancel(other)
    assert other.wait(30)


def wait_for(name: str) -> str:
    ends_at = time.monotonic() + 30
    while not os.path.exists(name):
        assert time.monotonic() < ends_at
        time.sleep(0.01)
    with open(name) as file:
        return file.read()


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_client_sends_a_file_to_jobs_that_run_and_to_later_ones(
    cluster_of: Callable[..., Any], home: Path, tmp_path: Path, isolation: str
) -> None:
    (home / "sub").mkdir()
    (home / "sub" / "data").write_text("below")
    (tmp_path / "data").write_text("y" * 2_000_000)
    cluster = cluster_of(wait_for, isolation=isolation)
    running = cluster.submit("sub/data")
    while running.status != dispy.DispyJob.Running:
        time.sleep(0.01)
    assert cluster.send_file("sub/data", running.ip_addr) == 0
    assert running() == "below"
    (node,) = cluster.status().nodes
    assert cluster.send_file(tmp_path / "data", node) == 0
    assert cluster.submit("data")() == "y" * 2_000_000
    (tmp_path / "data").write_text("new")
    assert cluster.send_file(tmp_path / "data", node) == 0
    assert cluster.submit("data")() == "new"


def test_files_that_a_node_does_not_take(cluster_of: Callable[..., Any], home: Path) -> None:
    (home / "taken").write_text("x")
    (home / "new\nline").write_text("x")
    cluster = cluster_of(make_folder)
    (node,) = wait_for_nodes(cluster)
    assert cluster.submit("taken")() is None
    assert cluster.send_file("taken", node) == -1
    assert cluster.send_file("new\nline", node) == -1
    assert cluster.send_file("taken", "192.0.2.1") == -1
    with pytest.raises(UsageError, match="no such file"):
        cluster.send_file("missing", node)
    with pytest.raises(UsageError, match="not a file"):
        cluster.send_file(".", node)


def make_folder(name: str) -> None:
    os.mkdir(name)


def wait_for_nodes(cluster: Any) -> Any:
    ends_at = time.monotonic() + 30
    while not (nodes := cluster.status().nodes):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    return nodes


def test_program_of_the_founders_sends_its_files(node: Any, home: Path) -> None:
    """The same program as example 7, with a shorter sleep."""
    program = home / "example.py"
    program.write_text(
        textwrap.dedent(
            f"""
            def compute(n):
                import time
                time.sleep(n / 20)
                # assume that computation saves data in file n.dat
                open(str(n) + '.dat', 'w').write('data %s' % n)
                dispy_send_file(str(n) + '.dat') # send file to client
                # ... continue further computations
                return n

            if __name__ == '__main__':
                import dispy, random
                cluster = dispy.JobCluster(compute, nodes=[{node.address!r}])
                jobs = []
                for i in range(20):
                    job = cluster.submit(random.randint(1, 2))
                    job.id = i
                    jobs.append(job)
                for job in jobs:
                    job()
                    print('job %s results in file %s' % (job.id, str(job.id) + '.dat'))
            """
        )
    )
    ended = subprocess.run(
        [sys.executable, str(program)], cwd=home, capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout.count("results in file") == 20, ended.stderr
    assert (home / "1.dat").read_text() == "data 1"
    assert (home / "2.dat").read_text() == "data 2"
