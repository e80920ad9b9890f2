from __future__ import annotations

import signal

from dispy_node.runner.escalation import MEMORY, MEMORY_GRACE_S, NEVER, Escalation
from dispy_node.runner.jobs import Job


def test_signals_come_one_after_the_other() -> None:
    escalation, job = Escalation((5.0, 2.0)), Job(b"k", b"r")
    assert escalation.due_at() == NEVER
    escalation.begin(job, 10.0)
    assert escalation.due_at() == 15.0
    assert list(escalation.due(14.9)) == []
    assert list(escalation.due(15.5)) == [(job, signal.SIGTERM)]
    assert escalation.due_at() == 17.5
    assert list(escalation.due(17.5)) == [(job, signal.SIGKILL)]
    assert escalation.due_at() == NEVER


def test_jobs_that_have_ended_are_left_alone() -> None:
    escalation, first, second = Escalation((5.0, 2.0)), Job(b"1", b"r"), Job(b"2", b"r")
    escalation.begin(first, 0.0)
    escalation.begin(second, 1.0)
    first.ended = True
    assert list(escalation.due(100.0)) == [(second, signal.SIGTERM)]
    second.ended = True
    assert list(escalation.due(200.0)) == []
    assert escalation.due_at() == NEVER


def test_a_job_that_uses_too_much_memory_is_asked_only_once() -> None:
    escalation, job = Escalation((5.0, 2.0)), Job(b"k", b"r")
    job.excess = MEMORY, "too much"
    escalation.begin(job, 10.0)
    assert escalation.due_at() == 10.0 + MEMORY_GRACE_S
    assert list(escalation.due(11.0)) == [(job, signal.SIGKILL)]
