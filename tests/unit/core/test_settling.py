"""What nodes say about jobs, and what is cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispy.engine.effects import CloseLink, JobChange, SendMessage, TellJobs
from dispy.engine.events import CancelRequested
from dispy.engine.records import JobState, NodeState
from dispy.model import JobStatus, Outcome
from dispy.wire.messages import (
    AckResults,
    CancelJobs,
    ComputationFailed,
    JobResults,
    JobsRejected,
    JobsStarted,
    JobStart,
)

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.RETURNED, "FINISHED"),
        (Outcome.EXITED, "FINISHED"),
        (Outcome.RAISED, "TERMINATED"),
        (Outcome.DIED, "TERMINATED"),
        (Outcome.BROKEN, "TERMINATED"),
        (Outcome.CANCELLED, "TERMINATED"),
    ],
)
def test_outcomes(world: World, outcome: Outcome, status: str) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    assert world.told(world.finish(job, outcome=int(outcome), code=3)) == [(1, status)]


def test_a_job_that_a_node_ended_before_it_started_is_cancelled(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    fields = {"outcome": int(Outcome.CANCELLED), "started_at": 0.0, "ended_at": 0.0}
    assert world.told(world.finish(job, **fields)) == [(1, "CANCELLED")]


def test_an_unknown_outcome_closes_the_link_and_nothing_of_the_message_counts(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    jobs = world.submit(computation, 2)
    results = [world.result(jobs[0]), world.result(jobs[1], outcome=7)]
    text = "result of job 2 has the unknown outcome 7"
    assert world.say(JobResults("c1", results)) == [CloseLink(world.links[1], text)]
    assert world.node().state is NodeState.SILENT
    assert computation.pending == 2


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_job_beyond_a_limit_is_terminated(world: World, cancelled: bool) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.start(job)
    if cancelled:
        world.do(CancelRequested([job.id]))
    effects = world.say(JobResults("c1", [world.result(job, outcome=Outcome.EXCEEDED)]))
    assert world.told(effects) == [(1, "TERMINATED")]
    assert computation.pending == 0


@pytest.mark.parametrize("observed", [False, True])
def test_a_start_is_told_once(world: World, observed: bool) -> None:
    computation = world.add(observed=observed)
    world.use(computation, 1)
    (job,) = world.submit(computation)
    assert world.told(world.start(job)) == [(1, "RUNNING")]
    assert (job.state, job.started_at) == (JobState.RUNNING, 10.0)
    assert world.start(job) == []
    assert world.told(world.finish(job)) == [(1, "FINISHED")]


def test_a_start_that_was_left_out_is_made_up_for_those_who_want_it(world: World) -> None:
    computation = world.add(observed=True)
    world.use(computation, 1)
    first, second, third = world.submit(computation, 3)
    world.start(second)
    assert world.told(world.finish(first, second)) == [(1, "RUNNING"), (1, "FINISHED"), (2, "FINISHED")]
    assert first.started_at == 10.0
    broken = {"outcome": int(Outcome.BROKEN), "started_at": 0.0, "ended_at": 0.0}
    assert world.told(world.finish(third, **broken)) == [(3, "TERMINATED")]


def test_starts_of_other_attempts_are_counted(world: World) -> None:
    computation = world.add(observed=True)
    world.use(computation, 1)
    (job,) = world.submit(computation)
    for ident, number, attempt in (("c1", 1, 2), ("c1", 9, 1), ("none", 1, 1)):
        assert world.say(JobsStarted(ident, [JobStart(number, attempt, 1.0)])) == []
    assert world.engine.counters.late_starts == 3
    assert job.state is JobState.ASSIGNED


def test_results_of_other_attempts_are_counted_and_acknowledged(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    for fields in ({"attempt": 2}, {"attempt": 0}, {"job": 9}, {"attempt": 0, "outcome": 2}):
        result = world.result(job, **fields)
        assert world.say(JobResults("c1", [result])) == [
            SendMessage(world.links[1], AckResults("c1", [(result.job, result.attempt)]))
        ]
    assert world.say(JobResults("none", [world.result(job)])) == [
        SendMessage(world.links[1], AckResults("none", [(1, 1)]))
    ]
    assert world.say(JobResults("none", [])) == []
    assert world.engine.counters.late_results == 5
    assert job.state is JobState.ASSIGNED


def test_a_result_comes_twice(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.finish(job)
    assert world.finish(job) == [SendMessage(world.links[1], AckResults("c1", [(1, 1)]))]
    assert world.engine.counters.late_results == 1


def test_a_result_for_a_job_of_another_computation_is_counted(world: World) -> None:
    one, two = world.add(1), world.add(2)
    world.use(one, 1)
    world.use(two, 1)
    (job,) = world.submit(one)
    world.say(JobResults("c2", [world.result(job)]))
    assert world.engine.counters.late_results == 1
    assert job.state is JobState.ASSIGNED


def test_run_times_are_smoothed(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    placement = world.placement(computation)
    jobs = world.submit(computation, 6)
    world.finish(jobs[0], started_at=10.0, ended_at=11.0)
    assert placement.mean_s == 1.0
    world.finish(jobs[1], started_at=10.0, ended_at=12.0)
    assert placement.mean_s == pytest.approx(1.2)
    for job, ended_at in zip(jobs[2:], (9.0, float("nan"), float("inf"), 1e12), strict=True):
        world.finish(job, started_at=10.0, ended_at=ended_at)
    assert placement.mean_s == pytest.approx(1.2)
    assert placement.cpu_time_s == pytest.approx(3.0)
    assert placement.jobs_done == 6


def test_failures_of_the_node_are_no_run_times(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.finish(job, outcome=int(Outcome.DIED))
    assert world.placement(computation).mean_s is None


# -- rejections


def test_rejected_jobs_go_back_to_the_front_in_order(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=3)
    jobs = world.submit(computation, 4)
    assert world.say(JobsRejected("c1", [(1, 1), (2, 1), (3, 1)], "draining")) == []
    assert [job.id for job in computation.queue] == [1, 2, 3, 4]
    assert {job.state for job in jobs} == {JobState.QUEUED}
    assert (jobs[0].node, jobs[0].attempt) == (None, 1)
    assert world.engine.counters.rejected_jobs == 3
    world.connect(2, cpus=2)
    world.use(computation, 2)
    assert list(world.placement(computation, 2).inflight) == [1, 2]
    assert jobs[0].attempt == 2


def test_rejections_of_other_attempts_are_counted(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    world.submit(computation)
    assert world.say(JobsRejected("c1", [(1, 2), (5, 1)], "no")) == []
    assert world.say(JobsRejected("none", [(1, 1)], "no")) == []
    assert world.engine.counters.late_rejections == 3
    assert not world.placement(computation).paused


def test_a_bound_job_that_is_rejected_waits_for_its_node(world: World) -> None:
    computation = world.add()
    world.use(computation, 1, 2)
    (job,) = world.submit(computation, pinned=world.ident(1))
    world.say(JobsRejected("c1", [(1, 1)], "no"))
    assert list(world.placement(computation).pinned) == [job]
    assert world.assigned(world.wait(2.0)) == [(1, [(1, 2)])]


def test_a_job_that_ran_is_not_believed_to_be_unstarted(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.start(job)
    (change,) = world.changes(world.say(JobsRejected("c1", [(1, 1), (1, 1)], "no")))
    assert change.status is JobStatus.ABANDONED
    assert "rejected it: no; the job may have started there" in change.reason
    assert world.engine.counters.rejected_jobs == 1


def test_a_cancelled_job_that_is_rejected_is_over(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.do(CancelRequested([job.id]))
    (change,) = world.changes(world.say(JobsRejected("c1", [(1, 1)], "no")))
    assert (change.status, change.reason) == (JobStatus.CANCELLED, "it had not started")


# -- cancellation


def test_a_queued_job_is_cancelled_at_once(world: World) -> None:
    computation = world.add()
    jobs = world.submit(computation, 3)
    assert world.do(CancelRequested([jobs[1].id])) == [
        TellJobs([JobChange(jobs[1], JobStatus.CANCELLED, None)]),
    ]
    assert world.do(CancelRequested([jobs[1].id])) == []
    assert computation.pending == 2
    assert set(world.engine.jobs) == {1, 3}


def test_jobs_at_nodes_are_asked_for_in_one_message_each(world: World) -> None:
    computation = world.add(observed=True)
    world.use(computation, 1, 2)
    jobs = world.submit(computation, 4)
    world.start(jobs[0], number=1)
    numbers = [job.id for job in jobs]
    assert world.do(CancelRequested(numbers)) == [
        SendMessage(world.links[1], CancelJobs("c1", [(1, 1), (3, 1)])),
        SendMessage(world.links[2], CancelJobs("c1", [(2, 1), (4, 1)])),
    ]
    assert {job.state for job in jobs} == {JobState.CANCELLING}
    assert world.do(CancelRequested(numbers)) == []
    assert computation.pending == 4


@pytest.mark.parametrize(
    ("outcome", "code", "started_at", "status"),
    [
        (Outcome.RETURNED, 0, 10.0, "FINISHED"),
        (Outcome.EXITED, 0, 10.0, "FINISHED"),
        (Outcome.EXITED, 130, 10.0, "TERMINATED"),
        (Outcome.RAISED, 0, 10.0, "TERMINATED"),
        (Outcome.DIED, -9, 10.0, "TERMINATED"),
        (Outcome.CANCELLED, 0, 10.0, "TERMINATED"),
        (Outcome.CANCELLED, 0, 0.0, "CANCELLED"),
    ],
)
def test_how_a_cancelled_job_can_end(
    world: World, outcome: Outcome, code: int, started_at: float, status: str
) -> None:
    computation = world.add(observed=True)
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.do(CancelRequested([job.id]))
    effects = world.finish(job, outcome=int(outcome), code=code, started_at=started_at)
    assert world.told(effects) == [(1, status)]
    assert computation.pending == 0


def test_a_cancelled_job_that_starts_is_not_told_to_run(world: World) -> None:
    computation = world.add(observed=True)
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.do(CancelRequested([job.id]))
    assert world.start(job) == []
    assert (job.state, job.started_at) == (JobState.CANCELLING, 10.0)
    fields = {"outcome": int(Outcome.CANCELLED), "started_at": 0.0}
    assert world.told(world.finish(job, **fields)) == [(1, "TERMINATED")]


def test_abandoned_jobs_are_past_cancelling(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.disconnect(1, final=True)
    assert job.state is JobState.ABANDONED
    assert world.do(CancelRequested([job.id])) == []
    assert job.state is JobState.ABANDONED


def test_many_cancelled_jobs_leave_the_queue(world: World) -> None:
    computation = world.add()
    world.connect(1)
    jobs = world.submit(computation, 200)
    bound = world.submit(computation, 50, pinned=world.ident(1))
    world.do(CancelRequested([job.id for job in jobs[:100]]))
    assert (len(computation.queue), computation.dropped) == (200, 100)
    world.do(CancelRequested([job.id for job in [*jobs[100:130], *bound[:49]]]))
    assert (len(computation.queue), computation.dropped) == (70, 0)
    assert len(world.placement(computation).pinned) == 1


# -- older attempts


def test_the_success_of_an_older_attempt_counts_and_the_newer_is_cancelled(make_world: type[World]) -> None:
    world = make_world(make_world.RerunPolicy())
    computation = world.add(observed=True, reentrant=True)
    world.use(computation, 1, cpus=1)
    (job,) = world.submit(computation)
    world.start(job)
    world.disconnect(1)
    world.wait(20)
    world.use(computation, 2)
    assert (job.attempt, job.state) == (2, JobState.ASSIGNED)
    world.connect(1)
    result = world.result(job, attempt=1)
    assert world.say(JobResults("c1", [result]), 1) == [
        SendMessage(world.links[2], CancelJobs("c1", [(1, 2)])),
        TellJobs(
            [
                JobChange(job, JobStatus.RUNNING, world.node(1)),
                JobChange(job, JobStatus.FINISHED, world.node(1), result),
            ]
        ),
        SendMessage(world.links[1], AckResults("c1", [(1, 1)])),
    ]
    assert world.placement(computation, 2).inflight == {}
    effects = world.say(JobResults("c1", [world.result(job, attempt=2)]), 2)
    assert effects == [SendMessage(world.links[2], AckResults("c1", [(1, 2)]))]
    assert world.engine.counters.late_results == 2


@pytest.mark.parametrize("state", ["queued", "running", "cancelling", "abandoned"])
def test_the_success_of_an_older_attempt_counts_in_every_state(make_world: type[World], state: str) -> None:
    world = make_world()
    computation = world.add(observed=True)
    world.use(computation, 1, cpus=1)
    (job,) = world.submit(computation)
    world.say(JobsRejected("c1", [(1, 1)], "no"))  # and yet it turns out to have run
    if state != "queued":
        world.use(computation, 2)
    if state == "running":
        world.start(job, number=2)
    if state == "cancelling":
        world.do(CancelRequested([job.id]))
    if state == "abandoned":
        world.disconnect(2, final=True)
    assert job.state is JobState(state)
    if state == "queued":
        world.say(JobsRejected("c1", [(1, 1)], "no"))
        world.wait(2.0)
        assert job.attempt == 2
        world.say(JobsRejected("c1", [(1, 2)], "no"))
        assert job.state is JobState.QUEUED
    effects = world.say(JobResults("c1", [world.result(job, attempt=1)]), 1)
    assert world.told(effects)[-1] == (1, "FINISHED")
    assert computation.pending == 0
    assert world.engine.jobs == {}
    cancelled = [type(message) for message in world.messages(effects) if isinstance(message, CancelJobs)]
    assert len(cancelled) == (state == "running")


def test_the_failure_of_an_older_attempt_does_not_count(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.say(JobsRejected("c1", [(1, 1)], "no"))
    world.wait(1.0)
    for fields in ({"outcome": 5}, {"outcome": 2}, {"outcome": 1, "code": -2}):
        world.say(JobResults("c1", [world.result(job, attempt=1, **fields)]))
    assert job.state is JobState.ASSIGNED
    assert world.engine.counters.late_results == 3


def test_results_are_taken_from_a_placement_that_failed(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.start(job)
    world.say(ComputationFailed("c1", "the runner has died"))
    world.do(CancelRequested([job.id]))
    assert world.told(world.finish(job, outcome=3)) == [(1, "TERMINATED")]


def test_which_results_can_be_of_use(make_world: type[World]) -> None:
    world = make_world()
    computation, other = world.add(), world.add(2)
    world.use(computation, 1, 2)
    job, *_ = world.submit(computation, 1)
    placement = next(one for one in computation.placements.values() if one.inflight)
    here = next(number for number in (1, 2) if world.node(number) is placement.node)

    def awaited(number: int = here, ident: str = computation.id, key: int = job.id, attempt: int = 1) -> bool:
        return world.engine.is_awaited(world.links[number], ident, key, attempt)

    assert awaited()
    assert not awaited(number=3 - here)
    assert not awaited(ident=other.id)
    assert not awaited(ident="unknown")
    assert not awaited(key=99)
    assert not awaited(attempt=2)
    assert not awaited(attempt=0)
    assert not world.engine.is_awaited(world.new_link(), computation.id, job.id, 1)
    world.say(JobsRejected(computation.id, [(job.id, 1)], "no"), here)
    assert job.attempt == 2
    assert awaited(attempt=1)
    assert awaited(number=3 - here, attempt=2)
    assert not awaited(attempt=2)
    world.finish(job, number=3 - here)
    assert not awaited(attempt=1)
