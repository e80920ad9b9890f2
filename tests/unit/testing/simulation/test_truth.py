from __future__ import annotations

import msgspec
import pytest

from dispy.engine.effects import JobChange
from dispy.engine.records import Job
from dispy.model import ComputationId, JobId, JobStatus, Outcome
from dispy.wire.messages import JobResult
from dispy_testing.simulation.story import Broken
from dispy_testing.simulation.truth import (
    Excuse,
    JobTruth,
    Manner,
    Truth,
    client_ident,
    client_number,
    make_body,
    make_result,
)

RESULT = JobResult(1, 1, int(Outcome.RETURNED), 0, "", 10.0, 11.0, b"")


def make_truth(*, repeatable: bool = False) -> tuple[Truth, JobTruth]:
    truth = Truth(reliable=True)
    body = make_body(1, 1, 100)
    job = JobTruth(
        1, JobId(1), ComputationId("c"), body, Manner.RETURNS, 1.0, 10, False, repeatable, pinned=None
    )
    truth.add(job)
    return truth, job


def change(status: JobStatus, result: JobResult | None = None) -> JobChange:
    return JobChange(Job(JobId(1), ComputationId("c"), b""), status, None, result)


def run_once(truth: Truth, job: JobTruth, attempt: int = 1) -> JobResult:
    truth.started((1, attempt), job.body)
    body = make_result(job.body, 10)
    result = msgspec.structs.replace(RESULT, attempt=attempt, body=body)
    truth.ended(job, result, body)
    return result


def test_job_that_goes_well() -> None:
    truth, job = make_truth()
    result = run_once(truth, job)
    truth.told(1, change(JobStatus.RUNNING))
    truth.told(1, change(JobStatus.FINISHED, result))
    truth.check_ends()
    assert truth.open == 0
    assert truth.statuses() == {"finished": 1}


def test_second_start_is_found() -> None:
    truth, job = make_truth()
    run_once(truth, job)
    with pytest.raises(Broken, match="may be started once and was started 2 times"):
        run_once(truth, job, attempt=2)


def test_second_start_of_a_job_that_may_is_well_but_not_of_one_attempt() -> None:
    truth, job = make_truth(repeatable=True)
    run_once(truth, job)
    run_once(truth, job, attempt=2)
    with pytest.raises(Broken, match="attempt 2 of job 1 of client 1 was started twice"):
        run_once(truth, job, attempt=2)


def test_wrong_arguments_are_found() -> None:
    truth, job = make_truth()
    with pytest.raises(Broken, match="broken one"):
        truth.started((1, 1), job.body[:-1] + b"!")


def test_second_end_is_found() -> None:
    truth, job = make_truth()
    result = run_once(truth, job)
    truth.told(1, change(JobStatus.FINISHED, result))
    with pytest.raises(Broken, match="after it was FINISHED"):
        truth.told(1, change(JobStatus.FINISHED, result))


def test_wrong_result_is_found() -> None:
    truth, job = make_truth()
    result = msgspec.structs.replace(run_once(truth, job), body=b"else")
    with pytest.raises(Broken, match="computed something else"):
        truth.told(1, change(JobStatus.FINISHED, result))


def test_result_from_nowhere_is_found() -> None:
    truth, _ = make_truth()
    with pytest.raises(Broken, match="which it has not"):
        truth.told(1, change(JobStatus.FINISHED, RESULT))


def test_abandoned_job_may_still_get_one_end() -> None:
    truth, job = make_truth()
    result = run_once(truth, job)
    truth.told(1, change(JobStatus.ABANDONED))
    truth.check_ends()
    truth.told(1, change(JobStatus.FINISHED, result))
    assert truth.open == 0
    with pytest.raises(Broken, match="after it was FINISHED"):
        truth.told(1, change(JobStatus.ABANDONED))


def test_job_that_may_run_again_is_not_to_be_abandoned() -> None:
    truth, _ = make_truth(repeatable=True)
    with pytest.raises(Broken, match="may run again and is abandoned"):
        truth.told(1, change(JobStatus.ABANDONED))


def test_job_without_an_end_is_found() -> None:
    truth, _ = make_truth()
    with pytest.raises(Broken, match="has no end"):
        truth.check_ends()


@pytest.mark.parametrize(
    ("outcome", "status", "excuse"),
    [
        (Outcome.CANCELLED, JobStatus.TERMINATED, Excuse.CANCELLED),
        (Outcome.DIED, JobStatus.TERMINATED, Excuse.RUNNER_DIED),
        (Outcome.BROKEN, JobStatus.TERMINATED, Excuse.NOT_STORED),
    ],
)
def test_failure_needs_an_excuse(outcome: Outcome, status: JobStatus, excuse: Excuse) -> None:
    result = msgspec.structs.replace(RESULT, outcome=int(outcome))
    truth, job = make_truth()
    with pytest.raises(Broken, match="nothing of the kind has happened"):
        truth.told(1, change(status, result))
    truth, job = make_truth()
    job.excuse = excuse
    truth.told(1, change(status, result))
    assert job.end is status


def test_ident_of_a_client_tells_its_number() -> None:
    assert client_number(client_ident(12)) == 12
    truth, job = make_truth()
    assert truth.find(client_ident(1), 1) is job


def partial(number: int) -> JobChange:
    told = msgspec.structs.replace(change(JobStatus.PROVISIONAL_RESULT), partial=b"1:%d;" % number)
    told.job.attempt = 1
    return told


def test_intermediate_results_come_once_in_order_and_before_the_end() -> None:
    truth, job = make_truth()
    for number in (1, 2):
        truth.partial_told(job, 1, number)
    truth.told(1, partial(1))
    with pytest.raises(Broken, match="tells 1 of attempt 1 after"):
        truth.told(1, partial(1))
    result = run_once(truth, job)
    with pytest.raises(Broken, match=r"has sent \[1, 2\], of which \[1\] came"):
        truth.told(1, change(JobStatus.FINISHED, result))


def test_what_was_refused_need_not_come() -> None:
    truth, job = make_truth()
    truth.partial_told(job, 1, 1)
    truth.refused(job, 1, 1)
    truth.refused(None, 1, 1)
    truth.told(1, change(JobStatus.FINISHED, run_once(truth, job)))
