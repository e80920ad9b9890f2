"""Processes are read as the kernel tells of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dispy_node.runner.census import Process, find_tree, measure_share, read_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these files")

NOBODY = 2**30
"""No process has so high a number."""


def test_this_process_is_what_it_is() -> None:
    process = read_process(os.getpid())
    assert process is not None
    assert (process.parent, process.group, process.session) == (os.getppid(), os.getpgid(0), os.getsid(0))
    assert process.resident_bytes > 1_000_000
    assert process.cpu_s > 0.0
    assert process.started > 0


def test_a_name_may_hold_anything() -> None:
    script = "exec 3>/proc/self/comm; printf 'a) R 1 (b' >&3; echo; read line"
    with subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdout is not None
        shell.stdout.readline()
        process = read_process(shell.pid)
        shell.communicate(b"\n")
    assert process is not None
    assert process.parent == os.getpid()


def test_what_is_gone_is_none() -> None:
    assert read_process(NOBODY) is None
    assert measure_share(NOBODY) is None
    assert find_tree([NOBODY], 9) == {}


def test_a_tree_is_found_across_sessions_and_threads_but_no_more_of_it_than_asked_for() -> None:
    script = """
import subprocess, threading
def start():
    inner = "import time; print('there', flush=True); time.sleep(60)"
    started.append(subprocess.Popen(["setsid", "-w", sys.executable, "-S", "-c", inner], stdout=subprocess.PIPE))
    started[0].stdout.readline()
    done.set()
    rest.wait()
import sys
started, done, rest = [], threading.Event(), threading.Event()
threading.Thread(target=start, daemon=True).start()
done.wait()
print(started[0].pid, flush=True)
sys.stdin.read()
started[0].kill()
"""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as root:
        assert root.stdout is not None
        inner = int(root.stdout.readline())
        found = find_tree([root.pid], 100)
        few = find_tree([root.pid], 1)
        root.communicate(b"")
    assert {root.pid, inner} <= set(found)
    assert isinstance(found[inner], Process)
    assert found[inner].parent == root.pid
    assert len(few) == 2, "one more than it may be"


def test_pages_that_are_shared_count_by_share() -> None:
    own = read_process(os.getpid())
    share = measure_share(os.getpid())
    assert own is not None
    assert share is not None
    assert 0 < share <= own.resident_bytes * 1.1
