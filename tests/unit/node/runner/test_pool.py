"""The pool of fresh processes without the loop around it; tests/e2e/test_runner.py has the whole."""

from __future__ import annotations

import pytest

from dispy_node.runner.body import BROKEN, CANCELLED, DIED, EXCEEDED, RAISED, RETURNED

POOL = """
from dispy_node.runner.pool import Pool
"""


def test_each_job_has_a_process_of_its_own(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(Pool, os.getpid)
pool.queue.extend([make_job(1), make_job(2)])
pool.dispatch()
waiting = [len(pool.queue), pool.empty]
pool.set_slots(2)
turn_until(pool, poll, lambda: len(host.results) == 2)
outcomes = [host.results[number][2] for number in (1, 2)]
bodies = {host.results[number][8] for number in (1, 2)}
told = [waiting, outcomes, len(bodies), host.logs[:]]
finish(pool, poll)
"""
    )
    assert told == [[2, True], [RETURNED, RETURNED], 2, []]


def test_never_more_jobs_than_slots_and_long_ones_are_announced(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(Pool, time.sleep, cancel_grace_s=[20.0, 20.0])
pool.set_slots(1)
first, second = make_job(1, 60), make_job(2, 60)
pool.queue.extend([first, second])
turn_until(pool, poll, lambda: host.starts)
told = [len(pool.busy), len(pool.queue), host.starts[:]]
pool.cancel(second)
told.append(host.results[2][2])
pool.cancel(first)
turn_until(pool, poll, lambda: len(host.results) == 2)
told.append(host.results[1][2])
pool.cancel(first)
finish(pool, poll)
"""
    )
    assert told == [1, 1, [1], CANCELLED, CANCELLED]


def test_a_death_costs_one_job(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(Pool, lambda status: status and os._exit(status))
pool.set_slots(1)
pool.queue.extend([make_job(1, 7), make_job(2, 0)])
turn_until(pool, poll, lambda: len(host.results) == 2)
finish(pool, poll)
told = [host.results[1][2:4], host.results[2][2]]
"""
    )
    assert told == [[DIED, 7], RETURNED]


def test_children_are_forked_ahead_only_while_there_is_work_to_come(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(Pool, len)
pool.top_up()
told = [pool.empty]
pool.set_slots(1)
pool.top_up()
told.append(pool.empty)
pool.draining = True
pool.top_up()
turn_until(pool, poll, lambda: pool.empty)
told += [pool.empty, pool.timeout()]
"""
    )
    assert told == [True, False, True, -1.0]


def test_jobs_are_given_up_when_no_process_can_be_had(run_pool) -> None:
    told = run_pool(
        POOL
        + """
import errno
from dispy_node.runner import trouble as module
module.PATIENCE_S = module.RETRY_S = 0.01
pool, poll, host = make_pool(Pool, len)
class Barren:
    def fork(self, count, siblings):
        raise OSError(errno.EAGAIN, "no more")
pool._family._nursery = Barren()
pool.set_slots(1)
pool.queue.append(make_job(1, ""))
turn_until(pool, poll, lambda: host.results)
told = [host.results[1][2], host.results[1][6], len(host.logs)]
"""
    )
    assert told[0] == BROKEN
    assert told[1].startswith("no process can be started on node there")
    assert "ulimit -u" in told[1]
    assert told[2] == 1


@pytest.mark.parametrize("kind", ["Pool", "WorkerPool"])
@pytest.mark.parametrize("evidence", ["fork", "result", "death"])
def test_patience_begins_anew_after_each_success(run_pool, kind: str, evidence: str) -> None:
    """Else a process that cannot be had once, and hours later once more, would cost a job at once."""
    start = f"""
from dispy_node.runner import pool as module
from dispy_node.runner.{"pool" if kind == "Pool" else "workers"} import {kind} as kind
evidence, given = {evidence!r}, dict(isolation={"process" if kind == "Pool" else "worker"!r})
"""
    told = run_pool(
        start
        + """
import errno
real, late = module.monotonic, 0.0
module.monotonic = lambda: real() + late
pool, poll, host = make_pool(kind, lambda dies: dies and os._exit(7), **given)
class Moody:
    def __init__(self, nursery):
        self.fertile, self.nursery = False, nursery
    def fork(self, count, siblings):
        if not self.fertile:
            raise OSError(errno.EAGAIN, "no more")
        return self.nursery.fork(count, siblings)
    def watch_output(self, child):
        self.nursery.watch_output(child)
nursery = pool._family._nursery = Moody(pool._family._nursery)
pool.set_slots(1)
def have_process_die():
    while pool._idle:  # one that has run a job is no evidence against those that begin
        pool._family.dismiss(pool._idle.pop())
    nursery.fertile = True
    pool.top_up()
    for child in pool._idle:
        os.kill(child.pid, 9)
    nursery.fertile = False
    turn_until(pool, poll, lambda: not pool._idle)
if evidence == "fork":
    pool.top_up()
else:
    have_process_die()
failures = [len(host.logs)]
nursery.fertile = True
if evidence == "fork":
    turn_until(pool, poll, lambda: pool._idle)
else:
    pool.queue.append(make_job(1, evidence == "death"))
    turn_until(pool, poll, lambda: 1 in host.results)
late = 3600.0
if evidence == "fork":
    while pool._idle:
        pool._family.dismiss(pool._idle.pop())
    nursery.fertile = False
else:
    have_process_die()
pool.queue.append(make_job(2, False))
for _ in range(20):
    pool.tick()
    pool.dispatch()
failures.append(len(host.logs))
nursery.fertile = True
turn_until(pool, poll, lambda: 2 in host.results)
told = [failures, host.results[2][2]]
finish(pool, poll)
"""
    )
    assert told == [[1, 2], RETURNED]


LIMIT = """
import subprocess
def limited(number, *args, timeout=0.0, cpu=0.0, memory=0, processes=0):
    job = make_job(number, *args)
    pool.queue.append(job)
    pool.limit(job, (timeout, cpu, memory, processes))
    return job
"""


def test_a_job_with_too_little_time_is_interrupted_and_its_output_kept(run_pool) -> None:
    told = run_pool(
        POOL
        + LIMIT
        + """
from dispy_node.runner.body import split_body
def compute(catch):
    print("so far")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        if not catch:
            raise
        return "it does not count"
pool, poll, host = make_pool(Pool, compute)
pool.set_slots(2)
limited(1, False, timeout=0.05)
limited(2, True, timeout=0.05)
limited(3, None, timeout=50.0).record = make_job(3).record  # it fails before
turn_until(pool, poll, lambda: len(host.results) == 3)
told = [[host.results[n][2], host.results[n][3], split_body(host.results[n][8])[2].decode()] for n in (1, 2)]
told.append([host.results[3][2], pool._watch.due_at() == float("inf")])
finish(pool, poll)
"""
    )
    assert told == [[EXCEEDED, 1, "so far\n"], [EXCEEDED, 1, "so far\n"], [RAISED, True]]


def test_too_many_processes_are_killed_also_those_that_have_left(run_pool) -> None:
    told = run_pool(
        POOL
        + LIMIT
        + """
def compute():
    for number in range(20):
        if not os.fork():
            if number % 2:
                os.setsid()
            time.sleep(60)
            os._exit(0)
    time.sleep(60)
pool, poll, host = make_pool(Pool, compute)
pool.set_slots(1)
limited(1, processes=10)
pool.queue.append(make_job(2, "argument too many"))
turn_until(pool, poll, lambda: len(host.results) == 2)
told = [host.results[1][2:4], host.results[2][2]]
finish(pool, poll)
turn_until(pool, poll, lambda: not pool._strangers._list())
told.append(len(pool._strangers._list()))
"""
    )
    assert told == [[EXCEEDED, 4], RAISED, 0]


def test_cancelling_ends_processes_with_sessions_of_their_own_while_others_run(run_pool) -> None:
    told = run_pool(
        POOL
        + LIMIT
        + """
def compute(leaves):
    if leaves:
        process = subprocess.Popen(["setsid", "sh", "-c", "echo $$ > left; exec sleep 60"])
    time.sleep(60)
pool, poll, host = make_pool(Pool, compute)
pool.set_slots(2)
pool.queue.extend([make_job(1, False), job := make_job(2, True)])
turn_until(pool, poll, lambda: os.path.exists("left") and open("left").read().strip())
left = int(open("left").read())
pool.cancel(job)
def is_alive():
    try:
        os.kill(left, 0)
    except ProcessLookupError:
        return False
    return True
turn_until(pool, poll, lambda: not is_alive())
told = [host.results[2][2], list(host.results)]
finish(pool, poll)
"""
    )
    assert told == [CANCELLED, [2]]


def test_limits_that_cannot_be_kept_are_told(run_pool) -> None:
    told = run_pool(
        POOL
        + LIMIT
        + """
pool, poll, host = make_pool(Pool, len)
pool._strangers._listing = -1
pool.set_slots(1)
limited(1, "", memory=5)
limited(2, "", timeout=50.0)
turn_until(pool, poll, lambda: len(host.results) == 2)
told = [host.results[1][2], host.results[1][6], host.results[2][2]]
finish(pool, poll)
"""
    )
    assert told[::2] == [BROKEN, RETURNED]
    assert "no lists of children" in told[1]


def test_only_a_job_that_has_not_started_is_given_back(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(Pool, time.sleep)
pool.set_slots(1)
first, second = make_job(1, 0.2), make_job(2, 60)
pool.queue.extend([first, second])
turn_until(pool, poll, lambda: host.starts)
for job in (first, second, second):
    pool.recall(job)
told = [host.results[2][2:6]]
turn_until(pool, poll, lambda: len(host.results) == 2)
pool.recall(first)
told += [host.results[1][2], host.starts]
finish(pool, poll)
"""
    )
    assert told == [[CANCELLED, 0, 0.0, 0.0], 0, [1]]
