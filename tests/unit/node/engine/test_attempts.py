from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dispy.model import ComputationId, LinkId, Outcome
from dispy.wire.messages import (
    AssignJobs,
    CancelJobs,
    CloseComputation,
    JobLimits,
    JobResult,
    JobResults,
    JobsRejected,
    JobsStarted,
    JobStart,
    RecallJobs,
)
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.attempts import RECALLED
from dispy_node.engine.records import AttemptState, Spooled

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import NodeScript

LINK = LinkId(1)


def test_tiny_job_from_assignment_to_acknowledgement(node: NodeScript) -> None:
    node.ready()
    assert node.assign(1) == [fx.RunJobs("a", [((1, 1), b"args")]), fx.SetSlots("a", 1)]
    assert node.start(1) == [node.said(JobsStarted("a", [JobStart(1, 1, 5.0)]))]
    assert node.end(1) == [node.said(JobResults("a", [node.result(1)]))]
    assert node.engine.computations["a"].attempts[1, 1].state is AttemptState.ENDED


def test_jobs_of_one_message_go_to_the_runner_together_and_in_order(node: NodeScript) -> None:
    node.ready()
    run, slots = node.assign(3, 1, 2)
    assert run == fx.RunJobs("a", [((3, 1), b"args"), ((1, 1), b"args"), ((2, 1), b"args")])
    assert slots == fx.SetSlots("a", 2)


def test_jobs_wait_in_order_for_the_runner(node: NodeScript) -> None:
    node.send(node.offer())
    assert node.assign(2, 1) == []
    assert node.assign(3) == []
    _ready, run, slots = node.do(ev.RunnerReady("a"))
    assert run == fx.RunJobs("a", [((2, 1), b"args"), ((1, 1), b"args"), ((3, 1), b"args")])
    assert slots == fx.SetSlots("a", 2)


def test_large_body_is_run_when_it_is_stored(node: NodeScript) -> None:
    node.ready()
    assert node.assign_stream(1, stream=1) == []
    assert node.store(1) == [fx.RunJobs("a", [((1, 1), Spooled("in", 9))]), fx.SetSlots("a", 1)]


def test_large_body_stored_before_the_runner_is_ready(node: NodeScript) -> None:
    node.send(node.offer())
    node.assign_stream(1, stream=1)
    assert node.store(1) == []
    assert fx.RunJobs("a", [((1, 1), Spooled("in", 9))]) in node.do(ev.RunnerReady("a"))


def test_a_body_that_cannot_be_stored_breaks_its_job_alone(node: NodeScript) -> None:
    node.ready()
    node.assign_stream(1, stream=1)
    node.assign_stream(2, stream=2)
    why = "the disk of the node is full; free some space there"
    broken = JobResult(1, 1, int(Outcome.BROKEN), 0, why, 0.0, 0.0, b"")
    assert node.do(ev.StreamFailed(LINK, 1, why)) == [node.said(JobResults("a", [broken]))]
    assert node.store(2)


def test_an_attempt_that_is_here_is_not_taken_again(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    assert node.assign(1) == []
    assert node.send(AssignJobs("a", [node.job(1, b"", stream=1, size=9)])) == [fx.DropStream(LINK, 1)]
    assert node.engine.counters.duplicates == 2
    assert node.assign(1, 2) == [fx.RunJobs("a", [((2, 1), b"args")]), fx.SetSlots("a", 2)]
    node.end(1)
    assert node.assign(1) == []
    node.do(ev.RunnerEnded("a", "died"))
    assert node.assign(1) == [], "its result is kept though the computation is gone"
    assert node.engine.counters.assigned == 2


def test_another_attempt_of_a_job_is_another_thing(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    (run, _slots) = node.send(AssignJobs("a", [node.job(1, attempt=2)]))
    assert run == fx.RunJobs("a", [((1, 2), b"args")])


def test_jobs_of_unknown_computations_are_rejected(node: NodeScript) -> None:
    message = AssignJobs("nope", [node.job(1), node.job(2, b"", stream=4, size=9)])
    drop, reject = node.send(message)
    assert drop == fx.DropStream(LINK, 4)
    assert reject == node.said(
        JobsRejected("nope", [(1, 1), (2, 1)], "the node does not have this computation")
    )
    assert node.engine.counters.rejected == 2


def test_jobs_of_another_clients_computation_are_rejected(node: NodeScript) -> None:
    node.ready()
    node.connect(2, "c2")
    (reject,) = node.assign(1, link=2)
    assert reject.message.reason == "the node does not have this computation"


def test_jobs_of_a_closing_computation_are_rejected_unless_they_are_here(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.send(CloseComputation("a"))
    reason = "the computation is being closed at the node"
    assert node.assign(1, 2) == [node.said(JobsRejected("a", [(2, 1)], reason))]
    assert node.engine.counters.duplicates == 1


@pytest.mark.parametrize(("job", "attempt"), [(0, 1), (-1, 1), (2**63, 1), (1, 0), (1, 2**32)])
def test_numbers_out_of_range_end_the_link(node: NodeScript, job: int, attempt: int) -> None:
    node.ready()
    effects = node.send(AssignJobs("a", [node.job(7), node.job(job, attempt=attempt)]))
    assert fx.RunJobs("a", [((7, 1), b"args")]) in effects
    assert fx.CloseLink(LINK, f"job {job} attempt {attempt} is out of range") in effects


@pytest.mark.parametrize("stream", [-1, 3, 2])
def test_stream_numbers_must_increase(node: NodeScript, stream: int) -> None:
    node.ready()
    node.assign_stream(1, stream=3)
    effects = node.assign_stream(2, stream)
    assert fx.CloseLink(LINK, f"stream {stream} is announced after stream 3") in effects


def test_cancel_of_what_has_not_reached_the_runner(node: NodeScript) -> None:
    node.send(node.offer())
    node.assign(1)
    node.assign_stream(2, stream=1)
    node.assign_stream(3, stream=2)
    node.store(2)
    cancelled = [
        JobResult(number, 1, int(Outcome.CANCELLED), 0, "cancelled before it started", 0.0, 0.0, b"")
        for number in (1, 2, 3)
    ]
    assert node.send(CancelJobs("a", [(1, 1), (2, 1), (3, 1)])) == [
        fx.DropStream(LINK, 1),
        fx.RemoveSpooled([Spooled("in", 9)]),
        node.said(JobResults("a", cancelled)),
    ]
    assert node.store(1) == [fx.RemoveSpooled([Spooled("in", 9)])]
    assert node.do(ev.RunnerReady("a"))[1:] == []


def test_cancel_of_what_the_runner_has_is_passed_on_once(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 3)
    node.start(1)
    node.end(3)
    message = CancelJobs("a", [(1, 1), (2, 1), (3, 1), (9, 9)])
    assert node.send(message) == [fx.CancelAttempts("a", [(1, 1), (2, 1)])]
    assert node.send(message) == []
    assert node.engine.counters.stale == 6
    results = [
        node.result(1, Outcome.CANCELLED),
        node.result(2, Outcome.CANCELLED, started_at=0.0, ended_at=0.0),
    ]
    event = ev.AttemptsEnded("a", [ev.AttemptResult(result) for result in results])
    assert node.do(event) == [node.said(JobResults("a", results))]


def test_a_cancelled_job_may_still_return(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.send(CancelJobs("a", [(1, 1)]))
    assert node.end(1) == [node.said(JobResults("a", [node.result(1)]))]


def test_what_has_not_reached_the_runner_is_given_back_at_once(node: NodeScript) -> None:
    node.send(node.offer())
    node.assign(1)
    node.assign_stream(2, stream=1)
    node.assign_stream(3, stream=2)
    node.store(2)
    assert node.send(RecallJobs("a", [(1, 1), (2, 1), (3, 1), (9, 9)])) == [
        fx.DropStream(LINK, 1),
        fx.RemoveSpooled([Spooled("in", 9)]),
        node.said(JobsRejected("a", [(1, 1), (2, 1), (3, 1)], RECALLED)),
    ]
    assert node.do(ev.RunnerReady("a"))[1:] == []
    assert not node.engine.computations["a"].attempts


def test_the_runner_is_asked_once_for_what_it_has_and_may_have_started(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 3, 4)
    node.start(1)
    node.end(4)
    message = RecallJobs("a", [(1, 1), (2, 1), (3, 1), (4, 1)])
    assert node.send(message) == [fx.RecallAttempts("a", [(2, 1), (3, 1)])]
    assert node.send(message) == []
    back = node.result(3, Outcome.CANCELLED, started_at=0.0, ended_at=0.0)
    said = node.do(ev.AttemptsEnded("a", [ev.AttemptResult(node.result(2)), ev.AttemptResult(back)]))
    assert node.said(JobsRejected("a", [(3, 1)], RECALLED)) in said
    assert node.said(JobResults("a", [node.result(2)])) in said
    assert node.end(1) == [node.said(JobResults("a", [node.result(1)]))]


def test_a_job_that_is_cancelled_when_it_was_recalled_has_a_result(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    node.send(RecallJobs("a", [(1, 1)]))
    assert node.send(CancelJobs("a", [(1, 1)])) == [fx.CancelAttempts("a", [(1, 1)])]
    assert node.send(RecallJobs("a", [(1, 1)])) == []
    result = node.result(1, Outcome.CANCELLED, started_at=0.0, ended_at=0.0)
    assert node.do(ev.AttemptsEnded("a", [ev.AttemptResult(result)])) == [
        node.said(JobResults("a", [result]))
    ]


def test_recall_for_an_unknown_computation_is_counted(node: NodeScript) -> None:
    assert node.send(RecallJobs("nope", [(1, 1)])) == []
    assert node.engine.counters.stale == 1


def test_cancel_for_an_unknown_computation_is_counted(node: NodeScript) -> None:
    assert node.send(CancelJobs("nope", [(1, 1)])) == []
    assert node.engine.counters.stale == 1


def test_starts_and_results_of_what_is_not_there_are_counted(node: NodeScript) -> None:
    node.ready()
    assert node.start(1) == []
    assert node.start(1, name="nope") == []
    assert node.end(1, spooled=Spooled("out", 9)) == [fx.RemoveSpooled([Spooled("out", 9)])]
    assert node.end(1, name="nope", spooled=Spooled("out", 9)) == [fx.RemoveSpooled([Spooled("out", 9)])]
    assert node.end(1, name="nope") == []
    node.assign(1)
    node.end(1)
    assert node.end(1) == []
    assert node.start(1) == []
    assert node.engine.counters.stale == 7


def test_starts_are_not_told_while_the_client_is_away_or_has_not_reconciled(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2)
    node.lose()
    assert node.start(1) == []
    node.connect(2)
    assert node.start(2) == []


def test_runner_that_dies_settles_its_attempts(node: NodeScript) -> None:
    node.ready()
    node.assign(1, 2, 4, 5)
    node.assign_stream(3, stream=1)
    node.now = 110.0
    node.start(1)
    node.now = 112.5
    reason = "its runner was killed by signal 9 (SIGKILL)"
    effects = node.do(ev.RunnerEnded("a", reason))
    died = JobResult(1, 1, int(Outcome.DIED), 0, reason, 5.0, 7.5, b"")
    # It had two slots, so these may have been started before it could say so.
    unsure = f"{reason}; the job may have started"
    maybe = [JobResult(job, 1, int(Outcome.DIED), 0, unsure, 0.0, 0.0, b"") for job in (2, 4)]
    assert effects[1:4] == [
        fx.DropStream(LINK, 1),
        node.said(JobsRejected("a", [(5, 1), (3, 1)], reason)),
        node.said(JobResults("a", [died, *maybe])),
    ]


def test_runner_that_was_told_to_end_has_told_all_starts(node: NodeScript) -> None:
    node.ready()
    node.assign(1)
    effects = node.do(ev.RunnerEnded("a"))
    assert node.said(JobsRejected("a", [(1, 1)], "its runner has ended")) in effects


def test_large_arguments_are_dropped_with_their_computation(node: NodeScript) -> None:
    node.send(node.offer())
    node.assign_stream(1, stream=1)
    node.store(1)
    effects = node.do(ev.RunnerFailed("a", "no module named 'numpy'"))
    assert fx.RemoveSpooled([Spooled("in", 9)]) in effects
    assert node.said(JobsRejected("a", [(1, 1)], "no module named 'numpy'")) in effects


LIMITS = JobLimits(timeout_s=2.0, cpu_time_s=1.5, memory_bytes=10**9, processes=7)


def test_limits_go_to_the_runner_with_their_jobs(node: NodeScript) -> None:
    node.ready()
    run, _ = node.send(AssignJobs("a", [node.job(1), node.job(2, limits=LIMITS)]))
    assert run == fx.RunJobs("a", [((1, 1), b"args"), ((2, 1), b"args")], {(2, 1): LIMITS})


def test_limits_wait_with_their_jobs(node: NodeScript) -> None:
    node.send(node.offer())
    node.send(
        AssignJobs("a", [node.job(1, limits=LIMITS), node.job(2, b"", stream=1, size=9, limits=LIMITS)])
    )
    assert fx.RunJobs("a", [((1, 1), b"args")], {(1, 1): LIMITS}) in node.do(ev.RunnerReady("a"))
    assert fx.RunJobs("a", [((2, 1), Spooled("in", 9))], {(2, 1): LIMITS}) in node.store(1)


@pytest.mark.parametrize(
    "limits",
    [
        JobLimits(timeout_s=-1.0),
        JobLimits(timeout_s=float("nan")),
        JobLimits(cpu_time_s=float("inf")),
        JobLimits(memory_bytes=-1),
        JobLimits(memory_bytes=2**63),
        JobLimits(processes=2**31),
    ],
)
def test_limits_that_no_scheduler_sends_close_the_link(node: NodeScript, limits: JobLimits) -> None:
    node.ready()
    effects = node.send(AssignJobs("a", [node.job(1), node.job(2, limits=limits)]))
    assert any(
        isinstance(effect, fx.CloseLink) and "job 2 has the limits" in effect.reason for effect in effects
    )
    assert fx.RunJobs("a", [((1, 1), b"args")]) in effects


@pytest.mark.parametrize("ready", [False, True])
@pytest.mark.parametrize("stream", [0, 1])
def test_a_job_with_a_file_that_is_too_large_ends_at_once(
    make_node: Callable[..., NodeScript], ready: bool, stream: int
) -> None:
    node = make_node(max_file_bytes=8)
    node.connect()
    if ready:
        node.ready()
    else:
        node.send(node.offer())
    small = node.job(1, carries=("small", 8))
    large = node.job(2, b"", stream=stream, size=9, carries=("large", 9))
    told = node.send(AssignJobs("a", [small, large]))
    (results,) = [
        effect.message
        for effect in told
        if isinstance(effect, fx.SendMessage) and isinstance(effect.message, JobResults)
    ]
    (result,) = results.results
    assert (result.job, result.outcome) == (2, Outcome.BROKEN)
    assert "file 'large' has 9 bytes, more than the 8 of the node's --max-file-size" in result.detail
    assert (fx.DropStream(LinkId(1), 1) in told) == bool(stream)
    runs = told if ready else node.do(ev.RunnerReady(ComputationId("a")))
    assert fx.RunJobs(ComputationId("a"), [((1, 1), b"args")], carrying=frozenset({(1, 1)})) in runs


def test_which_jobs_bring_something_is_told_to_the_runner(node: NodeScript) -> None:
    node.ready()
    jobs = [node.job(1), node.job(2, carries=("", 0)), node.job(3)]
    keys = [((number, 1), b"args") for number in (1, 2, 3)]
    run, _ = node.send(AssignJobs("a", jobs))
    assert run == fx.RunJobs(ComputationId("a"), keys, carrying=frozenset({(2, 1)}))
