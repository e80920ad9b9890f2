"""The blocking API, over a runtime whose engine is real and whose thread and network are not there."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import dispy
from dispy import cluster as cluster_module
from dispy.cluster import JobCluster
from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job, Node
from dispy.engine.scheduler import SchedulerEngine
from dispy.errors import (
    ClusterClosed,
    DispyError,
    InvalidComputation,
    JobAbandoned,
    JobCancelled,
    NotPicklable,
    PluginNotInstalled,
    UsageError,
)
from dispy.interfaces import API_VERSION, Allocator, FaultPolicy
from dispy.model import OPEN, JobId, JobStatus, LinkId, NodeStatus, Outcome
from dispy.packing.bundle import OWN_VERSION
from dispy.plugins import PluginManager
from dispy.runtime import thread
from dispy.runtime.trust import Trust
from dispy.runtime.waiting import EngineThread
from dispy.wire.messages import (
    AssignJobs,
    ComputationClosed,
    ComputationReady,
    Hello,
    JobResult,
    JobResults,
    JobsStarted,
    JobStart,
    Message,
    Reconciled,
)

LINK = LinkId(1)


def compute(number: int) -> int:
    return number * 2


class FakeCallbacks:
    """Runs callbacks when the engine has done its work, as a thread would; or when the test lets it."""

    def __init__(self) -> None:
        self.queue: deque[Callable[[], None]] = deque()
        self.held = False
        self.current = False

    def call_soon(self, function: Callable[[], None]) -> None:
        self.queue.append(function)

    def run(self) -> None:
        while self.queue and not self.held and not self.current:
            self.current = True
            try:
                self.queue.popleft()()
            finally:
                self.current = False

    def is_current(self) -> bool:
        return self.current


class FakePlugins:
    has_job_observers = False

    def __init__(self) -> None:
        self.missing: DispyError | None = None

    def fault_policy(self, need_reentrant: bool) -> FaultPolicy:
        if need_reentrant and self.missing is not None:
            raise self.missing
        return CancelPolicy()

    def allocator(self, name: str) -> Allocator:
        if name == FirstAllocator.NAME:
            return FirstAllocator()
        raise PluginNotInstalled(f"the allocator {name!r}", "std")


class FirstAllocator(Allocator):
    NAME = "first"
    API_VERSION = API_VERSION

    def rank(self, busy: int, slots: int) -> float:
        return 0.0


class FakeTrusts:
    """Nobody is asked anything, whatever a cluster wants."""

    def get(self, request: object) -> Trust:
        self.request = request
        return Trust(PluginManager(), OPEN, "")


class FakeRuntime:
    """A real engine, driven by the caller; the one node of the test answers at once, or not at all."""

    def __init__(self) -> None:
        self.engine = SchedulerEngine(CancelPolicy())
        self.driver = self
        self.callbacks = FakeCallbacks()
        self.plugins = FakePlugins()
        self.trusts = FakeTrusts()
        self.users = 0
        self.answers = True
        self.finishes = True
        self.failure: DispyError | None = None
        self.added: list[tuple[Computation, dict[str, Any]]] = []
        self.listeners: dict[str, Any] = {}
        self.counted = 0
        self._jobs = 0
        self._waiting: deque[fx.Effect] = deque()
        self._busy = False

    # what a cluster asks of a runtime

    def add(self, computation: Computation, patterns: Any, port: int, listener: Any, **options: Any) -> None:
        self.check()
        self.added.append((computation, options))
        self.listeners[computation.id] = listener
        self.handle(ev.ComputationAdded(computation))

    def require_transports(self, patterns: Any) -> None:
        self.check()

    def call(self, function: Callable[[], Any]) -> Any:
        self.check()
        return function()

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def submit(self, job: Job) -> None:
        self.check()
        self.handle(ev.JobsSubmitted([job]))

    def next_job(self) -> JobId:
        self._jobs += 1
        return JobId(self._jobs)

    def cancel(self, jobs: Sequence[JobId]) -> None:
        self.handle(ev.CancelRequested(jobs))

    def count_bytes(self) -> None:
        self.counted += 1

    def explain(self, computation: str) -> str:
        return f"about {computation}"

    # the engine and the node

    def handle(self, event: ev.Event) -> None:
        self._waiting.extend(self.engine.handle(event, 1000.0))
        if self._busy:
            return
        self._busy = True
        while self._waiting:
            self._carry_out(self._waiting.popleft())
        self._busy = False
        self.callbacks.run()

    def _carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.TellJobs(changes):
                for change in changes:
                    self.listeners[change.job.computation].jobs_changed([change])
            case fx.TellNode(node, status, computation):
                self.listeners[computation].node_changed(node, status)
            case fx.TellClosed(computation):
                self.listeners[computation.id].closed()
            case fx.SendMessage(_link, message):
                self._answer(message)

    def _answer(self, message: Message) -> None:
        name = type(message).__name__
        if name == "Reconcile":
            self.say(Reconciled([]))
        elif name == "OpenComputation" and self.answers:
            self.say(ComputationReady(message.computation))  # type: ignore[union-attr]
        elif name == "CloseComputation":
            self.say(ComputationClosed(message.computation))  # type: ignore[union-attr]
        elif isinstance(message, AssignJobs) and self.answers:
            starts = [JobStart(job.job, job.attempt, 10.0) for job in message.jobs]
            self.say(JobsStarted(message.computation, starts))
            if self.finishes:
                self.say(
                    JobResults(message.computation, [result(job.job, job.attempt) for job in message.jobs])
                )

    def say(self, message: Message) -> None:
        self.handle(ev.MessageReceived(LINK, message))

    def connect(self) -> Node:
        hello = Hello(1, 1, "node", "1" * 32, 1, "worker", "1", "3.11.7", "linux", 1 << 22, 5.0, cpus=2)
        self.handle(ev.LinkOpened(LINK, hello, ("10.0.0.1", 51348), "10.0.0.1"))
        return self.engine.nodes[next(iter(self.engine.nodes))]


def result(job: int, attempt: int) -> JobResult:
    value = pickle.dumps(None)
    body = value + struct.pack("<QIII", len(value), 0, 0, 0)
    return JobResult(job, attempt, Outcome.RETURNED, 0, "", 10.0, 12.0, body)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRuntime]:
    made = FakeRuntime()

    def acquire() -> FakeRuntime:
        made.users += 1
        return made

    def release(runtime: FakeRuntime) -> None:
        made.users -= 1

    monkeypatch.setattr(thread, "acquire", acquire)
    monkeypatch.setattr(thread, "release", release)
    monkeypatch.setattr(cluster_module, "_open_clusters", set())
    yield made
    assert made.users == 0


@pytest.fixture
def make(runtime: FakeRuntime) -> Iterator[Callable[..., JobCluster]]:
    made: list[JobCluster] = []

    def make(computation: Any = compute, **options: Any) -> JobCluster:
        options.setdefault("nodes", ["10.0.0.1"])
        made.append(JobCluster(computation, **options))
        return made[-1]

    yield make
    runtime.callbacks.held = False
    runtime.callbacks.run()
    for cluster in made:
        cluster.close(timeout=0, terminate=True)


Make = Callable[..., JobCluster]


def test_job_runs_and_its_end_is_waited_for(make: Make, runtime: FakeRuntime) -> None:
    cluster = make()
    job = cluster.submit(3)
    assert (job.status, job.id) == (dispy.DispyJob.Created, 1)
    assert not cluster.wait(0)
    runtime.connect()
    assert cluster.wait(0)
    assert job.status == dispy.DispyJob.Finished
    assert cluster.status().jobs_pending == 0
    assert cluster.close() is True
    assert cluster.close() is None


@pytest.mark.parametrize("nodes", [["10.0.0.1"], ["*"], ["local", "10.0.0.1"]])
def test_open_connections_are_told_once(
    make: Make, nodes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = make(nodes=nodes)
    cluster.submit(1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "ARE OPEN" in line]
    assert line.startswith(
        "dispy: THE CONNECTIONS of 'compute' ARE OPEN: by secret=dispy.OPEN they are neither"
    )
    make(nodes=nodes)
    assert capsys.readouterr().err.count("ARE OPEN") == 1, "each cluster tells it"


def test_own_node_and_secured_connections_are_not_open(
    make: Make, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(nodes=["local"])
    monkeypatch.setattr(Trust, "is_open", False)
    make(nodes=["10.0.0.1"])
    assert "OPEN" not in capsys.readouterr().err


def test_nothing_can_be_done_with_a_closed_cluster(make: Make) -> None:
    cluster = make()
    job = cluster.submit(1)
    cluster.close(timeout=0, terminate=True)
    for act in (
        lambda: cluster.submit(1),
        lambda: cluster.cancel(job),
        lambda: cluster.submit_node("x", 1),
        cluster.explain,
    ):
        with pytest.raises(ClusterClosed, match="compute"):
            act()
    assert cluster.status() == ([], 0)


def test_close_with_a_timeout_leaves_the_cluster_usable(make: Make, runtime: FakeRuntime) -> None:
    cluster = make()
    job = cluster.submit(1)
    assert cluster.close(timeout=0) is False
    assert cluster.close(timeout=0, terminate=True) is True
    assert isinstance(job.error, JobCancelled)
    assert runtime.users == 0


def test_job_cannot_slip_in_between_the_last_wait_and_the_end(make: Make, runtime: FakeRuntime) -> None:
    """A job that is accepted by submit is never refused because another thread closes."""
    cluster = make()
    runtime.connect()
    refused: list[BaseException] = []
    jobs: list[dispy.DispyJob] = []

    def submits() -> None:
        try:
            while True:
                jobs.append(cluster.submit(1))
        except ClusterClosed as error:
            refused.append(error)

    runtime_lock = threading.Lock()
    submit, call = runtime.submit, runtime.call
    runtime.submit = lambda job: locked(submit, job)  # type: ignore[method-assign]
    runtime.call = lambda function: locked(call, function)  # type: ignore[method-assign]

    def locked(function: Callable[[Any], Any], argument: Any) -> Any:
        with runtime_lock:
            return function(argument)

    worker = threading.Thread(target=submits)
    worker.start()
    while not jobs:
        worker.join(0.001)
    assert cluster.close() is True
    worker.join(30)
    assert refused
    assert {job.status for job in jobs} == {JobStatus.FINISHED}


def test_ids_of_jobs(make: Make) -> None:
    cluster = make()
    first, mine, last = cluster.submit(1), cluster.submit_job_id("mine", 1), cluster.submit_job_id(0, 1)
    assert (first.id, mine.id) == (1, "mine")
    assert last.id > first.id  # a falsy id is none


def test_job_for_a_node(make: Make, runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]) -> None:
    cluster = make()
    runtime.connect()
    for node in ("10.0.0.1", "worker", cluster.status().nodes[0]):
        job = cluster.submit_job_id_node("mine", node, 1)
        assert job is not None
        assert (job.status, job.id, job.node) == (JobStatus.FINISHED, "mine", "worker")
    assert cluster.submit_node("10.9.9.9", 1) is None
    assert "10.9.9.9 is not used" in capsys.readouterr().out


def test_cancel_queued_running_and_ended(make: Make, runtime: FakeRuntime) -> None:
    runtime.finishes = False
    cluster, other = make(), make()
    queued = cluster.submit(1)
    assert other.cancel(queued) == -1
    assert cluster.cancel(queued) == 0
    assert queued.status == JobStatus.CANCELLED
    assert cluster.cancel(queued) == -1
    running = cluster.submit(2)
    runtime.connect()
    assert running.status == JobStatus.RUNNING
    assert cluster.cancel(running) == 0
    assert not running.wait(0)
    assert cluster.cancel(running) == -1
    runtime.say(JobResults(cluster._computation.id, [result(running._uid, 1)]))
    assert running.wait(0)


def test_callbacks_get_each_step(make: Make, runtime: FakeRuntime) -> None:
    ended: list[dispy.DispyJob] = []
    steps: list[tuple[int, str | None, Any]] = []
    cluster = make(
        job_status=ended.append,
        cluster_status=lambda status, node, job: steps.append((status, node and node.name, job)),
    )
    job = cluster.submit(1)
    runtime.connect()
    assert ended == [job]
    assert steps == [
        (dispy.DispyJob.Created, None, job),
        (dispy.DispyNode.Initialized, "worker", None),
        (dispy.DispyJob.Running, "worker", job),
        (dispy.DispyJob.Finished, "worker", job),
    ]


def test_wait_waits_for_callbacks_but_not_from_one(make: Make, runtime: FakeRuntime) -> None:
    inside: list[bool] = []
    cluster = make(job_status=lambda job: inside.append(cluster.wait(0)))
    runtime.connect()
    runtime.callbacks.held = True
    cluster.submit(1)
    assert not cluster.wait(0)
    runtime.callbacks.held = False
    runtime.callbacks.run()
    assert inside == [True]
    assert cluster.wait(0)


def test_cluster_can_be_closed_in_its_own_callback(make: Make, runtime: FakeRuntime) -> None:
    """It waited for the callback that it stood in, until its patience was over."""
    closed: list[bool | None] = []
    cluster = make(job_status=lambda job: closed.append(cluster.close()))
    waits: list[bool] = []
    wait = cluster.wait

    def noted(timeout: float | None = None) -> bool:
        waits.append(wait(0))
        return waits[-1]

    cluster.wait = noted  # type: ignore[method-assign]
    runtime.connect()
    cluster.submit(1)
    assert closed == [True]
    assert waits == [True]


def test_cluster_can_be_used_in_callbacks_that_come_while_it_is_made(
    make: Make, runtime: FakeRuntime
) -> None:
    clusters: list[JobCluster] = []
    jobs: list[dispy.DispyJob] = []

    class Early(JobCluster):
        def node_changed(self, node: Node, status: NodeStatus) -> None:
            clusters.append(self)
            jobs.append(self.submit(1))

    runtime.connect()  # the node is known before the cluster is made
    cluster = Early(compute, nodes=["10.0.0.1"])
    assert clusters == [cluster]
    assert jobs[0].status == JobStatus.FINISHED
    cluster.close()


def test_abandoned_job_ends_without_its_callback(make: Make, runtime: FakeRuntime) -> None:
    ended: list[dispy.DispyJob] = []
    runtime.finishes = False
    cluster = make(job_status=ended.append)
    job = cluster.submit(1)
    runtime.connect()
    runtime.handle(ev.LinkClosed(LINK, "it ends", final=True))
    assert job.wait(0)
    assert isinstance(job.error, JobAbandoned)
    assert ended == []
    assert cluster.wait(0)


def test_argument_that_cannot_be_sent_leaves_nothing_pending(make: Make) -> None:
    cluster = make()
    with pytest.raises(NotPicklable):
        cluster.submit(threading.Lock())
    assert cluster.wait(0)


def test_engine_that_has_ended_is_told_and_nobody_waits(
    make: Make, runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = make()
    runtime.failure = DispyError("the engine's thread has ended")
    with pytest.raises(DispyError, match="has ended"):
        cluster.submit(1)
    assert cluster.wait(0)
    cluster._is_closed_everywhere.set()
    assert cluster.close() is True
    assert "could not be closed" in capsys.readouterr().out


def test_cluster_that_cannot_be_made_gives_the_runtime_back(make: Make, runtime: FakeRuntime) -> None:
    runtime.failure = DispyError("the engine's thread has ended")
    with pytest.raises(DispyError, match="has ended"):
        make()
    assert runtime.users == 0
    assert cluster_module._open_clusters == set()


def test_reentrant_needs_a_policy_and_says_which_plugin_is_wrong(make: Make, runtime: FakeRuntime) -> None:
    runtime.plugins.missing = PluginNotInstalled("running jobs again", "std")
    with pytest.raises(PluginNotInstalled, match="running jobs again"):
        make(reentrant=True)
    make(reentrant=False)
    runtime.plugins.missing = None
    make(reentrant=True)
    assert [computation.reentrant for computation, _options in runtime.added] == [False, True]


@pytest.mark.parametrize(
    ("options", "head"), [({}, b"P"), ({"results": "any"}, b"P"), ({"results": "safe"}, b"R")]
)
def test_nodes_and_jobs_know_which_results_are_wanted(
    make: Make, runtime: FakeRuntime, options: dict[str, Any], head: bytes
) -> None:
    job = make(**options).submit(1)
    assert runtime.added[0][0].code_for(OWN_VERSION)[:1] == head
    assert job._safe is (head == b"R")
    assert bool(runtime.added[-1][0].folder) is (head == b"P"), "files could bring code as pickles do"


def test_programs_never_send_pickle(make: Make, runtime: FakeRuntime) -> None:
    assert make("sh").submit(1)._safe
    assert runtime.added[-1][0].folder
    assert runtime.added[-1][0].executor == "program"


def test_placement_is_the_name_of_an_allocator(make: Make, runtime: FakeRuntime) -> None:
    make()
    make(placement="least-loaded")
    make(placement="first")
    with pytest.raises(PluginNotInstalled, match="'pack'"):
        make(placement="pack")
    with pytest.raises(UsageError, match="placement=1 is not the name"):
        make(placement=1)
    found = [computation.allocator for computation, _options in runtime.added]
    assert found[:2] == [None, None]
    assert [type(allocator) for allocator in found[2:]] == [FirstAllocator]


def test_jobs_with_options_have_their_priority(make: Make, runtime: FakeRuntime) -> None:
    cluster = make()
    jobs = [cluster.submit(1), cluster.options(priority=5).submit(2), cluster.options(timeout=5).submit(3)]
    records = runtime.driver.engine.jobs
    assert [records[JobId(job._uid)].priority for job in jobs] == [0, 5, 0]


def test_reentrant_that_is_no_flag_is_false(
    make: Make, runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    make(reentrant="yes")
    assert "reentrant='yes'" in capsys.readouterr().out
    assert runtime.added[0][0].reentrant is False


def test_the_start_method_is_told(make: Make, runtime: FakeRuntime) -> None:
    make()
    make(start_method="spawn")
    assert [str(added[0].start_method) for added in runtime.added] == ["fork", "spawn"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"isolation": "thread"}, UsageError, "isolation must be 'process' or 'worker', not 'thread'"),
        (
            {"ping_interval": 0.5},
            UsageError,
            "ping_interval must be a number of seconds from 1 to 1000, not 0.5",
        ),
        ({"ping_interval": 1001}, UsageError, "ping_interval must be a number of seconds from 1 to 1000"),
        ({"ping_interval": True}, UsageError, "ping_interval must be a number of seconds from 1 to 1000"),
        ({"ping_interval": "5"}, UsageError, "ping_interval must be a number of seconds from 1 to 1000"),
        ({"start_method": "exec"}, UsageError, "start_method must be 'fork' or 'spawn', not 'exec'"),
        ({"results": "pickle"}, UsageError, "results must be 'any' or 'safe', not 'pickle'"),
        ({"job_status": 5}, UsageError, "job_status=5 is not callable"),
        ({"job_status": lambda: None}, UsageError, "job_status must take 1 argument"),
        ({"cluster_status": lambda status, node: None}, UsageError, "cluster_status must take 3 argument"),
        ({"host": "no such name"}, UsageError, "no valid IP address found"),
        ({"host": ["192.0.2.1", 5]}, UsageError, "no valid IP address found"),
        ({"computation": 5}, InvalidComputation, "invalid computation type"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_starts(
    make: Make, runtime: FakeRuntime, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        make(**options)
    assert (runtime.users, runtime.added) == (0, [])


def test_host_is_where_connections_come_from(
    make: Make, runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    make()
    make(host="127.0.0.1")
    with pytest.warns(DeprecationWarning, match="ip_addr"):
        make(ip_addr=["127.0.0.1", "192.0.2.1"])
    hosts = [options["local_hosts"] for _computation, options in runtime.added]
    assert hosts == [[], ["127.0.0.1"], ["127.0.0.1"]]
    assert "'192.0.2.1' is not used: it is not an address of this machine" in capsys.readouterr().out


def test_callback_may_be_a_builtin_that_does_not_tell_its_parameters(make: Make) -> None:
    make(job_status=dict.fromkeys, cluster_status=max)
    make(job_status=print)


def test_table_of_nodes_counts_bytes_when_it_is_asked_for(
    make: Make, runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = make()
    runtime.connect()
    cluster.submit(1)
    assert runtime.counted == 0
    cluster.stats()
    assert runtime.counted == 1
    assert "worker" in capsys.readouterr().out
    assert cluster.explain() == f"about {cluster._computation.id}"


def test_context_manager_waits_or_after_ctrl_c_does_not(make: Make, runtime: FakeRuntime) -> None:
    runtime.connect()
    with make() as cluster:
        job = cluster.submit(1)
    assert job.status == JobStatus.FINISHED
    runtime.answers = False
    with pytest.raises(KeyboardInterrupt), make() as cluster:
        job = cluster.submit(1)
        raise KeyboardInterrupt
    assert job.status == JobStatus.CANCELLED


def test_ctrl_c_while_closing_gives_the_runtime_back(make: Make, runtime: FakeRuntime) -> None:
    cluster = make()

    def interrupted(timeout: float | None = None) -> bool:
        raise KeyboardInterrupt

    cluster._is_closed_everywhere.wait = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        cluster.close()
    assert runtime.users == 0
    assert cluster.close() is None


def test_ctrl_c_while_waiting_leaves_the_cluster_open(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = make()
    cluster.submit(1)

    def interrupted(timeout: float | None) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "_wait_idle", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.close()
    assert cluster.close(timeout=0, terminate=True) is True


def test_forked_child_neither_hangs_nor_uses_the_cluster(
    make: Make, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = make()
    job = cluster.submit(1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -5)
        holder = threading.Thread(target=cluster._lock.acquire)  # as a thread that is not there in the child
        holder.start()
        holder.join()
        assert cluster.close() is None
        cluster_module._finish_at_exit()
        for act in (lambda: cluster.submit(1), cluster.wait, lambda: cluster.cancel(job), cluster):
            with pytest.raises(ClusterClosed, match="before a fork"):
                act()
    cluster._lock = threading.Condition()


def test_nothing_waits_in_the_thread_that_moves_jobs_on(make: Make, runtime: FakeRuntime) -> None:
    cluster = make()
    job = cluster.submit(1)
    said: list[str] = []

    def act() -> None:
        for wait in (
            job,
            job.wait,
            lambda: job.wait(0.1),
            cluster,
            cluster.wait,
            cluster.close,
            cluster.shutdown,
        ):
            try:
                wait()
            except UsageError as error:
                said.append(str(error).partition(" would wait for ever here")[0])

    thread = EngineThread(target=act, daemon=True)
    thread.start()
    thread.join(30)
    assert said == ["job.wait()"] * 3 + ["cluster.wait()"] * 2 + ["cluster.close()"] * 2
    runtime.connect()
    assert job.wait(30)
    other = EngineThread(target=lambda: said.append(str(job.wait())), daemon=True)
    other.start()
    other.join(30)
    assert said[-1] == "True", "there is nothing to wait for"


def test_end_of_the_program_waits_for_the_jobs_and_closes(make: Make, runtime: FakeRuntime) -> None:
    runtime.connect()
    cluster = make()
    job = cluster.submit(1)
    cluster_module._finish_at_exit()
    assert job.status == JobStatus.FINISHED
    assert runtime.users == 0
    assert cluster_module._open_clusters == set()


def test_ctrl_c_while_the_program_ends_ends_the_jobs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = make()
    job = cluster.submit(1)

    def interrupted(timeout: float | None = None) -> bool:
        cluster.wait = original  # type: ignore[method-assign]
        raise KeyboardInterrupt

    died: list[bool] = []
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cluster_module, "_die_of_interrupt", lambda: died.append(True))
    original = cluster.wait
    cluster.wait = interrupted  # type: ignore[method-assign]
    try:
        cluster_module._finish_at_exit()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert job.status == JobStatus.CANCELLED
    assert died == [True]


def test_program_that_was_interrupted_does_not_wait_at_its_end(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make().submit(1)
    monkeypatch.setattr(cluster_module.sys, "last_value", KeyboardInterrupt(), raising=False)
    cluster_module._finish_at_exit()
    assert job.status == JobStatus.CANCELLED


def test_level_of_the_log_is_set(make: Make) -> None:
    before = dispy.logger.level
    try:
        make(loglevel=logging.DEBUG)
        assert dispy.logger.level == logging.DEBUG
    finally:
        dispy.logger.setLevel(before)


# ---- setup and cleanup


def prepare(size: int) -> int:
    return 0


def test_setup_goes_with_the_arguments_of_the_node(make: Make, runtime: FakeRuntime) -> None:
    runtime.answers = False
    nodes = [("10.0.0.1", None, 0, [], 3), dispy.NodeAllocate("*", setup_args=(4,))]
    make(setup=prepare, cleanup=prepare, setup_timeout=5, nodes=nodes)
    computation, _ = runtime.added[0]
    assert computation.setup_timeout_s == 5.0
    node = runtime.connect()
    assert pickle.loads(computation.arguments_for(node)) == ((3,), {})
    code = computation.code_for(OWN_VERSION)
    assert isinstance(code, bytes)
    assert b"prepare" in code


def test_without_setup_nothing_is_prepared(
    make: Make, runtime: FakeRuntime, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime.answers = False
    make(nodes=[("10.0.0.1", None, 0, [], 3)], setup_timeout=5)
    computation, _ = runtime.added[0]
    assert computation.setup_timeout_s == 0.0
    assert computation.arguments_for(runtime.connect()) == b""
    assert "setup_args of node '10.0.0.1' are not used: the cluster has no setup" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"setup": "prepare"}, "setup='prepare' is not a plain function"),
        ({"cleanup": "no"}, "cleanup='no'"),
        (
            {"setup": prepare},
            r"setup function 'prepare' cannot be called with the 0 setup_args of node '10.0.0.1'",
        ),
        ({"cleanup": prepare}, r"cleanup function 'prepare' cannot be called"),
        ({"setup": lambda: 0, "setup_timeout": 0}, "setup_timeout must be"),
        (
            {"setup": prepare, "nodes": [dispy.NodeAllocate("*", setup_args=threading.Lock())]},
            "setup_args: argument 1 .* cannot be sent",
        ),
    ],
)
def test_what_cannot_be_prepared(
    make: Make, runtime: FakeRuntime, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=text):
        make(**options)
    assert runtime.users == 0
