from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dispy.model import Outcome
from dispy_node.runner import frames
from dispy_node.runner.body import make_body, split_body
from dispy_node.runner.jobs import Job
from dispy_node.runner.outcome import Ending
from dispy_node.runner.replies import INTERRUPTED, GarbledReplies, make_result
from dispy_node.runner.settings import Settings

KEY = frames.KEY.pack(7, 2)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings({"folder": str(tmp_path), "spool": str(tmp_path), "node": "there", "inline_bytes": 1000})


@pytest.fixture
def job() -> Job:
    return Job(KEY, frames.pack_jobs([(7, 2, False, b"")]))


@pytest.fixture
def ending(settings: Settings) -> Ending:
    return Ending(settings)


def child_result(outcome: int, body: bytes = b"", *, is_path: bool = False) -> bytes:
    return make_result(KEY, outcome, 0, (1.0, 2.0), b"", is_path, body)


def taken(record: bytes) -> tuple[int, int, str, tuple[Any, ...]]:
    ((_, _, outcome, code, _, _, detail, is_path, body),) = frames.unpack_results(record)
    return outcome, code, detail, split_body(Path(os.fsdecode(body)).read_bytes() if is_path else body)


def test_output_is_added(ending: Ending, job: Job) -> None:
    record = ending.answered(job, 0, child_result(Outcome.RETURNED, make_body(b"value")), b"out", b"err")
    assert taken(record) == (Outcome.RETURNED, 0, "", (b"value", b"", b"out", b"err"))


def test_much_output_makes_it_a_file(ending: Ending, job: Job, settings: Settings) -> None:
    record = ending.answered(job, 0, child_result(Outcome.RETURNED, make_body(b"value")), b"o" * 1000, b"")
    assert taken(record)[3] == (b"value", b"", b"o" * 1000, b"")
    assert os.listdir(settings.spool) == ["7-2.result"]


def test_output_is_added_to_a_file(ending: Ending, job: Job, settings: Settings) -> None:
    path = Path(settings.spool) / "7-2.result"
    path.write_bytes(make_body(b"v" * 1000))
    result = child_result(Outcome.RETURNED, os.fsencode(path), is_path=True)
    assert ending.answered(job, 0, result, b"", b"") == result
    assert taken(ending.answered(job, 0, result, b"out", b""))[3] == (b"v" * 1000, b"", b"out", b"")


@pytest.mark.parametrize(
    "result",
    [
        b"short",
        child_result(Outcome.RETURNED, b"no body"),
        child_result(Outcome.RETURNED, b"/etc/passwd", is_path=True),
        child_result(Outcome.RETURNED, make_body(b"x")) + b"x",
    ],
)
def test_garbled_result(ending: Ending, job: Job, result: bytes) -> None:
    with pytest.raises(GarbledReplies):
        ending.answered(job, 0, result, b"out", b"")


@pytest.mark.parametrize(
    ("cancelled", "flags", "outcome", "told"),
    [
        (False, INTERRUPTED, Outcome.RAISED, Outcome.RAISED),
        (True, INTERRUPTED, Outcome.RAISED, Outcome.CANCELLED),
        (True, 0, Outcome.RAISED, Outcome.RAISED),
        (True, 0, Outcome.DIED, Outcome.CANCELLED),
        (True, 0, Outcome.RETURNED, Outcome.RETURNED),
    ],
)
def test_cancelled_or_not(
    ending: Ending, job: Job, cancelled: bool, flags: int, outcome: Outcome, told: Outcome
) -> None:
    job.cancelled = cancelled
    record = taken(ending.answered(job, flags, child_result(outcome, make_body(b"v", b"e")), b"out", b""))
    assert record[0] == told
    assert record[3] == (b"", b"", b"out", b"") if told == Outcome.CANCELLED else (b"v", b"e", b"out", b"")


def test_cancelled_job_leaves_no_file(ending: Ending, job: Job, settings: Settings) -> None:
    path = Path(settings.spool) / "7-2.result"
    path.write_bytes(make_body(b"v" * 1000))
    job.cancelled = True
    ending.answered(job, INTERRUPTED, child_result(Outcome.RAISED, os.fsencode(path), is_path=True), b"", b"")
    assert not path.exists()


@pytest.mark.parametrize(
    ("program", "cancelled", "code", "told"),
    [
        ([], False, -11, Outcome.DIED),
        ([], False, 0, Outcome.DIED),
        ([], True, 0, Outcome.CANCELLED),
        ([], True, -2, Outcome.CANCELLED),
        (["x"], False, 3, Outcome.EXITED),
        (["x"], True, 0, Outcome.EXITED),
        (["x"], True, -15, Outcome.CANCELLED),
    ],
)
def test_death(
    ending: Ending,
    job: Job,
    settings: Settings,
    program: list[str],
    cancelled: bool,
    code: int,
    told: Outcome,
) -> None:
    settings.program, job.cancelled = program, cancelled
    leftover = Path(settings.spool) / "7-2.result"
    leftover.write_bytes(b"half a res")
    record = taken(ending.died(job, code, 1.0, b"out", b""))
    assert record[:2] == (told, code)
    assert bool(record[2]) == (told == Outcome.DIED)
    assert record[3] == (b"", b"", b"out", b"")
    assert not leftover.exists()


def test_not_run(ending: Ending, job: Job) -> None:
    assert taken(ending.broken(job, "why"))[:3] == (Outcome.BROKEN, 0, "why")
    for record in (ending.cancelled(job), ending.recalled(job)):
        ((*_, outcome, code, started_at, ended_at, _, _, _),) = frames.unpack_results(record)
        assert (outcome, code, started_at, ended_at) == (Outcome.CANCELLED, 0, 0.0, 0.0), "it has not run"


def test_output_that_cannot_be_stored(ending: Ending, job: Job, settings: Settings) -> None:
    settings.spool = os.path.join(settings.spool, "missing")
    record = taken(ending.died(job, -signal.SIGKILL, 1.0, b"o" * 2000, b""))
    assert record[0] == Outcome.BROKEN
    assert "the job's result with its output (2020 bytes) cannot be stored on node there" in record[2]


def test_a_cancelled_job_may_have_removed_its_result(ending: Ending, job: Job, settings: Settings) -> None:
    job.cancelled = True
    path = os.path.join(settings.spool, "7-2.result")
    result = child_result(Outcome.RAISED, os.fsencode(path), is_path=True)
    record = ending.answered(job, INTERRUPTED, result, b"out", b"")
    assert taken(record) == (Outcome.CANCELLED, 0, "", (b"", b"", b"out", b""))


@pytest.mark.parametrize("outcome", [Outcome.RETURNED, Outcome.RAISED, Outcome.DIED])
def test_a_job_beyond_a_limit_is_that_whatever_it_says(ending: Ending, job: Job, outcome: Outcome) -> None:
    job.cancelled, job.excess = True, (3, "too much")
    record = ending.answered(job, 0, child_result(outcome, make_body(b"value")), b"out", b"err")
    assert taken(record) == (Outcome.EXCEEDED, 3, "too much", (b"", b"", b"out", b"err"))


def test_a_job_beyond_a_limit_leaves_no_file(ending: Ending, job: Job) -> None:
    job.cancelled, job.excess = True, (1, "too long")
    path = Path(ending._path(job))
    path.write_bytes(b"large")
    record = ending.answered(
        job, 0, child_result(Outcome.RETURNED, os.fsencode(path), is_path=True), b"", b""
    )
    assert taken(record)[:3] == (Outcome.EXCEEDED, 1, "too long")
    assert not path.exists()


def test_a_job_beyond_a_limit_that_was_killed_or_never_begun(ending: Ending, job: Job) -> None:
    job.cancelled, job.excess = True, (4, "too many")
    assert taken(ending.died(job, -9, 1.0, b"out", b""))[:3] == (Outcome.EXCEEDED, 4, "too many")
    assert taken(ending.cancelled(job))[:3] == (Outcome.EXCEEDED, 4, "too many")
