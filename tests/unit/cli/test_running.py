"""The run over all jobs: order, bounds, nodes, signals."""

from __future__ import annotations

import itertools
import queue
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dispy.errors import DispyError, NoNodesError, UsageError
from dispy_cli.exits import Stopped
from dispy_cli.outcomes import JobEnd
from dispy_cli.progress import NoProgress, Standing
from dispy_cli.running import Feeder, Run, Tally, describe_tally, signals_stop

LONG_S = 5.0
"""Longer than anything here takes."""


class Clock:
    """Time that passes by *step* with each look."""

    def __init__(self, step: float = 0.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class DueProgress(NoProgress):
    """Progress that is always due, and keeps what it is told."""

    def __init__(self) -> None:
        self.standings: list[Standing] = []

    def is_due(self) -> bool:
        return True

    def draw(self, standing: Standing) -> None:
        self.standings.append(standing)


def make_run(cluster: Any, jobs: list[list[str]], **options: Any) -> tuple[Run, list[JobEnd]]:
    ends: list[JobEnd] = []
    settings: dict[str, Any] = {"node_timeout_s": 10.0, "clock": Clock(), "progress": NoProgress()}
    settings |= options
    return Run(cluster, Feeder(cluster.submit, iter(jobs)), ends.append, **settings), ends


def test_jobs_are_handed_on_in_order_and_counted(fake_cluster: Any, fake_job: Any) -> None:
    cluster = fake_cluster(lambda *args: fake_job(args, result=int(args[0])))
    run, ends = make_run(cluster, [["0"], ["1"], ["0", "x"]])
    assert run.run() == Tally(done=3, failed=1)
    assert [(end.number, end.arguments) for end in ends] == [(1, ["0"]), (2, ["1"]), (3, ["0", "x"])]


def test_job_that_ends_early_waits_for_those_before_it(fake_cluster: Any, fake_job: Any) -> None:
    jobs = {name: fake_job((name,), is_over=False) for name in "abc"}
    cluster = fake_cluster(lambda name: jobs[name])
    ends: list[JobEnd] = []
    seen: list[tuple[int, int]] = []

    class Ending(DueProgress):
        """Ends jobs from the last to the first, one with each look at the progress."""

        def draw(self, standing: Standing) -> None:
            if len(cluster.jobs) == 3:
                seen.append((standing.done, len(ends)))
                for job in reversed(cluster.jobs):
                    if not job.over.is_set():
                        job.over.set()
                        break

    feeder = Feeder(cluster.submit, iter([["a"], ["b"], ["c"]]))
    run = Run(cluster, feeder, ends.append, Ending(), node_timeout_s=10.0, clock=Clock())
    run.run()
    assert [list(end.arguments) for end in ends] == [["a"], ["b"], ["c"]]
    # All three were done before the first was handed on, and the progress told so.
    assert [done for done, handed in seen if handed == 0][:3] == [0, 1, 2]


def test_no_jobs_is_no_error(fake_cluster: Any) -> None:
    run, ends = make_run(fake_cluster(nodes=0), [])
    assert run.run() == Tally()
    assert ends == []


def test_without_a_node_it_gives_up_in_time(fake_cluster: Any, fake_job: Any) -> None:
    cluster = fake_cluster(lambda *args: fake_job(args, is_over=False), nodes=0)
    run, ends = make_run(cluster, [["a"]], node_timeout_s=10.0, clock=Clock(step=4.0))
    with pytest.raises(NoNodesError, match="^no usable node within 10 s: nobody is there$"):
        run.run()
    assert ends == []


def test_without_a_node_it_gives_up_although_input_has_not_come(fake_cluster: Any) -> None:
    blocked = threading.Event()

    def endless() -> Iterator[list[str]]:
        blocked.wait(LONG_S)
        yield from ()

    cluster = fake_cluster(nodes=0)
    run = Run(
        cluster,
        Feeder(cluster.submit, endless()),
        lambda end: None,
        NoProgress(),
        node_timeout_s=1.0,
        clock=Clock(step=1.0),
    )
    try:
        with pytest.raises(NoNodesError):
            run.run()
    finally:
        blocked.set()


def test_node_that_was_there_once_is_enough(fake_cluster: Any, fake_job: Any) -> None:
    cluster = fake_cluster(lambda *args: fake_job(args, is_over=False), nodes=1)
    looks = itertools.count()

    class Leaving(DueProgress):
        def draw(self, standing: Standing) -> None:
            cluster.nodes = []
            if next(looks) == 3:
                cluster.jobs[0].over.set()

    run, ends = make_run(cluster, [["a"]], node_timeout_s=1.0, clock=Clock(step=1.0), progress=Leaving())
    run.run()
    assert len(ends) == 1


def test_progress_is_told(fake_cluster: Any, fake_job: Any) -> None:
    progress = DueProgress()
    cluster = fake_cluster(lambda *args: fake_job(args, result=1), nodes=2)
    run, _ends = make_run(cluster, [["a"], ["b"]], progress=progress)
    run.run()
    last = progress.standings[-1]
    assert (last.done, last.failed, last.nodes) == (2, 2, 2)
    assert last.total in (2, None)  # the feeder may not have seen the end of its input yet


def test_error_of_the_input_comes_out(fake_cluster: Any) -> None:
    def bad() -> Iterator[list[str]]:
        yield ["good"]
        raise UsageError("line 2 of standard input: bad")

    cluster = fake_cluster()
    ends: list[JobEnd] = []
    run = Run(cluster, Feeder(cluster.submit, bad()), ends.append, NoProgress(), node_timeout_s=1.0)
    with pytest.raises(UsageError, match="line 2"):
        run.run()
    assert len(ends) == 1


def test_error_of_the_output_ends_the_run(fake_cluster: Any) -> None:
    def broken(end: JobEnd) -> None:
        raise BrokenPipeError

    cluster = fake_cluster()
    feeder = Feeder(cluster.submit, (["x"] for _ in itertools.count()), window=3)
    run = Run(cluster, feeder, broken, NoProgress(), node_timeout_s=1.0)
    with pytest.raises(BrokenPipeError):
        run.run()
    assert run.tally.done == 1


def test_feeder_keeps_within_its_window(fake_cluster: Any) -> None:
    cluster = fake_cluster()
    feeder = Feeder(cluster.submit, ([str(number)] for number in itertools.count()), window=2)
    feeder.start()
    for expected in range(1, 50):
        taken = feeder.take(LONG_S)
        assert taken is not None
        assert taken.number == expected
        # Those in the window, and one that waits for room.
        assert len(cluster.jobs) <= expected + 3
    feeder.stop()


def test_stopped_feeder_ends_its_thread(fake_cluster: Any) -> None:
    feeder = Feeder(fake_cluster().submit, (["x"] for _ in itertools.count()), window=1)
    feeder.start()
    assert feeder.take(LONG_S) is not None
    feeder.stop()
    feeder._thread.join(LONG_S)
    assert not feeder._thread.is_alive()


def test_feeder_tells_the_end_and_what_went_wrong(fake_cluster: Any) -> None:
    feeder = Feeder(fake_cluster().submit, iter([["a"]]))
    feeder.start()
    assert feeder.take(LONG_S) is not None
    assert feeder.take(LONG_S) is None
    assert feeder.is_done
    assert feeder.submitted == 1

    def refuse(*args: str) -> Any:
        raise DispyError("no")

    feeder = Feeder(refuse, iter([["a"], ["b"]]))
    feeder.start()
    with pytest.raises(DispyError, match="no"):
        feeder.take(LONG_S)


def test_feeder_that_has_nothing_yet_says_so(fake_cluster: Any) -> None:
    feeder = Feeder(fake_cluster().submit, iter([]))
    with pytest.raises(queue.Empty):
        feeder.take(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_does_what_an_interrupt_does(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt) as caught, signals_stop():
        signal.raise_signal(number)
    assert isinstance(caught.value, Stopped)
    assert caught.value.exit_status == 128 + number
    assert signal.getsignal(number) is before


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_stop():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("tally", "text"),
    [
        (Tally(), "0 jobs, none failed, 1.2 s"),
        (Tally(done=1), "1 job, none failed, 1.2 s"),
        (Tally(done=12, failed=2), "12 jobs, 2 failed, 1.2 s"),
    ],
)
def test_summary(tally: Tally, text: str) -> None:
    assert describe_tally(tally, 1.23) == text
