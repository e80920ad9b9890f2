from __future__ import annotations

import random

from dispy.model import ComputationId, JobId, Outcome
from dispy_node.engine import events as ev
from dispy_testing.simulation.runner import SimulatedRunner
from dispy_testing.simulation.spool import SimulatedSpool
from dispy_testing.simulation.timeline import Timeline
from dispy_testing.simulation.truth import JobTruth, Manner, Truth, make_body


class Bench:
    """A runner with three jobs of 10 s that it is to be given."""

    def __init__(self) -> None:
        self.timeline = Timeline()
        self.truth = Truth(reliable=True)
        self.told: list[ev.Event] = []
        self.running = 0
        rng = random.Random(1)
        self.runner = SimulatedRunner(
            ComputationId("c"),
            self.timeline,
            rng,
            self.truth,
            SimulatedSpool(rng, 0.0),
            clock=lambda: 1000 + self.timeline.now,
            emit=self.told.append,
            counts=self.count,
        )
        for number in (1, 2, 3):
            body = make_body(1, number, 0)
            self.truth.add(
                JobTruth(
                    1,
                    JobId(number),
                    ComputationId("c"),
                    body,
                    Manner.RETURNS,
                    10.0,
                    0,
                    False,
                    False,
                    pinned=None,
                )
            )
        self.jobs = [((number, 1), make_body(1, number, 0)) for number in (1, 2, 3)]

    def count(self, change: int) -> None:
        self.running += change

    def run(self, seconds: float) -> list[ev.Event]:
        """Let time pass; give what was told."""
        self.told.clear()
        self.timeline.run_until(self.timeline.now + seconds)
        return list(self.told)


def outcomes(events: list[ev.Event]) -> list[tuple[int, int]]:
    results = [
        item.result for event in events if isinstance(event, ev.AttemptsEnded) for item in event.results
    ]
    return [(result.job, result.outcome) for result in results]


def test_commands_wait_until_it_is_loaded() -> None:
    bench = Bench()
    bench.runner.start(1.0, "")
    bench.runner.set_slots(2)
    bench.runner.run_jobs(bench.jobs)
    assert bench.run(0.9) == []
    ready, started = bench.run(1.0)
    assert ready == ev.RunnerReady(ComputationId("c"))
    assert isinstance(started, ev.AttemptsStarted)
    assert [start.job for start in started.starts] == [1, 2]
    assert bench.running == 2
    assert outcomes(bench.run(30.0)) == [(1, 0), (2, 0), (3, 0)]


def test_fewer_slots_are_confirmed_when_so_few_jobs_run() -> None:
    bench = Bench()
    bench.runner.start(0.0, "")
    bench.runner.set_slots(2)
    bench.runner.run_jobs(bench.jobs)
    bench.run(1.0)
    bench.runner.set_slots(1)
    assert all(isinstance(event, ev.NewsTold) for event in bench.run(5.0))
    events = bench.run(5.5)
    assert ev.SlotsGivenUp(ComputationId("c"), 1) in events
    assert bench.running == 1


def test_cancelled_jobs_end_started_or_not() -> None:
    bench = Bench()
    bench.runner.start(0.0, "")
    bench.runner.set_slots(1)
    bench.runner.run_jobs(bench.jobs)
    bench.run(1.0)
    bench.runner.cancel([(1, 1), (3, 1), (9, 9)])
    events = bench.run(1.0)
    assert sorted(outcomes(events)) == [(1, Outcome.CANCELLED), (3, Outcome.CANCELLED)]
    assert bench.running == 1


def test_only_jobs_that_have_not_started_are_given_back() -> None:
    bench = Bench()
    bench.runner.start(0.0, "")
    bench.runner.set_slots(1)
    bench.runner.run_jobs(bench.jobs)
    bench.run(1.0)
    bench.runner.recall([(1, 1), (3, 1), (9, 9)])
    events = bench.run(1.0)
    assert (3, Outcome.CANCELLED) in outcomes(events)
    assert (1, Outcome.CANCELLED) not in outcomes(events)


def test_close_ends_it_when_its_jobs_have_ended() -> None:
    bench = Bench()
    bench.runner.start(0.0, "")
    bench.runner.set_slots(1)
    bench.runner.run_jobs(bench.jobs)
    bench.run(1.0)
    bench.runner.close(terminate=False)
    assert outcomes(bench.run(1.0)) == [(2, Outcome.CANCELLED), (3, Outcome.CANCELLED)]
    events = bench.run(10.0)
    assert outcomes(events) == [(1, Outcome.RETURNED)]
    assert events[-1] == ev.RunnerEnded(ComputationId("c"))


def test_death_takes_all_jobs_along() -> None:
    bench = Bench()
    bench.runner.start(0.0, "")
    bench.runner.set_slots(3)
    bench.runner.run_jobs(bench.jobs)
    bench.run(1.0)
    bench.runner.die("killed")
    assert bench.run(30.0) == [ev.RunnerEnded(ComputationId("c"), "killed")]
    assert bench.running == 0


def test_failure_to_load_is_told() -> None:
    bench = Bench()
    bench.runner.start(0.5, "no such module")
    assert bench.run(1.0) == [ev.RunnerFailed(ComputationId("c"), "no such module")]


def test_jobs_tell_something_after_their_start_and_before_their_end() -> None:
    bench = Bench()
    bench.runner.start(0.0, "")
    bench.runner.set_slots(3)
    bench.runner.run_jobs(bench.jobs)
    events = bench.run(30.0)
    told = [(event.news.job, event.news.number) for event in events if isinstance(event, ev.NewsTold)]
    assert sorted(told) == [(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)]
    kinds = [type(event) for event in events if not isinstance(event, ev.RunnerReady)]
    assert kinds[0] is ev.AttemptsStarted
    assert kinds[-1] is ev.AttemptsEnded
    bench.runner.answer((2, 1), 1, taken=False)  # it has ended by now
