"""The pool of workers without the loop around it; tests/e2e/test_runner.py has the whole."""

from __future__ import annotations

from dispy_node.runner import child, workers
from dispy_node.runner.body import CANCELLED, DIED

POOL = """
from dispy_node.runner.workers import WorkerPool
"""


def test_one_worker_runs_many_jobs_in_order(run_pool) -> None:
    told = run_pool(
        POOL
        + """
from dispy_node.runner.body import split_body
ran = []
def compute(number):
    ran.append(number)
    return os.getpid(), ran
pool, poll, host = make_pool(WorkerPool, compute, isolation="worker")
pool.set_slots(1)
pool.queue.extend(make_job(number, number) for number in range(1, 101))
turn_until(pool, poll, lambda: len(host.results) == 100)
ends = [pickle.loads(split_body(host.results[number][8])[0]) for number in range(1, 101)]
told = [len({pid for pid, _ in ends}), ends[-1][1] == list(range(1, 101)), not pool.busy]
finish(pool, poll)
"""
    )
    assert told == [1, True, True]


def test_output_goes_to_its_own_job(run_pool) -> None:
    told = run_pool(
        POOL
        + """
from dispy_node.runner.body import split_body
pool, poll, host = make_pool(WorkerPool, lambda number: os.write(1 + number % 2, b"%d" % number),
                             isolation="worker")
pool.set_slots(1)
pool.queue.extend(make_job(number, number) for number in range(1, 21))
turn_until(pool, poll, lambda: len(host.results) == 20)
told = []
for number in range(1, 21):
    _, _, stdout, stderr = split_body(host.results[number][8])
    told.append([stdout.decode(), stderr.decode()][:: -1 if number % 2 else 1])
finish(pool, poll)
"""
    )
    assert told == [[str(number), ""] for number in range(1, 21)]


def test_jobs_behind_one_that_dies_are_run_by_another_worker(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(WorkerPool, lambda status: status and os._exit(status), isolation="worker")
pool.set_slots(1)
pool.queue.extend(make_job(number, 7 if number == 30 else 0) for number in range(1, 61))
turn_until(pool, poll, lambda: len(host.results) == 60)
told = [[number, *host.results[number][2:4]] for number in range(1, 61) if host.results[number][2]]
finish(pool, poll)
"""
    )
    assert told == [[30, DIED, 7]]


def test_a_cancelled_job_ends_and_its_worker_goes_on(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(WorkerPool, time.sleep, isolation="worker", cancel_grace_s=[20.0, 20.0])
pool.set_slots(1)
pool.queue.append(make_job(4, 0))  # a worker too young for its first job does not outlive a SIGINT
turn_until(pool, poll, lambda: host.results)
long = make_job(1, 60)
pool.queue.extend([long, make_job(2, 0)])
turn_until(pool, poll, lambda: 1 in host.starts)
(before,) = pool.busy
pool.cancel(long)
turn_until(pool, poll, lambda: len(host.results) == 3)
turn_until(pool, poll, lambda: not pool.busy)
pool.queue.append(make_job(3, 60))
turn_until(pool, poll, lambda: 3 in host.starts)
(after,) = pool.busy
told = [host.results[1][2], host.results[2][2], before == after]
finish(pool, poll)
"""
    )
    assert told == [CANCELLED, 0, True]


def test_limits_fit_into_each_other() -> None:
    assert workers.AHEAD < child.NUMBERS, "numbers of jobs must differ within one worker"
    assert workers.SETTLE_S < workers.LONG_S
