from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispy import job as job_module
from dispy.engine.effects import JobChange
from dispy.engine.records import Job, Node, NodeState
from dispy.errors import JobAbandoned, JobBroken, JobCancelled, JobDied, UsageError
from dispy.job import DispyJob
from dispy.model import ComputationId, JobId, JobStatus, NodeId, Outcome, PythonVersion
from dispy.packing.results import ResultBody
from dispy.wire.messages import JobResult

NODE = Node(
    NodeId("n1"), "node1", 1, 2, PythonVersion(3, 12), "Linux", "5", NodeState.CONNECTED, None, "10.0.0.1"
)


def change(
    status: JobStatus,
    result: JobResult | None = None,
    reason: str = "",
    *,
    node: Node | None = NODE,
    started_at: float = 0.0,
) -> JobChange:
    record = Job(JobId(7), ComputationId("c"), b"")
    record.started_at = started_at
    return JobChange(record, status, node, result, reason)


def returned(value: Any, stdout: bytes = b"", stderr: bytes = b"") -> JobChange:
    body = ResultBody(pickle.dumps(value), b"", stdout, stderr).pack()
    return change(JobStatus.FINISHED, JobResult(7, 1, Outcome.RETURNED, 0, "", 11.5, 12.5, body))


def ended(status: JobStatus, outcome: Outcome, body: ResultBody = ResultBody(), code: int = 0) -> JobChange:  # noqa: B008
    return change(status, JobResult(7, 1, outcome, code, "", 11.5, 12.5, body.pack()))


class Marker:
    """Notes who loads it."""

    loaded: list[str] = []

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.loaded.append(threading.current_thread().name)

    def __getstate__(self) -> dict[str, Any]:
        return {"some": "state"}


def test_numbers_of_statuses_are_those_of_the_original() -> None:
    numbers = {
        name: int(getattr(DispyJob, name))
        for name in (
            "Created",
            "Running",
            "ProvisionalResult",
            "Cancelled",
            "Terminated",
            "Abandoned",
            "Finished",
        )
    }
    assert list(numbers.values()) == [5, 6, 7, 8, 9, 10, 11]


def test_a_new_job() -> None:
    job = DispyJob(7)
    assert job.id == 7
    assert DispyJob(8, "mine").id == "mine"
    assert job.status == DispyJob.Created
    for name in (
        "result",
        "stdout",
        "stderr",
        "exception",
        "error",
        "ip_addr",
        "node",
        "start_time",
        "end_time",
    ):
        assert getattr(job, name) is None
    assert job.submit_time > 0
    assert not job.finish.is_set()
    assert not job.wait(0)
    assert repr(job) == "<DispyJob 7 Created>"


def test_a_job_that_runs_and_finishes() -> None:
    job = DispyJob(7)
    job._start(change(JobStatus.RUNNING, started_at=10.5))
    assert (job.status, job.ip_addr, job.node, job.start_time) == (
        DispyJob.Running,
        "10.0.0.1",
        "node1",
        10.5,
    )
    job._settle(returned((1, 2), b"out\xff", b"err"))
    assert job() == (1, 2)
    assert job.wait()
    assert job.status == DispyJob.Finished
    assert (job.stdout, job.stderr, job.exception, job.error) == ("out�", "err", None, None)
    assert (job.start_time, job.end_time) == (11.5, 12.5)
    assert repr(job) == "<DispyJob 7 Finished at node1>"


def test_a_job_that_wants_a_safe_result_unpickles_none() -> None:
    job = DispyJob(7, safe_results=True)
    Marker.loaded.clear()
    job._settle(returned(Marker()))
    assert job() is None
    assert job.status == DispyJob.Terminated
    assert "not a safe result" in job.exception
    assert Marker.loaded == []


def test_output_of_programs_is_bytes_and_their_result_the_exit_status() -> None:
    job = DispyJob(7, text_output=False)
    job._settle(ended(JobStatus.FINISHED, Outcome.EXITED, ResultBody(stdout=b"\xff"), code=3))
    assert (job(), job.stdout, job.stderr, job.status) == (3, b"\xff", b"", DispyJob.Finished)


def test_a_result_is_decoded_once_in_the_thread_that_asks() -> None:
    job = DispyJob(7)
    Marker.loaded.clear()
    job._settle(returned(Marker()))
    assert repr(job) == "<DispyJob 7 Finished at node1>"
    assert Marker.loaded == []
    threads = [threading.Thread(target=lambda: (job.status, job.result), name="asking") for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert isinstance(job.result, Marker)
    assert Marker.loaded == ["asking"]


def test_a_result_that_cannot_be_loaded_fails_the_job() -> None:
    job = DispyJob(7)
    job._settle(ended(JobStatus.FINISHED, Outcome.RETURNED, ResultBody(b"damaged", stdout=b"said")))
    assert job.status == DispyJob.Terminated
    assert job() is None
    assert isinstance(job.error, JobBroken)
    assert job.exception is not None
    assert "cannot be loaded here" in job.exception
    assert job.stdout == "said"


def test_a_job_that_raised() -> None:
    job = DispyJob(7)
    body = ResultBody(pickle.dumps(ValueError("bad")), b"the traceback")
    job._settle(ended(JobStatus.TERMINATED, Outcome.RAISED, body))
    assert job() is None
    assert job.status == DispyJob.Terminated
    assert job.exception == "the traceback"
    assert isinstance(job.error, ValueError)
    assert job.error.__notes__ == ["job 7, attempt 1, at node node1 (10.0.0.1)"]


def test_a_job_that_died_keeps_its_output() -> None:
    job = DispyJob(7)
    job._settle(ended(JobStatus.TERMINATED, Outcome.DIED, ResultBody(stdout=b"half"), code=-11))
    assert isinstance(job.error, JobDied)
    assert job.error.exit_code == -11
    assert job.stdout == "half"


@pytest.mark.parametrize(
    ("status", "reason", "kind", "said"),
    [
        (JobStatus.CANCELLED, "", JobCancelled, "before it ran"),
        (JobStatus.ABANDONED, "node1 was lost", JobAbandoned, "node1 was lost"),
        (JobStatus.ABANDONED, "", JobAbandoned, "the node was lost"),
    ],
)
def test_a_job_without_any_result(status: JobStatus, reason: str, kind: type[Exception], said: str) -> None:
    job = DispyJob(7)
    job._settle(change(status, reason=reason, node=None))
    assert job() is None
    assert job.status == status
    assert type(job.error) is kind
    assert job.exception is not None
    assert said in job.exception
    assert (job.stdout, job.stderr, job.ip_addr, job.end_time) == (None, None, None, None)


def test_an_abandoned_job_may_still_finish() -> None:
    job = DispyJob(7)
    job._settle(change(JobStatus.ABANDONED, reason="lost"))
    assert job.exception == "lost"
    job._settle(returned("late"))
    assert (job.status, job.result, job.exception, job.error) == (DispyJob.Finished, "late", None, None)


def test_nobody_looked_at_a_job_before_its_late_result() -> None:
    job = DispyJob(7)
    job._settle(change(JobStatus.ABANDONED))
    job._settle(returned("late"))
    assert (job.result, job.status) == ("late", DispyJob.Finished)


def test_a_job_that_is_run_again_is_created_anew() -> None:
    job = DispyJob(7)
    job._start(change(JobStatus.RUNNING, started_at=3.0))
    job._start(change(JobStatus.CREATED, node=None))
    assert (job.status, job.ip_addr, job.start_time) == (DispyJob.Created, None, None)


def test_the_event_may_be_asked_for_before_or_after_the_end() -> None:
    early, late = DispyJob(7), DispyJob(8)
    event = early.finish
    assert early.finish is event
    for job in (early, late):
        job._settle(returned(1))
    assert event.is_set()
    assert late.finish.is_set()


def test_waiting_in_another_thread() -> None:
    job = DispyJob(7)
    results: list[Any] = []
    waiting = [threading.Thread(target=lambda: results.append(job())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    job._settle(returned("r"))
    for thread in waiting:
        thread.join(30)
    assert results == ["r"] * 3


def test_clearing_the_event_does_not_make_a_done_job_wait() -> None:
    job = DispyJob(7)
    job._settle(returned(5))
    assert job(clear=True) == 5
    assert not job.finish.is_set()
    assert job() == 5


def test_the_end_is_not_seen_before_the_result() -> None:
    job = DispyJob(7)
    job._start(change(JobStatus.RUNNING))
    job._status = JobStatus.FINISHED  # as the engine's thread leaves it between two lines
    assert job.status == DispyJob.Running
    job._status = JobStatus.CANCELLED  # asked for, while the job runs
    assert job.status == DispyJob.Cancelled


def test_users_may_free_memory_and_name_jobs() -> None:
    job = DispyJob(7)
    job.id = {"any": "thing"}
    job._settle(returned("x" * 1000, b"out"))
    assert job.result
    job.result = None
    assert job.result is None
    assert job.stdout == "out"


def test_jobs_are_ordered_by_submission() -> None:
    first, second = DispyJob(1, "b"), DispyJob(2, "a")
    assert first < second
    assert sorted([second, first]) == [first, second]
    assert {first, second, first} == {first, second}
    with pytest.raises(TypeError):
        assert first < 3  # type: ignore[operator]


FORKED = """
import os, pickle
from dispy.errors import ClusterClosed
from dispy.job import DispyJob
from tests_of_jobs import returned

job, done, held = DispyJob(7), DispyJob(8), DispyJob(9)
done._settle(returned("r"))
import dispy.job
dispy.job._here.lock.acquire()  # as another thread of the parent may have
reader, writer = os.pipe()
if os.fork() == 0:
    said = []
    for wait in (job, job.wait, lambda: job.wait(0)):
        try:
            wait()
        except ClusterClosed as error:
            said.append(str(error))
    new = DispyJob(7)
    new._settle(returned("new"))
    os.write(writer, pickle.dumps((said, done(), new(), new.finish.is_set(), new.wait(0))))
    os._exit(0)
os.close(writer)
print(open(reader, "rb").read().hex())
"""


def test_a_forked_child_does_not_wait_for_what_it_never_hears_of(tmp_path: Path) -> None:
    (tmp_path / "tests_of_jobs.py").write_text(Path(__file__).read_text())
    ended = subprocess.run(
        [sys.executable, "-c", FORKED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), *sys.path]))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    said, *others = pickle.loads(bytes.fromhex(ended.stdout))
    text = "job 7 was submitted in another process, before a fork: make a cluster here and submit it again"
    assert said == [text] * 3
    assert others == ["r", "new", True, True]


class Waiting:
    """A value whose loading takes until somebody allows it, or asks for other jobs."""

    loading: threading.Event
    act: Callable[[], Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.loading.set()
        type(self).act()

    def __getstate__(self) -> dict[str, Any]:
        return {"some": "state"}


def test_loading_a_result_keeps_nobody_from_other_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    slow, other, late = DispyJob(7), DispyJob(8), DispyJob(9)
    allowed = threading.Event()
    monkeypatch.setattr(Waiting, "loading", threading.Event(), raising=False)
    monkeypatch.setattr(Waiting, "act", lambda: allowed.wait(30), raising=False)
    slow._settle(returned(Waiting()))
    other._settle(returned("r"))
    late._settle(change(JobStatus.ABANDONED))
    thread = threading.Thread(target=slow)
    thread.start()
    assert Waiting.loading.wait(30)
    assert other() == "r"
    assert late.status == DispyJob.Abandoned
    late._settle(returned("late"))  # in the engine's thread, which must not wait for code of users
    assert late() == "late"
    allowed.set()
    thread.join(30)
    assert isinstance(slow.result, Waiting)


def test_loading_a_result_may_wait_for_another_job(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = DispyJob(7), DispyJob(8)
    monkeypatch.setattr(Waiting, "loading", threading.Event(), raising=False)
    monkeypatch.setattr(Waiting, "act", second, raising=False)
    first._settle(returned(Waiting()))
    threads = [threading.Thread(target=first)]
    threads[0].start()
    assert Waiting.loading.wait(30)
    third = DispyJob(9)
    third._settle(returned("third"))
    threads.append(threading.Thread(target=lambda: (third(), second._settle(returned("second")))))
    threads[1].start()
    for thread in threads:
        thread.join(30)
    assert isinstance(first(), Waiting)


@pytest.mark.parametrize("name", ["result", "status"])
def test_a_result_that_needs_itself_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    job = DispyJob(7)
    monkeypatch.setattr(Waiting, "loading", threading.Event(), raising=False)
    monkeypatch.setattr(Waiting, "act", lambda: getattr(job, name), raising=False)
    job._settle(returned(Waiting()))
    assert job() is None
    assert job.status == DispyJob.Terminated
    assert "is needed to load this very result" in (job.exception or "")


def test_an_end_that_comes_while_an_earlier_one_is_decoded_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    job = DispyJob(7)
    store = job_module.DispyJob._store

    def interfere(self: DispyJob, raw: Any, end: Any) -> None:
        monkeypatch.undo()
        self._settle(returned("late"))
        store(self, raw, end)

    job._settle(change(JobStatus.ABANDONED, reason="lost"))
    monkeypatch.setattr(job_module.DispyJob, "_store", interfere)
    assert (job.result, job.status, job.exception) == ("late", DispyJob.Finished, None)


def test_other_attributes_are_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'results'"):
        DispyJob(7).results  # type: ignore[attr-defined]  # noqa: B018


def test_a_waiting_job_is_small() -> None:
    job = DispyJob(70000)
    size = sys.getsizeof(job) + sys.getsizeof(job.submit_time) + sys.getsizeof(job.id)
    assert size <= 250


def partial_of(value: Any) -> bytes:
    return pickle.dumps(value)


def test_callback_sees_the_job_as_it_was_and_others_as_it_is() -> None:
    job = DispyJob(7)
    job._start(change(JobStatus.RUNNING))
    job._add_partial(partial_of("half"))
    assert (job.status, job.result) == (JobStatus.PROVISIONAL_RESULT, None)
    job._settle(returned("whole"))
    seen: list[Any] = []

    def callback(told: DispyJob) -> None:
        seen.append((told is job, told.status, told.result))
        other = threading.Thread(target=lambda: seen.append((job.status, job.result)))
        other.start()
        other.join()

    job._call_with_partial(partial_of("half"), callback, job)
    assert seen == [(True, JobStatus.PROVISIONAL_RESULT, "half"), (JobStatus.FINISHED, "whole")]
    assert (job.status, job.result) == (JobStatus.FINISHED, "whole")


def test_last_intermediate_result_is_the_result_until_the_end() -> None:
    job = DispyJob(7)
    job._start(change(JobStatus.RUNNING))
    job._call_with_partial(partial_of(3), lambda: None)
    assert job.result == 3
    job._settle(returned(4))
    assert job.result == 4
    job.result = None
    assert job.result is None


def test_stream_gives_all_and_ends_with_the_job() -> None:
    job = DispyJob(7)
    for number in range(3):
        job._add_partial(partial_of(number))
    with pytest.raises(TimeoutError):
        list(job.stream(timeout=0))
    job._add_partial(partial_of(3))
    job._settle(returned("end"))
    assert list(job.stream()) == [3]
    ended = DispyJob(8)
    ended._settle(returned("end"))
    assert list(ended.stream()) == []


def test_intermediate_result_that_cannot_be_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    job = DispyJob(7)
    called: list[int] = []
    job._call_with_partial(b"rubbish", called.append, 1)
    assert called == []
    assert "is left out" in capsys.readouterr().out
    job._add_partial(b"rubbish")
    with pytest.raises(JobBroken):
        next(job.stream(timeout=1))


def test_tail_of_a_job_that_has_ended_is_its_output() -> None:
    job = DispyJob(7)
    job._settle(returned(1, b"out", b"err"))
    assert list(job.tail()) == ["out"]
    assert list(job.tail("both")) == ["out", "err"]
    program = DispyJob(8, text_output=False)
    program._settle(returned(1, b"out\xff"))
    assert list(program.tail()) == ["out\ufffd"]
    assert job_module._tails == {}


def test_tail_of_what_there_is_not() -> None:
    with pytest.raises(UsageError, match="'both', not 'stdin'"):
        DispyJob(7).tail("stdin")


def test_tail_ends_with_the_job_and_can_be_left() -> None:
    job = DispyJob(7)
    with pytest.raises(TimeoutError):
        next(job.tail(timeout=0))
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.extend(job.tail(timeout=20)))
    reader.start()
    while job not in job_module._tails:
        assert reader.is_alive()
    job._settle(returned(1, b"out"))
    reader.join(20)
    assert seen == ["out"]
    assert job_module._tails == {}
