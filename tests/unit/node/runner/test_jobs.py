"""A job as it is when it comes."""

from __future__ import annotations

import pytest

from dispy_node.runner.frames import KEY, pack_jobs
from dispy_node.runner.jobs import Job


def test_a_new_job_has_had_nothing_done_to_it() -> None:
    record = pack_jobs([(7, 2, False, b"body")])
    job = Job(KEY.pack(7, 2), record)
    assert (job.key, job.record) == (KEY.pack(7, 2), record)
    assert job.child is None
    assert (job.number, job.started_at) == (0, 0.0)
    assert [job.announced, job.cancelled, job.signalled, job.ended] == [False] * 4


def test_a_job_has_no_attributes_that_nobody_knows() -> None:
    job = Job(KEY.pack(7, 2), b"")
    with pytest.raises(AttributeError):
        job.canceled = True  # type: ignore[attr-defined]
