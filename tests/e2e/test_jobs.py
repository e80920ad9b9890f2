"""The main job: functions and programs on a real node."""

from __future__ import annotations

import functools
import io
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import dispy
from dispy.errors import (
    ClusterClosed,
    InvalidComputation,
    InvalidNodes,
    JobBroken,
    JobDied,
    NotPicklable,
    UsageError,
)
from dispy.runtime import callbacks

OFFSET = 1000


def square(number: int) -> int:
    return number * number


def helper(number: int) -> int:
    return number + OFFSET


def uses_helper(number: int) -> int:
    return helper(number)


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return "traced", function(*args)

    return wrapper


@traced
def decorated(number: int) -> int:
    return number * 2


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance

    def deposit(self, amount: int) -> int:
        return self.balance + amount


@pytest.fixture
def cluster_of(node: Any) -> Iterator[Callable[..., dispy.JobCluster]]:
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


Make = Callable[..., dispy.JobCluster]
ISOLATIONS = pytest.mark.parametrize("isolation", ["process", "worker"])


@ISOLATIONS
def test_many_jobs_give_their_results(cluster_of: Make, isolation: str) -> None:
    cluster = cluster_of(square, isolation=isolation)
    jobs = [cluster.submit(number) for number in range(200)]
    assert [job() for job in jobs] == [number * number for number in range(200)]
    assert all(job.status == dispy.DispyJob.Finished for job in jobs)
    assert cluster.wait(10)
    assert cluster.status().jobs_pending == 0


def test_fields_of_a_finished_job(cluster_of: Make) -> None:
    def speak(word: str) -> str:
        import subprocess
        import sys

        print("out", word)
        print("err", word, file=sys.stderr)
        subprocess.run(["sh", "-c", "echo child"], check=True)
        return word

    before = time.time()
    job = cluster_of(speak).submit("hello")
    assert job() == "hello"
    assert job.id == 1
    assert job.stdout.splitlines() == ["out hello", "child"] or job.stdout.splitlines() == [
        "child",
        "out hello",
    ]
    assert job.stderr == "err hello\n"
    assert job.exception is None
    assert job.error is None
    assert job.ip_addr == "127.0.0.1"
    assert job.finish.is_set()
    assert before - 60 < job.submit_time <= job.end_time + 60
    assert job.start_time <= job.end_time


def make_adder(amount: int) -> Callable[[int], int]:
    def add(number: int) -> int:
        return number + amount

    return add


@pytest.mark.parametrize(
    ("computation", "args", "result"),
    [
        (lambda number: -number, (3,), -3),
        (make_adder(5), (3,), 8),
        (uses_helper, (1,), 1001),
        (decorated, (4,), ("traced", 8)),
        (functools.partial(square), (5,), 25),
    ],
    ids=["lambda", "closure", "helper", "decorated", "partial"],
)
def test_functions_of_every_kind(cluster_of: Make, computation: Any, args: Any, result: Any) -> None:
    job = cluster_of(computation).submit(*args)
    assert job() == result, job.exception


def test_bound_method_as_in_the_original_and_bound(cluster_of: Make) -> None:
    account = Account(10)
    cluster = cluster_of(account.deposit)
    assert cluster.submit(Account(100), 5)() == 105
    assert cluster.submit(5)() == 15


def test_instances_come_back_as_instances_of_the_same_class(cluster_of: Make) -> None:
    def grow(account: Account) -> Account:
        account.balance += 1
        return account

    job = cluster_of(grow, depends=[Account]).submit(Account(1))
    assert isinstance(job(), Account), job.exception
    assert job.result.balance == 2


def test_exception_is_text_and_object(cluster_of: Make) -> None:
    def fail(number: int) -> float:
        print("before")
        return 1 / number

    job = cluster_of(fail).submit(0)
    assert job() is None
    assert job.status == dispy.DispyJob.Terminated
    assert "ZeroDivisionError" in job.exception
    assert isinstance(job.error, ZeroDivisionError)
    assert "ZeroDivisionError" in str(job.error.__cause__)
    assert any("127.0.0.1" in note or "job" in note for note in job.error.__notes__)
    assert job.stdout == "before\n"


def killed() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def exits() -> None:
    import os

    os._exit(3)


def sys_exits() -> None:
    import sys

    sys.exit(4)


def kills_itself_by_memory() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def unpicklable() -> object:
    import threading

    return threading.Lock()


def needs_module() -> None:
    import a_module_that_is_nowhere  # type: ignore[import-not-found]  # noqa: F401


@ISOLATIONS
@pytest.mark.parametrize(
    ("computation", "error", "text"),
    [
        (killed, JobDied, "SIGSEGV"),
        (kills_itself_by_memory, JobDied, "SIGKILL"),
        (exits, JobDied, "3"),
        (sys_exits, JobDied, "sys.exit"),
        (unpicklable, JobBroken, "lock"),
        (needs_module, ModuleNotFoundError, "a_module_that_is_nowhere"),
    ],
)
def test_bad_ends_are_told_at_once_and_the_node_goes_on(
    cluster_of: Make, computation: Any, error: type, text: str, isolation: str
) -> None:
    cluster = cluster_of(computation, isolation=isolation)
    job = cluster.submit()
    assert job.wait(30)
    assert job() is None
    assert job.status == dispy.DispyJob.Terminated
    assert isinstance(job.error, error), job.error
    assert text in job.exception
    assert cluster_of(square).submit(3)() == 9


async def waits() -> None:
    """Cannot be a job."""


def generates() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize("computation", [waits, generates, 5, int, None, len, "no-such-program-anywhere"])
def test_what_cannot_be_a_computation_is_refused(computation: Any) -> None:
    with pytest.raises(InvalidComputation):
        dispy.JobCluster(computation, nodes=["127.0.0.1"])


def test_coroutine_that_hides_is_told(cluster_of: Make) -> None:
    def sneaky() -> Any:
        return waits()

    job = cluster_of(sneaky).submit()
    assert job() is None
    assert "async" in job.exception or "coroutine" in job.exception


def test_unpicklable_argument_is_an_error_of_submit(cluster_of: Make) -> None:
    cluster = cluster_of(square)
    with pytest.raises(NotPicklable, match="argument"):
        cluster.submit(threading.Lock())
    assert cluster.submit(2)() == 4


def test_large_arguments_and_results(cluster_of: Make) -> None:
    def double(data: bytes) -> bytes:
        return data + data

    data = os.urandom(3_000_000)
    cluster = cluster_of(double)
    jobs = [cluster.submit(data) for _ in range(4)]
    for job in jobs:
        assert job() == data + data, job.exception


def test_job_ids(cluster_of: Make) -> None:
    cluster = cluster_of(square)
    assert cluster.submit_job_id("mine", 2).id == "mine"
    first, second = cluster.submit(1), cluster.submit(1)
    assert second.id == first.id + 1
    first.id = object()
    assert cluster.wait(30)


def test_submit_to_a_node(cluster_of: Make, node: Any) -> None:
    cluster = cluster_of(square)
    assert cluster.submit(1)() == 1
    assert cluster.submit_node("127.0.0.1", 7)() == 49
    used = cluster.status().nodes[0]
    job = cluster.submit_job_id_node("pinned", used, 8)
    assert (job(), job.id) == (64, "pinned")
    assert cluster.submit_node("10.255.255.1", 7) is None


def test_callbacks_run_before_wait_returns(cluster_of: Make) -> None:
    seen: list[int] = []
    statuses: list[tuple[int, Any]] = []

    def ended(job: dispy.DispyJob) -> None:
        time.sleep(0.01)
        seen.append(job.result)

    def changed(status: int, node: Any, job: Any) -> None:
        statuses.append((status, job and job.id))

    cluster = cluster_of(square, job_status=ended, cluster_status=changed)
    jobs = [cluster.submit(number) for number in range(20)]
    assert cluster.wait(60)
    assert sorted(seen) == [number * number for number in range(20)]
    for job in jobs:
        assert [status for status, of in statuses if of == job.id] == [
            dispy.DispyJob.Created,
            dispy.DispyJob.Running,
            dispy.DispyJob.Finished,
        ]
    assert (dispy.DispyNode.Initialized, None) in statuses


def test_cluster_made_inside_a_callback(cluster_of: Make, node: Any) -> None:
    results: list[int] = []

    def ended(job: dispy.DispyJob) -> None:
        with dispy.JobCluster(square, nodes=[node.address]) as inner:
            results.append(inner.submit(job.result)())

    cluster = cluster_of(square, job_status=ended)
    cluster.submit(3)
    assert cluster.wait(60)
    assert results == [81]


def test_a_failing_callback_stops_nothing(cluster_of: Make) -> None:
    def fails(job: dispy.DispyJob) -> None:
        raise RuntimeError("of the user")

    said = io.StringIO()
    cluster = cluster_of(square, job_status=fails)
    callbacks.logger.stream = said
    try:
        assert cluster.submit(2)() == 4
        assert cluster.wait(30)
    finally:
        callbacks.logger.stream = None  # standard output, whatever that is by then
    assert "of the user" in said.getvalue()


def test_wrong_callbacks_are_refused() -> None:
    with pytest.raises(UsageError, match="job_status"):
        dispy.JobCluster(square, job_status=lambda: None, nodes=["127.0.0.1"])
    with pytest.raises(UsageError, match="cluster_status"):
        dispy.JobCluster(square, cluster_status=lambda job: None, nodes=["127.0.0.1"])


def test_old_names_of_parameters_are_accepted(cluster_of: Make) -> None:
    seen: list[Any] = []
    with pytest.warns(DeprecationWarning, match="callback"):
        cluster = cluster_of(square, callback=seen.append)
    job = cluster.submit(2)
    assert cluster.wait(30)
    assert seen == [job]


def slow(seconds: float) -> str:
    import time

    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        return "interrupted"
    return "slept"


def test_cancel_queued_and_running(cluster_of: Make, eventually: Callable[..., None]) -> None:
    cluster = cluster_of(slow)
    jobs = [cluster.submit(60) for _ in range(3)]
    eventually(lambda: sum(job.status == dispy.DispyJob.Running for job in jobs) == 2, "two jobs run")
    queued = next(job for job in jobs if job.status == dispy.DispyJob.Created)
    assert cluster.cancel(queued) == 0
    assert queued.wait(10)
    assert queued.status == dispy.DispyJob.Cancelled
    assert cluster.cancel(queued) == -1
    for job in jobs:
        if job is not queued:
            assert cluster.cancel(job) == 0
            assert job() == "interrupted"
            assert job.status == dispy.DispyJob.Finished


@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_cancelled_jobs_that_were_sent_ahead_have_not_run(cluster_of: Make, isolation: str) -> None:
    cluster = cluster_of(slow, isolation=isolation)
    for job in [cluster.submit(0) for _ in range(100)]:
        job()  # the cluster learns that jobs are short
    running, ahead = [cluster.submit(60) for _ in range(2)], [cluster.submit(0) for _ in range(20)]
    assert all(cluster.cancel(job) == 0 for job in ahead)
    assert all(job.wait(20) for job in ahead)
    ends = {(job.status, job.start_time, type(job.error).__name__) for job in ahead}
    assert ends == {(dispy.DispyJob.Cancelled, None, "JobCancelled")}
    assert all(cluster.cancel(job) == 0 for job in running)


def test_close_with_terminate_gives_every_job_an_end(cluster_of: Make) -> None:
    cluster = cluster_of(slow)
    jobs = [cluster.submit(60) for _ in range(6)]
    assert cluster.close(timeout=0.3) is False
    began = time.monotonic()
    assert cluster.close(timeout=0, terminate=True) is True
    assert time.monotonic() - began < 20
    for job in jobs:
        assert job.wait(0)
        assert job.status in (dispy.DispyJob.Cancelled, dispy.DispyJob.Terminated, dispy.DispyJob.Finished)
    assert cluster.close() is None
    with pytest.raises(ClusterClosed):
        cluster.submit(1)


def test_two_clusters_feed_each_other(cluster_of: Make) -> None:
    first, second = cluster_of(square), cluster_of(helper)
    jobs = [first.submit(number) for number in range(10)]
    assert [second.submit(job())() for job in jobs] == [number**2 + OFFSET for number in range(10)]


def test_clusters_from_several_threads(cluster_of: Make) -> None:
    results: dict[int, int] = {}

    def work(number: int) -> None:
        cluster = cluster_of(square)
        results[number] = sum(cluster.submit(number)() for _ in range(5))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {number: 5 * number * number for number in range(4)}


def test_new_cluster_after_the_last_is_closed_and_no_thread_is_left(node: Any) -> None:
    for _ in range(2):
        with dispy.JobCluster(square, nodes=[node.address]) as cluster:
            assert cluster.submit(4)() == 16
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("dispy")]


def test_context_manager_lets_exceptions_through(node: Any) -> None:
    with pytest.raises(KeyError), dispy.JobCluster(square, nodes=[node.address]):
        raise KeyError("mine")


def test_stats_table(cluster_of: Make, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = cluster_of(square)
    assert cluster.submit(1)() == 1
    cluster.stats()
    table = capsys.readouterr().out
    assert "Node" in table
    assert "Sec/Job" in table
    assert "Total job time" in table


def write_program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_program_with_arguments(cluster_of: Make, tmp_path: Path) -> None:
    program = write_program(tmp_path / "prog", '#!/bin/sh\necho "$1-$2"\necho oops >&2\nexit 3\n')
    job = cluster_of(str(program)).submit(5, "two words")
    assert job() == 3
    assert job.status == dispy.DispyJob.Finished
    assert job.stdout == b"5-two words\n"
    assert job.stderr == b"oops\n"


def test_program_on_path_python_program_and_signal(cluster_of: Make, tmp_path: Path) -> None:
    assert cluster_of("true").submit()() == 0
    script = tmp_path / "job.py"
    script.write_text("import sys\nprint(sys.argv[1:])\n")
    job = cluster_of(str(script)).submit(1)
    assert (job(), job.stdout) == (0, b"['1']\n")
    dies = write_program(tmp_path / "dies", "#!/bin/sh\nkill -9 $$\n")
    assert cluster_of(str(dies)).submit()() == -9


def test_program_with_files(cluster_of: Make, tmp_path: Path) -> None:
    program = write_program(tmp_path / "prog", "#!/bin/sh\ncat data.txt\n")
    (tmp_path / "data.txt").write_text("content")
    job = cluster_of(str(program), depends=[str(tmp_path / "data.txt")]).submit()
    assert (job(), job.stdout) == (0, b"content")


def test_program_that_cannot_run(tmp_path: Path, cluster_of: Make) -> None:
    plain = tmp_path / "plain"
    plain.write_text("data")
    with pytest.raises(InvalidComputation, match="plain"):
        dispy.JobCluster(str(plain), nodes=["127.0.0.1"])
    lost = write_program(tmp_path / "lost", "#!/no/such/interpreter\n")
    job = cluster_of(str(lost)).submit()
    assert job() is None or job.result != 0
    assert job.exception


def test_wrong_nodes_are_refused() -> None:
    with pytest.raises((InvalidNodes, UsageError)):
        dispy.JobCluster(square, nodes=5)


def test_parameters_of_later_versions_are_not_silently_ignored() -> None:
    with pytest.raises(TypeError, match="recover_file"):
        dispy.JobCluster(square, recover_file="x")  # type: ignore[call-arg]


def run_program(
    text: str, folder: Path, *, timeout_s: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    script = folder / "program.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **environment},
        check=False,
    )


def test_program_that_never_waits_gets_its_jobs_done(node: Any, tmp_path: Path) -> None:
    done = run_program(
        f"""
import dispy

def compute(number):
    open({str(tmp_path)!r} + f"/done{{number}}", "w").close()

if __name__ == "__main__":
    cluster = dispy.JobCluster(compute, nodes=[{node.address!r}])
    for number in range(20):
        cluster.submit(number)
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("done*"))) == 20


def test_without_any_node_one_is_started_and_ends_with_the_program(tmp_path: Path) -> None:
    done = run_program(
        """
import dispy

def compute(number):
    import os
    return os.getppid()

if __name__ == "__main__":
    cluster = dispy.JobCluster(compute, dispy_port=5)
    print(cluster.submit(1)())
""",
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "on this machine" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not os.path.exists(f"/proc/{done.stdout.strip()}")


def test_unusable_nodes_are_explained_after_three_seconds(tmp_path: Path) -> None:
    done = run_program(
        """
import dispy

def compute(number):
    return number

cluster = dispy.JobCluster(compute, nodes=["127.0.0.1:9", "no-such-host.invalid"])
job = cluster.submit(1)
print(job.wait(4.5))
cluster.close(timeout=0, terminate=True)
print(job.status == dispy.DispyJob.Cancelled)
""",
        tmp_path,
    )
    assert done.stdout.split() == ["False", "True"], done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert "no-such-host.invalid" in done.stderr
    assert "dispy node" in done.stderr
    assert done.stderr.count("no usable node") == 1


def closes_or_writes(number: int) -> int:
    import os

    if number == 0:
        os.close(1)
    os.write(2, b"job%d" % number)
    return number


def test_worker_whose_output_was_closed_does_not_mix_the_errors_of_its_jobs(start_node: Any) -> None:
    node = start_node(cpus=1)
    with dispy.JobCluster(closes_or_writes, nodes=[node.address], isolation="worker") as cluster:
        jobs = [cluster.submit(number) for number in range(6)]
        assert [job() for job in jobs] == list(range(6))
        assert [job.stderr for job in jobs] == [f"job{number}" for number in range(6)]
