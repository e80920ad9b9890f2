"""Pools of processes that are not forked, without the loop around them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dispy_node.runner.body import BROKEN, CANCELLED, DIED, RETURNED
from dispy_node.runner.namespace import Computation
from dispy_node.runner.settings import read_settings
from dispy_node.runner.spawning import Spawning

SPAWN = """
del os.fork  # as on systems that have none
import sys
from dispy_node.runner.body import split_body
from dispy_node.runner.inside import Inside
from dispy_node.runner.namespace import load
from dispy_node.runner.settings import read_settings
from dispy_node.runner.spawning import Spawning

def make_spawning(text, **given):
    given = {"folder": ".", "spool": os.getcwd(), "node": "there", **given}
    settings = read_settings(json.dumps(given).encode())
    names = {role: role for role in ("compute", "setup") if "def " + role in text}
    code = b"S" + json.dumps({"sources": [{"text": text, "name": "p.py"}], **names}).encode()
    computation = None if "program" in given else load(code, Inside(settings))
    spawning = Spawning(settings, code, computation)
    if computation is not None and computation.setup is not None:
        computation.setup()
    assert not spawning.write()
    return settings, spawning, computation

def make_spawned(text, **given):
    settings, spawning, computation = make_spawning(text, **given)
    libc, poll, strangers, host = Libc(), open_poll(), Strangers(), Host()
    libc.become_subreaper()
    nursery, kind = spawning.make_nursery(computation, libc, poll)
    return kind(settings, nursery, poll, strangers, host), poll, host

def result(host, number):
    return pickle.loads(split_body(host.results[number][8])[0])
"""


def test_each_job_has_a_fresh_interpreter_with_what_setup_has_set(run_pool) -> None:
    told = run_pool(
        SPAWN
        + """
pool, poll, host = make_spawned('''
import os, sys
loaded_by = os.getpid()
def setup():
    global data
    data = [1, 2]
def compute():
    data.append(3)
    return os.getpid(), loaded_by, data, sys.modules["__mp_main__"].__dict__ is globals(), os.getsid(0)
''')
pool.queue.extend([make_job(1), make_job(2)])
pool.set_slots(2)
turn_until(pool, poll, lambda: len(host.results) == 2)
told = [[host.results[number][2], *result(host, number)] for number in (1, 2)]
told.append(os.getpid())
finish(pool, poll)
"""
    )
    first, second, runner = told
    for outcome, pid, loaded_by, data, is_main, session in (first, second):
        assert (outcome, data, is_main) == (RETURNED, [1, 2, 3], True)
        assert pid == loaded_by == session != runner
    assert first[1] != second[1]


@pytest.mark.parametrize("isolation", ["process", "worker"])
def test_what_a_job_prints_and_logs_is_told_while_it_runs(run_pool, isolation: str) -> None:
    told = run_pool(
        SPAWN
        + f"isolation = {isolation!r}"
        + """
from dispy_node.runner.frames import OUTPUT_HEAD, WATCH_HEAD
news, seen = [], []
Host.news = lambda self, record: news.append(record)
Host.output = lambda self, record: seen.append(record[OUTPUT_HEAD.size:].decode())
pool, poll, host = make_spawned('''
import logging, os, time
def compute():
    logging.getLogger("test").warning("begun")
    print("line")
    while not os.path.exists("gate"): time.sleep(0.005)
''', isolation=isolation, log_level=30)
pool.set_slots(1)
pool.queue.append(job := make_job(1))
turn_until(pool, poll, lambda: news and 1 in host.starts)
pool.watch(job, WATCH_HEAD.pack(1, 1, 1, 1, 0, 1000)[len(job.key):])
turn_until(pool, poll, lambda: seen)
told = [b'"begun"' in news[0], seen, len(host.results)]
open("gate", "w").close()
turn_until(pool, poll, lambda: host.results)
told.append(host.results[1][2])
finish(pool, poll)
"""
    )
    assert told == [True, ["line\n"], 0, RETURNED]


def test_workers_are_used_again_and_replaced_when_they_die(run_pool) -> None:
    told = run_pool(
        SPAWN
        + """
pool, poll, host = make_spawned('''
import os
def compute(status):
    if status: os._exit(status)
    return os.getpid()
''', isolation="worker")
pool.set_slots(1)
pool.queue.extend([make_job(1, 0), make_job(2, 0), make_job(3, 7), make_job(4, 0)])
turn_until(pool, poll, lambda: len(host.results) == 4)
told = [result(host, 1) == result(host, 2) != result(host, 4), host.results[3][2:4]]
finish(pool, poll)
"""
    )
    assert told == [True, [DIED, 7]]


def test_a_job_is_given_only_to_a_process_that_is_there(run_pool) -> None:
    """Its time and what it may use count from then on, and it can be cancelled at once until then."""
    told = run_pool(
        SPAWN
        + """
pool, poll, host = make_spawned('''
import os, time
if os.path.exists("hold"):
    while os.path.exists("hold"): time.sleep(0.005)
def compute(): pass
''')
open("hold", "w").close()
pool.set_slots(1)
first, second = make_job(1), make_job(2)
pool.queue.extend([first, second])
pool.dispatch()
pool.top_up()
told = [len(pool.busy), pool.empty]
pool.cancel(first)
told.append(host.results[1][2])
os.unlink("hold")
turn_until(pool, poll, lambda: len(host.results) == 2)
told.append(host.results[2][2])
finish(pool, poll)
"""
    )
    assert told == [0, False, CANCELLED, RETURNED]


def test_processes_are_started_ahead_and_dismissed(run_pool) -> None:
    told = run_pool(
        SPAWN
        + """
pool, poll, host = make_spawned("def compute(): pass")
pool.set_slots(1)
turn_until(pool, poll, lambda: len(pool._idle) == 4)
told = [len(pool._unborn)]
pool.draining = True
turn_until(pool, poll, lambda: pool.empty)
told.append(host.logs)
"""
    )
    assert told == [0, []]


@pytest.mark.parametrize(
    ("trouble", "text"),
    [
        ("raise OSError('it is gone')", "OSError: it is gone (in a process that was not forked"),
        ("os._exit(3)", "ended while it was started: the job's process exited with status 3"),
    ],
)
def test_jobs_are_given_up_when_no_process_can_load_the_code(run_pool, trouble: str, text: str) -> None:
    told = run_pool(
        SPAWN
        + f"""
from dispy_node.runner import trouble as module
module.PATIENCE_S = module.RETRY_S = 0.01
pool, poll, host = make_spawned('''
import os
if os.path.exists("loaded"):
    {trouble}
open("loaded", "w").close()
def compute(): pass
''')
pool.set_slots(1)
pool.queue.append(make_job(1))
turn_until(pool, poll, lambda: host.results)
told = [host.results[1][2], host.results[1][6], host.logs]
finish(pool, poll)
"""
    )
    assert told[0] == BROKEN
    assert text in told[1]
    assert len(told[2]) == 1


def test_a_program_begins_when_its_process_is_there(run_pool, tmp_path: Path) -> None:
    told = run_pool(
        SPAWN
        + """
import struct
pool, poll, host = make_spawned("", program=["/bin/sh", "-c", "echo $0; exit 5"])
pool.set_slots(1)
pool.queue.append(Job(KEY.pack(1, 1), pack_jobs([(1, 1, False, struct.pack("<I", 1) + b"word" + bytes(1))])))
turn_until(pool, poll, lambda: host.results)
told = [host.results[1][3], split_body(host.results[1][8])[2].decode()]
finish(pool, poll)
"""
    )
    assert told == [5, "word\n"]


def test_a_job_that_misses_what_could_not_be_sent_is_told_why(run_pool) -> None:
    told = run_pool(
        SPAWN
        + """
pool, poll, host = make_spawned('''
def setup():
    global lock
    import threading
    lock = threading.Lock()
def compute(): return lock
''', computation="c")
pool.set_slots(1)
pool.queue.append(make_job(1))
turn_until(pool, poll, lambda: host.results)
told = split_body(host.results[1][8])[1].decode()
finish(pool, poll)
"""
    )
    assert "NameError: name 'lock' is not defined\nsetup has set 'lock'" in told
    assert "cannot pickle" in told


def test_without_descriptors_nothing_is_left_open(run_pool) -> None:
    told = run_pool(
        SPAWN
        + """
import errno
settings, spawning, computation = make_spawning("def compute(): pass", isolation="worker")
nursery, kind = spawning.make_nursery(computation, Libc(), open_poll())
before = os.listdir("/dev/fd")
told = []
for what in ("posix_spawn", "memfd_create"):
    def refuse(*arguments):
        raise OSError(errno.EMFILE, "no more")
    real = getattr(os, what)
    setattr(os, what, refuse)
    try:
        nursery.fork(2, ())
    except OSError as error:
        told.append(error.errno == errno.EMFILE)
    setattr(os, what, real)
told.append(sorted(os.listdir("/dev/fd")) == sorted(before))
"""
    )
    assert told == [True, True, True]


def test_a_spool_that_takes_nothing_is_told(tmp_path: Path) -> None:
    given = f'{{"folder": ".", "spool": "{tmp_path / "missing"}", "node": "there"}}'
    spawning = Spawning(read_settings(given.encode()), b"", Computation(len, {}))
    failure = spawning.write()
    assert failure.startswith("what processes of jobs start with")
    assert "there" in failure


def test_what_is_written_is_for_its_owner_only(tmp_path: Path) -> None:
    given = f'{{"folder": ".", "spool": "{tmp_path}"}}'
    spawning = Spawning(read_settings(given.encode()), b"", Computation(len, {}))
    assert spawning.write() == ""
    assert os.stat(spawning.path).st_mode & 0o777 == 0o600
    assert spawning.remarks() == []


def test_nothing_that_forks_is_needed_to_import_a_runner(run_script) -> None:
    assert run_script(
        """
for name in ("fork", "forkpty", "setsid"):
    delattr(os, name)
import dispy_node.runner.main
import dispy_node.runner.spawned
import dispy_node.runner.spawning
told = dispy_node.runner.settings.Settings({"folder": ".", "spool": ".", "start_method": "fork"}).spawn
"""
    )
