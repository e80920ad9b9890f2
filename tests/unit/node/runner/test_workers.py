"""The pool of workers without the loop around it; tests/e2e/test_runner.py has the whole."""

from __future__ import annotations

import pytest

from dispy_node.runner import child, workers
from dispy_node.runner.body import BROKEN, CANCELLED, DIED, EXCEEDED, RETURNED

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


@pytest.mark.parametrize("how", ["close", "replace", "streams"])
def test_standard_descriptors_are_as_ever_after_a_job_that_spoilt_them(run_pool, how: str) -> None:
    told = run_pool(
        POOL
        + f"how = {how!r}"
        + """
from dispy_node.runner.body import split_body
def compute(number):
    if number % 2:
        print("first", number)
        if how == "close":
            for descriptor in (0, 1, 2):
                os.close(descriptor)
        elif how == "replace":
            sys.stdout.flush()
            for descriptor in (0, 1, 2):
                os.dup2(os.open("spoilt", os.O_RDWR | os.O_CREAT), descriptor)
            os.write(1, b"elsewhere")
        else:
            sys.stdin.close()
            sys.stdout.close()
            sys.stderr.close()
        return None
    print("out", number)
    os.write(2, b"err")
    return sys.stdin.read(), os.readlink("/proc/self/fd/0")
pool, poll, host = make_pool(WorkerPool, compute, isolation="worker")
pool.set_slots(1)
pool.queue.extend(make_job(number, number) for number in range(1, 7))
turn_until(pool, poll, lambda: len(host.results) == 6)
told = []
for number in range(1, 7):
    value, error, stdout, stderr = split_body(host.results[number][8])
    told.append([host.results[number][2], pickle.loads(value), stdout.decode(), stderr.decode()])
finish(pool, poll)
"""
    )
    spoilt = [[0, None, f"first {number}\n", ""] for number in (1, 3, 5)]
    well = [[0, ["", "/dev/null"], f"out {number}\n", "err"] for number in (2, 4, 6)]
    assert told == [end for pair in zip(spoilt, well, strict=True) for end in pair]


@pytest.mark.parametrize("kind", ["cut off", "foreign", "skipped"])
def test_no_job_is_lost_or_run_twice_when_one_forges_replies(run_pool, kind: str) -> None:
    told = run_pool(
        POOL
        + f"kind = {kind!r}"
        + """
from dispy_node.runner.replies import SKIPPED, make_result, reply
def forge(number):
    ran = os.open("ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(ran, bytes([number]))
    os.close(ran)
    if number != 30 or os.path.exists("forged"):
        return
    open("forged", "w").close()
    (channel,) = [int(name) for name in os.listdir("/proc/self/fd") if is_socket(int(name))]
    key = KEY.pack(30, 1)
    cut_off = make_result(key, 0, 0, (1.0, 2.0), b"", False, b"body")[:-1]
    os.write(channel, {"cut off": reply(0, cut_off), "foreign": b"x" * 100,
                       "skipped": reply(SKIPPED, key) + b"garbage"}[kind])
def is_socket(descriptor):
    import stat
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False
pool, poll, host = make_pool(WorkerPool, forge, isolation="worker")
pool.set_slots(1)
pool.queue.extend(make_job(number, number) for number in range(1, 61))
turn_until(pool, poll, lambda: len(host.results) == 60)
ran = open("ran", "rb").read()
told = [[number, result[2], ran.count(number), result[6]] for number, result in sorted(host.results.items())]
finish(pool, poll)
"""
    )
    assert {outcome for _, outcome, _, _ in told} <= {RETURNED, BROKEN}
    broken = {number for number, outcome, _, _ in told if outcome}
    assert all("its result" in detail or "not its own" in detail for _, outcome, _, detail in told if outcome)
    first = 31 if kind == "skipped" else 30  # then it is run again, as it has asked for
    assert broken == set(range(first, first + len(broken))), "those that it had begun by the time of its end"
    assert [number for number, _, count, _ in told if count > 1] == ([30] if kind == "skipped" else [])
    assert {number for number, _, count, _ in told if count == 0} <= broken


def test_limits_fit_into_each_other() -> None:
    assert workers.AHEAD < child.NUMBERS, "numbers of jobs must differ within one worker"
    assert workers.SETTLE_S < workers.LONG_S


def test_a_worker_whose_job_goes_beyond_a_limit_is_replaced(run_pool) -> None:
    told = run_pool(
        POOL
        + """
from dispy_node.runner.body import split_body
def compute(sleep_s):
    if sleep_s:
        open("begun", "w").close()
    time.sleep(sleep_s)
    return os.getpid()
pool, poll, host = make_pool(WorkerPool, compute, isolation="worker", cancel_grace_s=[20.0, 20.0])
pool.set_slots(1)
for number in (1, 2, 3, 4):
    pool.queue.append(job := make_job(number, 60 if number == 2 else 0))
    if number in (2, 3):
        pool.limit(job, (50.0, 0.0, 0, 0))
turn_until(pool, poll, lambda: os.path.exists("begun"))
pool._watch.tick(time.monotonic() + 50)
turn_until(pool, poll, lambda: len(host.results) == 4)
pids = [pickle.loads(split_body(host.results[number][8])[0]) for number in (1, 3, 4)]
told = [host.results[2][2:4], pids[0] != pids[1], pids[1] == pids[2], host.logs]
finish(pool, poll)
"""
    )
    assert told == [[EXCEEDED, 1], True, True, []]


def test_a_worker_with_processes_of_a_cancelled_job_is_replaced(run_pool) -> None:
    told = run_pool(
        POOL
        + """
import subprocess
def compute(leaves):
    if leaves:
        subprocess.Popen(["sh", "-c", "echo $$ > left; exec sleep 60"])
        time.sleep(60)
pool, poll, host = make_pool(WorkerPool, compute, isolation="worker", cancel_grace_s=[20.0, 20.0])
pool.set_slots(1)
pool.queue.append(make_job(9, False))  # a worker too young for its first job does not outlive a SIGINT
turn_until(pool, poll, lambda: host.results)
pool.queue.extend([job := make_job(1, True), make_job(2, False)])
turn_until(pool, poll, lambda: os.path.exists("left") and open("left").read().strip())
left = int(open("left").read())
pool.cancel(job)
turn_until(pool, poll, lambda: len(host.results) == 3)
def is_alive():
    try:
        os.kill(left, 0)
    except ProcessLookupError:
        return False
    return True
turn_until(pool, poll, lambda: not is_alive())
told = [host.results[1][2], host.results[2][2]]
finish(pool, poll)
"""
    )
    assert told == [CANCELLED, RETURNED]


def test_processes_of_a_cancelled_job_end_though_others_were_behind_it(run_pool) -> None:
    told = run_pool(
        POOL
        + """
from dispy_node.runner import workers
workers.LONG_S = workers.SETTLE_S = 600.0  # nothing is taken back before the worker answers
def compute(leaves):
    if leaves:
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exec sleep 60"], os.environ)
        with open("left.new", "w") as file:
            file.write(str(pid))
        os.rename("left.new", "left")
        time.sleep(60)
pool, poll, host = make_pool(WorkerPool, compute, isolation="worker", cancel_grace_s=[20.0, 20.0])
pool.set_slots(1)
pool.queue.append(make_job(9, False))
turn_until(pool, poll, lambda: host.results)
pool._mean_s = 0.0
pool.queue.extend([job := make_job(1, True), behind := make_job(2, False)])
turn_until(pool, poll, lambda: os.path.exists("left"))
told = [behind.child is job.child]
pool.cancel(job)
def is_alive():
    try:
        os.kill(int(open("left").read()), 0)
    except ProcessLookupError:
        return False
    return True
turn_until(pool, poll, lambda: len(host.results) == 3 and not is_alive())
told += [host.results[1][2], host.results[2][2]]
finish(pool, poll)
"""
    )
    assert told == [True, CANCELLED, RETURNED]


def test_a_job_behind_a_long_one_in_a_worker_is_given_back_in_the_end(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(WorkerPool, time.sleep, isolation="worker")
pool.set_slots(1)
pool.queue.append(make_job(1, 0))
turn_until(pool, poll, lambda: host.results)
behind, last = make_job(3, 0), make_job(4, 0)
pool._mean_s = 0.0  # whatever the first one took: jobs are short, so they are sent ahead
pool.queue.extend([make_job(2, 0.5), behind, last])
pool.dispatch()
told = [behind.child is not None]
pool.recall(behind)
told.append(3 in host.results)
turn_until(pool, poll, lambda: 3 in host.results)
told += [host.results[3][2:6], 2 in host.results]
turn_until(pool, poll, lambda: len(host.results) == 4)
told += [host.results[2][2], host.results[4][2], 3 in host.starts]
finish(pool, poll)
"""
    )
    assert told == [True, False, [CANCELLED, 0, 0.0, 0.0], False, 0, 0, False]


def test_workers_that_end_with_their_runner_are_no_trouble(run_pool) -> None:
    told = run_pool(
        POOL
        + """
pool, poll, host = make_pool(WorkerPool, time.sleep, isolation="worker")
pool.set_slots(3)
pool.queue.extend(make_job(number, 0.2) for number in range(3))
turn_until(pool, poll, lambda: len(host.results) == 3)
workers = len(pool._idle)
finish(pool, poll)
time.sleep(0.2)  # so that all of them have ended when it is looked
pool._family.reap()
told = [workers, host.logs]
"""
    )
    assert told == [3, []]


DEATHS = (
    POOL
    + """
import signal
from dispy_node.runner.limits import TIMEOUT
def compute(number):
    return os.getpid()
pool, poll, host = make_pool(WorkerPool, compute, isolation="worker")
pool.set_slots(1)
def stop_idle():
    # It is there, and takes nothing from now on.
    turn_until(pool, poll, lambda: pool._idle)
    os.kill(pool._idle[0].pid, signal.SIGSTOP)
    return pool._idle[0]
"""
)


@pytest.mark.parametrize("used", [False, True])
def test_a_worker_that_is_killed_for_a_job_it_has_not_begun_is_no_trouble(run_pool, used: bool) -> None:
    """What is wrong with the job is all that is told, and the next worker comes at once."""
    told = run_pool(
        DEATHS
        + f"used = {used}"
        + """
if used:
    pool.queue.append(make_job(9, 0))
    turn_until(pool, poll, lambda: 9 in host.results)
worker = stop_idle()
limited, cancelled = make_job(1, 0), make_job(2, 0)
pool.queue.append(limited)
pool.limit(limited, (50.0, 0.0, 0, 0))
pool.dispatch()
told = [limited.child is worker]
pool._exceeded(limited, TIMEOUT, "too long", True)
turn_until(pool, poll, lambda: 1 in host.results)
worker = stop_idle()
pool.queue.append(cancelled)
pool.dispatch()
told.append(cancelled.child is worker)
pool.cancel(cancelled)
os.kill(worker.pid, signal.SIGKILL)
turn_until(pool, poll, lambda: 2 in host.results)
told += [host.results[1][2], host.results[2][2], host.logs, pool._retry_at]
finish(pool, poll)
"""
    )
    assert told == [True, True, EXCEEDED, CANCELLED, [], 0.0]


@pytest.mark.parametrize(
    ("used", "text"), [(False, "ended before its first job"), (True, "ended between two jobs")]
)
def test_a_worker_that_somebody_kills_is_told_of_and_its_jobs_are_run(
    run_pool, used: bool, text: str
) -> None:
    told = run_pool(
        DEATHS
        + f"used = {used}"
        + """
if used:
    pool.queue.append(make_job(9, 0))
    turn_until(pool, poll, lambda: 9 in host.results)
worker = stop_idle()
pool.draining = True  # there is need of another all the same
pool.queue.append(make_job(1, 0))
pool.dispatch()
told = [len(worker.jobs)]
os.kill(worker.pid, signal.SIGKILL)
turn_until(pool, poll, lambda: 1 in host.results)
told += [host.results[1][2], pool._retry_at > 0, host.logs]
finish(pool, poll)
"""
    )
    assert told[:3] == [1, RETURNED, not used]
    assert len(told[3]) == 1
    assert text in told[3][0]
