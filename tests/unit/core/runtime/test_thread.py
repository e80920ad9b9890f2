"""The engine's thread: how it starts, ends, and fails. Its threads are real, its network is a plugin in memory."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import pytest
import trio

from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.records import Computation, Job, Node
from dispy.errors import DispyError, PluginError, TransportError
from dispy.hookspecs import JobEvent, hookimpl
from dispy.interfaces import API_VERSION, Address, Peer, Transport
from dispy.model import OPEN, ComputationId, Isolation, JobStatus, NodeStatus
from dispy.nodes import parse_nodes
from dispy.plugins import PluginManager
from dispy.runtime import thread
from dispy.runtime.finder import NodeFinder

LONG_S = 30.0
"""What takes longer hangs."""


class Nowhere(Transport):
    """Reaches nobody."""

    NAME: ClassVar[str] = "nowhere"
    API_VERSION: ClassVar[int] = API_VERSION

    async def dial(self, address: Address, *, local_host: str | None = None) -> tuple[trio.abc.Stream, Peer]:
        await trio.lowlevel.checkpoint()
        raise TransportError(f"{address.host} is nowhere")

    def listen(
        self, addresses: Sequence[Address], handler: Callable[[trio.abc.Stream, Peer], Awaitable[None]]
    ) -> AbstractAsyncContextManager[Sequence[Address]]:
        raise NotImplementedError


class Plugin:
    """Offers the transport, and watches jobs."""

    def __init__(self) -> None:
        self.seen: list[JobEvent] = []

    @hookimpl
    def dispy_register_transport(self) -> type[Transport]:
        return Nowhere

    @hookimpl
    def dispy_on_jobs(self, changes: Sequence[JobEvent]) -> None:
        self.seen += changes


class Cluster:
    """A listener with one computation."""

    def __init__(self, digit: str = "1") -> None:
        self.changes: list[fx.JobChange] = []
        self.is_closed = threading.Event()
        self.ended = threading.Event()
        self.patterns = parse_nodes(["nowhere:host"], 51348)
        self.computation = Computation(
            id=ComputationId(digit * 32),
            name=f"compute{digit}",
            executor="function",
            isolation=Isolation.PROCESS,
            reentrant=False,
            accepts=lambda node: node.cpus,
            code_for=lambda python: b"code",
        )

    def jobs_changed(self, changes: Sequence[fx.JobChange]) -> None:
        self.changes += changes
        self.ended.set()

    def node_changed(self, node: Node, status: NodeStatus) -> None:
        raise AssertionError("there is no node")

    def closed(self) -> None:
        self.is_closed.set()

    def add_to(self, runtime: thread.Runtime, **options: Any) -> None:
        trust = runtime.trusts.get(OPEN)
        runtime.add(self.computation, self.patterns, 51348, self, trust=trust, **options)

    def submit_to(self, runtime: thread.Runtime) -> Job:
        job = Job(runtime.next_job(), self.computation.id, b"args")
        runtime.submit(job)
        return job

    def close_at(self, runtime: thread.Runtime) -> None:
        runtime.call(
            lambda: runtime.driver.handle(ev.ComputationClosing(self.computation.id, terminate=True))
        )


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    made = Plugin()
    load = PluginManager.load
    monkeypatch.setattr(thread.PluginManager, "load", lambda: load([made], entry_points=[]))
    return made


@pytest.fixture
def runtime(plugin: Plugin) -> Iterator[thread.Runtime]:
    made = thread.acquire()
    yield made
    if made.users:
        thread.release(made)
    assert not [one for one in threading.enumerate() if one.name.startswith("dispy-")]


def fail_engine(runtime: thread.Runtime) -> None:
    """Have the engine's thread end by a bug."""

    def bug() -> None:
        raise RuntimeError("a bug of the engine")

    runtime.wait_ready()
    runtime.driver.post(bug)
    runtime._thread.join(LONG_S)
    assert runtime.has_failed


def test_one_runtime_serves_all_and_ends_with_the_last(plugin: Plugin) -> None:
    first, second = thread.acquire(), thread.acquire()
    assert first is second
    thread.release(first)
    assert first.call(lambda: 5) == 5
    thread.release(second)
    assert not [one for one in threading.enumerate() if one.name.startswith("dispy-")]
    with pytest.raises(DispyError, match="has ended"):
        first.call(lambda: 5)
    third = thread.acquire()
    assert third is not first
    thread.release(third)


def test_runtime_that_is_given_back_before_it_is_up_ends_too(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the second thing that a cluster asks of it is refused."""
    begin = threading.Event()
    run = thread.Runtime._run

    def late(self: thread.Runtime) -> None:
        assert begin.wait(LONG_S)
        run(self)

    monkeypatch.setattr(thread.Runtime, "_run", late)
    runtime = thread.acquire()
    stopper = threading.Thread(target=thread.release, args=(runtime,))
    stopper.start()
    begin.set()
    stopper.join(LONG_S)
    runtime._thread.join(LONG_S)
    assert not runtime._thread.is_alive()


def test_acquired_by_many_threads_at_once_it_is_made_once(plugin: Plugin) -> None:
    barrier = threading.Barrier(8)
    found: list[thread.Runtime] = []

    def work() -> None:
        barrier.wait()
        found.append(thread.acquire())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(LONG_S)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    for runtime in found:
        thread.release(runtime)


def test_jobs_of_clusters_made_at_once_are_all_taken(runtime: thread.Runtime) -> None:
    """Each thread makes a cluster and submits at once, while the jobs of others wake the engine."""
    barrier = threading.Barrier(4)
    clusters = [Cluster(str(number)) for number in range(4)]

    def work(cluster: Cluster) -> None:
        barrier.wait()
        cluster.add_to(runtime)
        for _ in range(50):
            cluster.submit_to(runtime)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(cluster,)) for cluster in clusters]
        for one in threads:
            one.start()
        for one in threads:
            one.join(LONG_S)
    finally:
        sys.setswitchinterval(interval)
    for cluster in clusters:
        assert runtime.call(lambda cluster=cluster: cluster.computation.pending) == 50  # type: ignore[misc]
        assert cluster.changes == []


def test_call_gives_results_and_exceptions_on(runtime: thread.Runtime) -> None:
    assert runtime.call(lambda: threading.current_thread().name) == "dispy-engine"
    with pytest.raises(KeyError, match="mine"):
        runtime.call(lambda: {}["mine"])
    assert runtime.call(lambda: runtime.call(lambda: 7)) == 7  # from the engine's thread itself
    assert runtime.call(runtime.is_engine_thread)
    assert not runtime.is_engine_thread()


def test_news_go_to_the_cluster_of_each_job_and_to_observers(runtime: thread.Runtime, plugin: Plugin) -> None:
    first, second = Cluster("1"), Cluster("2")
    first.add_to(runtime)
    second.add_to(runtime)
    mine, yours = first.submit_to(runtime), second.submit_to(runtime)
    runtime.call(lambda: runtime.driver.cancel([mine.id, yours.id]))
    assert [change.job for change in first.changes] == [mine]
    assert [change.job for change in second.changes] == [yours]
    runtime.call(lambda: None)
    assert [(event.computation, event.status) for event in plugin.seen] == [
        ("compute1", JobStatus.CANCELLED),
        ("compute2", JobStatus.CANCELLED),
    ]


def test_closed_cluster_is_told_and_forgotten(runtime: thread.Runtime) -> None:
    cluster = Cluster()
    cluster.add_to(runtime)
    assert "compute1" in runtime.explain(cluster.computation.id)
    cluster.close_at(runtime)
    assert cluster.is_closed.wait(LONG_S)
    assert runtime.explain(cluster.computation.id) == "it is closed"


def test_transport_that_is_missing_is_told_at_once(runtime: thread.Runtime) -> None:
    runtime.require_transports(parse_nodes(["nowhere:host", "local"], 51348))
    with pytest.raises(PluginError, match="warp"):
        runtime.require_transports(parse_nodes(["warp:host"], 51348))


def test_local_hosts_reach_the_dialer(runtime: thread.Runtime) -> None:
    cluster = Cluster()
    cluster.add_to(runtime, local_hosts=["10.1.1.1"])
    targets = runtime.call(lambda: None) or runtime.driver.dialer.targets
    for _ in range(1000):  # the finder begins in a task of its own
        if targets:
            break
        runtime.call(lambda: None)
    assert [attempted.local_hosts for attempted in targets.values()] == [("10.1.1.1",)]


def test_bug_of_a_finder_ends_that_search_only(
    runtime: thread.Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = threading.Event()

    async def run(self: NodeFinder) -> None:
        failed.set()
        raise RuntimeError("a bug of the finder")

    monkeypatch.setattr(NodeFinder, "run", run)
    Cluster().add_to(runtime)
    assert failed.wait(LONG_S)
    assert runtime.call(lambda: 5) == 5
    thread.release(runtime)
    shown = capsys.readouterr()
    assert "a bug of the finder" in shown.out
    assert "search for nodes" in shown.err


def test_engine_that_fails_lets_nobody_wait(
    runtime: thread.Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster, other = Cluster("1"), Cluster("2")
    cluster.add_to(runtime)
    other.add_to(runtime)
    job = cluster.submit_to(runtime)
    fail_engine(runtime)
    assert cluster.ended.wait(LONG_S)
    assert cluster.is_closed.wait(LONG_S)
    assert other.is_closed.wait(LONG_S)
    assert [(change.job, change.status) for change in cluster.changes] == [(job, JobStatus.ABANDONED)]
    assert "engine's thread has ended" in cluster.changes[0].reason
    for act in (
        lambda: runtime.call(lambda: 5),
        lambda: cluster.submit_to(runtime),
        lambda: other.add_to(runtime),
    ):
        with pytest.raises(DispyError, match="internal error"):
            act()
    shown = capsys.readouterr().err
    assert "a bug of the engine" in shown


def test_after_a_failure_new_clusters_get_a_new_runtime(
    runtime: thread.Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_engine(runtime)
    fresh = thread.acquire()
    assert fresh is not runtime
    thread.release(runtime)  # the old one ends, the new one stays
    assert fresh.call(lambda: 5) == 5
    thread.release(fresh)
    assert "a bug of the engine" in capsys.readouterr().err


def test_runtime_can_be_released_from_a_callback(runtime: thread.Runtime) -> None:
    released = threading.Event()

    def callback() -> None:
        thread.release(runtime)
        released.set()

    runtime.callbacks.call_soon(callback)
    assert released.wait(LONG_S)
    runtime.callbacks._thread.join(LONG_S)


def test_runtime_can_be_released_in_the_engines_thread(runtime: thread.Runtime) -> None:
    runtime.call(lambda: thread.release(runtime))
    runtime._thread.join(LONG_S)
    runtime.callbacks._thread.join(LONG_S)
    assert not runtime._thread.is_alive()


def test_what_still_waits_when_the_last_cluster_goes_is_abandoned(runtime: thread.Runtime) -> None:
    cluster = Cluster()
    cluster.add_to(runtime)
    job = cluster.submit_to(runtime)
    thread.release(runtime)
    assert [(change.job, change.status) for change in cluster.changes] == [(job, JobStatus.ABANDONED)]
    assert cluster.is_closed.is_set()


def test_runtime_from_before_a_fork_is_left_alone(
    runtime: thread.Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -5)
        thread.release(runtime)
    assert runtime.call(lambda: 5) == 5
    runtime.users = 1  # for the fixture


def test_user_is_told_even_if_nobody_can_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "broken pipe")

        def flush(self) -> None:
            raise AssertionError("nothing was written")

    monkeypatch.setattr(sys, "stderr", Gone())
    thread.tell_user("your nodes are gone")
    monkeypatch.undo()
    assert "your nodes are gone" in capsys.readouterr().out
