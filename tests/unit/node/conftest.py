"""For tests of the runner: settings, and interpreters of their own for what changes a process for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispy_node.runner.settings import Settings

PATIENCE_S = 30
"""Nothing here takes a second on an idle machine."""

MakeSettings = Callable[..., Settings]
RunScript = Callable[..., Any]

POOL_PARTS = """
import json, os, pickle, sys, time
from dispy_node.runner.bare import Libc, open_poll
from dispy_node.runner.frames import KEY, pack_jobs, unpack_results
from dispy_node.runner.jobs import Job
from dispy_node.runner.namespace import Computation
from dispy_node.runner.offspring import Nursery
from dispy_node.runner.settings import Settings
from dispy_node.runner.tree import Strangers

class Host:
    def __init__(self):
        self.results, self.starts, self.logs = {}, [], []
    def ended(self, job, record):
        (result,) = unpack_results(record)
        assert result[0] not in self.results
        self.results[result[0]] = result
    def started(self, job, at):
        self.starts.append(KEY.unpack(job.key)[0])
    def log(self, text):
        self.logs.append(text)

def make_job(number, *args):
    body = pickle.dumps((args, {}), 5)
    return Job(KEY.pack(number, 1), pack_jobs([(number, 1, False, body)]))

def make_pool(kind, compute, **given):
    settings = Settings({"folder": ".", "spool": ".", "node": "there", **given})
    libc, poll, strangers, host = Libc(), open_poll(), Strangers(), Host()
    libc.become_subreaper()
    own = (poll.fileno(), strangers.fileno())
    nursery = Nursery(settings, Computation(compute, {}), libc, poll, own, True)
    return kind(settings, nursery, poll, strangers, host), poll, host

def turn_until(pool, poll, condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        pool.tick()
        pool.dispatch()
        pool.top_up()
        if condition():
            return
        timeout = pool.timeout()
        for descriptor, mask in poll.poll(min(timeout, 1.0) if timeout >= 0 else 1.0):
            pool.handle(descriptor, mask)

def finish(pool, poll):
    pool.draining = True
    pool.kill_all()
    turn_until(pool, poll, lambda: pool.empty)
"""
"""Parts of a runner without its loop, for a script; `turn_until` stands in for that."""


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Give the means to make settings; results too large for a frame go to ``tmp_path``."""

    def make(**given: object) -> Settings:
        return Settings({"folder": str(tmp_path), "spool": str(tmp_path), "node": "there", **given})

    return make


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """Give the means to run a script in an interpreter of its own; what it assigns to ``told`` is returned."""

    def run(text: str, *arguments: str) -> Any:
        head = "import json, os\n"
        tail = "\nwith open(os.environ['TOLD'], 'w') as file:\n    json.dump(told, file)\n"
        told = tmp_path / "told.json"
        ended = subprocess.run(
            [sys.executable, "-c", head + textwrap.dedent(text) + tail, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TOLD": str(told)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(told.read_text())

    return run


@pytest.fixture
def run_pool(run_script: RunScript) -> RunScript:
    """Give the means to run a script that has `POOL_PARTS`."""

    def run(text: str) -> Any:
        return run_script(POOL_PARTS + textwrap.dedent(text))

    return run
