"""Forking children, in interpreters of their own."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dispy_node.runner.offspring import Offspring, ranges_without


@given(st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_ranges_close_all_but_one(descriptors: set[int], kept: int) -> None:
    ranges = ranges_without(sorted(descriptors), kept)
    closed = [number for low, high in ranges for number in range(low, high)]
    assert closed == sorted(descriptors - {kept})
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_a_new_child_has_nothing_to_do() -> None:
    child = Offspring(3, 4, 5, None)
    assert (child.channel, child.stdout, child.stderr, child.process) == (3, 4, 5, -1)
    assert (list(child.jobs), child.rest, child.unsent, child.out, child.err) == ([], b"", b"", None, None)
    assert not any([child.deaf, child.leaving, child.used, child.watched, child.ending])


FORK = """
import pickle, signal
from dispy_node.runner.bare import Libc, open_poll
from dispy_node.runner.frames import pack_jobs, unpack_results
from dispy_node.runner.body import split_body
from dispy_node.runner.namespace import Computation
from dispy_node.runner.offspring import Nursery
from dispy_node.runner.replies import cut_replies
from dispy_node.runner.settings import Settings

def make_nursery(compute, **given):
    poll = open_poll()
    settings = Settings({"folder": ".", "spool": ".", **given})
    computation = None if compute is None else Computation(compute, {})
    return Nursery(settings, computation, Libc(), poll, (poll.fileno(),), True), poll

def run(child, poll, *args):
    os.write(child.channel, pack_jobs([(1, 1, False, pickle.dumps((args, {}), 5))]))
    while child.channel not in [fd for fd, mask in poll.poll(20.0)]:
        pass  # that of another child has been hung up
    ((flags, record),), _, _ = cut_replies(os.read(child.channel, 1 << 16), 1 << 16)
    (result,) = unpack_results(record)
    return pickle.loads(split_body(result[8])[0])

def wait(child):
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
"""


def test_children_run_their_job_in_a_session_of_their_own(run_script) -> None:
    told = run_script(
        FORK
        + """
import fcntl
def compute(text):
    print(text)
    mask = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    descriptors = sorted(int(name) for name in os.listdir("/dev/fd"))
    return os.getpid(), os.getsid(0), mask, len(descriptors)
nursery, poll = make_nursery(compute)
nursery.rehearse()
first, second = nursery.fork(2, ())
told = []
for child, text in ((second, "second"), (first, "first")):
    pid, session, mask, descriptors = run(child, poll, text)
    told.append([pid == session == child.pid != os.getpid(), mask, descriptors])
    told.append([os.read(child.stdout, 100).decode(), wait(child)])
"""
    )
    # 0 to 2, the channel, and the folder that was listed
    assert told == [[True, [], 5], ["second\n", 0], [True, [], 5], ["first\n", 0]]


def test_a_child_without_a_job_ends_with_its_channel(run_script) -> None:
    assert run_script(
        FORK
        + """
nursery, poll = make_nursery(len)
told = []
for reuse in ("process", "worker"):
    nursery, poll = make_nursery(len, isolation=reuse)
    (child,) = nursery.fork(1, ())
    os.close(child.channel)
    told.append([child.cells is not None, wait(child)])
"""
    ) == [[False, 0], [True, 0]]


def test_the_runner_is_deaf_to_signals_and_its_children_are_not(run_script) -> None:
    told = run_script(
        FORK
        + """
def compute():
    os.kill(os.getpid(), signal.SIGTERM)
nursery, poll = make_nursery(compute)
os.kill(os.getpid(), signal.SIGINT)
os.kill(os.getpid(), signal.SIGTERM)
(child,) = nursery.fork(1, ())
os.write(child.channel, pack_jobs([(1, 1, False, pickle.dumps(((), {}), 5))]))
told = [wait(child), sorted(signal.sigpending())]
"""
    )
    assert told == [-15, [2, 15]]


def test_nothing_is_left_open_when_nothing_can_be_had(run_script) -> None:
    told = run_script(
        FORK
        + """
import resource
nursery, poll = make_nursery(len)
before = len(os.listdir("/dev/fd"))
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))) + 4, limits[1]))
try:
    nursery.fork(1, ())
    told = "forked"
except OSError as error:
    told = error.strerror
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
told = [told, len(os.listdir("/dev/fd")) - before]
"""
    )
    assert told == ["Too many open files", 0]


def test_freezing_leaves_nothing_to_collect(run_script) -> None:
    assert run_script(
        """
        import gc
        from dispy_node.runner.offspring import freeze
        freeze()
        told = [gc.isenabled(), gc.get_freeze_count() > 0]
        """
    ) == [False, True]


def test_what_multiprocessing_has_made_knows_of_the_fork(run_script) -> None:
    told = run_script(
        FORK
        + """
import multiprocessing
lock = multiprocessing.RLock()
lock.acquire()  # the runner holds it, and no child of it does
def compute():
    return lock.acquire(timeout=0.1)
nursery, poll = make_nursery(compute)
(child,) = nursery.fork(1, ())
told = run(child, poll)
wait(child)
"""
    )
    assert told is False, "else it would think that the lock is its own"
