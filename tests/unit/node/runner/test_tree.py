"""What is below a job is found and killed, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from dispy_node.runner.tree import Strangers, kill_rest, signal_group

SLEEP = [sys.executable, "-S", "-c", "import time; print('there', flush=True); time.sleep(60)"]
PATIENCE_S = 30

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


def test_a_group_is_signalled() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"], start_new_session=True) as process:
        signal_group(process.pid, signal.SIGKILL)
        assert process.wait(PATIENCE_S) == -signal.SIGKILL
    kill_rest(process.pid)


def test_a_child_too_young_for_a_group_is_signalled_alone() -> None:
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE) as process:
        signal_group(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE_S) == -signal.SIGTERM


def test_the_rest_of_a_group_is_killed() -> None:
    script = "sleep 60 & echo there"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        assert process.wait(PATIENCE_S) == 0
        kill_rest(process.pid)
        assert process.stdout.read() == b"", "it had the pipe open"
    kill_rest(process.pid)


def test_without_children_there_are_no_strangers() -> None:
    strangers = Strangers()
    known = {}
    if strangers.fileno() >= 0:
        for pid in os.pread(strangers.fileno(), 4096, 0).split():
            known[int(pid)] = None
        assert strangers.sweep(known) == 0  # type: ignore[arg-type]
        os.close(strangers.fileno())
    else:
        assert strangers.sweep({}) == 0


SWEEP = """
import subprocess, time
from dispy_node.runner.bare import Libc
from dispy_node.runner.offspring import Offspring
from dispy_node.runner.tree import Strangers

Libc().become_subreaper()
strangers = Strangers()

def start_job(script):
    # The job prints the id of what it has started, and goes on or ends.
    process = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    child = Offspring(-1, -1, -1, None)
    child.pid, child.used = process.pid, True
    return process, child, int(process.stdout.readline())

def listed(pid):
    deadline = time.monotonic() + 20
    while str(pid) not in os.pread(strangers.fileno(), 4096, 0).decode().split():
        assert time.monotonic() < deadline

def end(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
ESCAPE = "setsid sh -c 'echo $$; exec sleep 60'"


@linux_only
def test_a_stranger_is_killed_when_no_job_of_its_time_is_left(run_script) -> None:
    told = run_script(
        SWEEP
        + f"""
_, living, other = start_job("echo 0; exec sleep 60")
job, child, stranger = start_job("{ESCAPE} & sleep 0")
job.wait()
listed(stranger)
told = [strangers.sweep({{living.pid: living}})]  # it may belong to the living one
os.kill(living.pid, 9)
end(living.pid)
told += [strangers.sweep({{}}) >= 1, end(stranger)]
"""
    )
    assert told == [0, True, -9]


@linux_only
def test_a_stranger_in_the_session_of_a_living_child_is_left_alone(run_script) -> None:
    told = run_script(
        SWEEP
        + """
# A process whose parent has ended, while the leader of its session lives.
job, child, orphan = start_job("sh -c 'sleep 60 >/dev/null & echo $!'; exec sleep 60")
listed(orphan)
told = [strangers.sweep({child.pid: child})]
os.kill(child.pid, 9)
end(child.pid)
told += [strangers.sweep({}) >= 1, end(orphan)]  # perhaps with what the job had not yet waited for
"""
    )
    assert told == [0, True, -9]


@linux_only
def test_what_the_runner_itself_started_is_left_alone(run_script) -> None:
    told = run_script(
        SWEEP
        + """
own = subprocess.Popen(["sleep", "60"])
listed(own.pid)
told = [strangers.sweep({}), own.poll()]
own.kill()
own.wait()
"""
    )
    assert told == [0, None]


@linux_only
def test_what_was_there_before_the_first_job_is_left_alone(run_script) -> None:
    """Setup may have started a server, in a session of its own."""
    told = run_script(
        SWEEP
        + """
server = subprocess.Popen(
    ["/bin/sh", "-c", "sleep 60 >/dev/null & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE
)
orphan = int(server.stdout.readline())
strangers = Strangers()
told = [strangers.sweep({}), server.poll()]
server.kill()
server.wait()
listed(orphan)
told += [strangers.sweep({})]
os.kill(orphan, 9)
told += [end(orphan)]
late = subprocess.Popen(["sleep", "60"], start_new_session=True)
told += [strangers.sweep({}), late.wait()]
"""
    )
    assert told == [0, None, 0, -9, 1, -9]
