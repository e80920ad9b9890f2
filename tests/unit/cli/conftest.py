"""What the tests of the command line share: `dispy` without installed plugins, and a cluster that is none."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import dispy_cli.plugin
from dispy.errors import ClusterClosed
from dispy.logger import logger
from dispy.model import JobStatus
from dispy.plugins import PluginManager
from dispy.status import ClusterStatus
from dispy_cli.umbrella import make_umbrella, run_umbrella


class FakeJob:
    """A job that ends when the test says so, or was over from the start."""

    def __init__(self, args: Sequence[str] = (), *, is_over: bool = True, **fields: Any) -> None:
        self.args = args
        self.over = threading.Event()
        if is_over:
            self.over.set()
        self.status = JobStatus.FINISHED
        self.result: Any = 0
        self.stdout: Any = b""
        self.stderr: Any = b""
        self.exception: str | None = None
        self.error: BaseException | None = None
        self.node: str | None = "node1"
        self.ip_addr: str | None = "10.0.0.1"
        self.start_time: float | None = 100.0
        self.end_time: float | None = 100.5
        for name, value in fields.items():
            setattr(self, name, value)

    def wait(self, timeout: float | None = None) -> bool:
        # A test whose job does not end would wait for ever: 5 s is longer than any test takes.
        return self.over.wait(0 if timeout is not None else 5)


class FakeCluster:
    """Stands in for `dispy.JobCluster`; what its jobs do is told by a function from arguments to a job."""

    def __init__(self, make_job: Callable[..., FakeJob] | None = None, *, nodes: int = 1) -> None:
        self.make_job = make_job or (lambda *args: FakeJob(args, stdout=" ".join(args).encode() + b"\n"))
        self.jobs: list[FakeJob] = []
        self.nodes: list[Any] = [SimpleNamespace(name=f"node{number}") for number in range(nodes)]
        self.closings: list[tuple[float | None, bool]] = []
        self.made_with: dict[str, Any] = {}

    def __call__(self, computation: Any, **options: Any) -> FakeCluster:
        """Be the class as well."""
        self.made_with = {"computation": computation, **options}
        self.jobs, self.closings = [], []
        return self

    def submit(self, *args: str) -> FakeJob:
        if self.closings:
            raise ClusterClosed("the cluster is closed")
        job = self.make_job(*args)
        self.jobs.append(job)
        return job

    def status(self) -> ClusterStatus:
        return ClusterStatus(self.nodes, sum(not job.over.is_set() for job in self.jobs))

    def explain(self) -> str:
        return "nobody is there"

    def close(self, timeout: float | None = None, terminate: bool = False) -> bool:
        self.closings.append((timeout, terminate))
        return True


@pytest.fixture(autouse=True)
def _same_loggers() -> Iterator[None]:
    """Give the loggers back as they were: the command line turns them."""
    standard = logging.getLogger("dispy")
    before = (logger._stream, logger.level, standard.handlers[:], standard.level, standard.propagate)
    yield
    logger._stream, logger.level, standard.handlers[:], level, standard.propagate = before
    standard.setLevel(level)


@pytest.fixture
def fake_job() -> type[FakeJob]:
    """Give the means to make jobs."""
    return FakeJob


@pytest.fixture
def fake_cluster() -> type[FakeCluster]:
    """Give the means to make clusters."""
    return FakeCluster


@pytest.fixture
def run_dispy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Give a function that runs `dispy` with arguments, in this process, and returns the exit status."""

    def load(*plugins: object) -> PluginManager:
        return PluginManager.load([dispy_cli.plugin, *plugins], entry_points=[])

    def run(*arguments: str, plugins: Sequence[object] = (), program: str = "dispy") -> int:
        return run_umbrella(make_umbrella(lambda: load(*plugins)), list(arguments), program)

    return run
