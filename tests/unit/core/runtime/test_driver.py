"""The client's driver together with a real node daemon, over the in-memory network and in virtual time.

Only the runner is a fake: it ends each job after `job_s`, with the result that the test says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock

from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job, Node, NodeState
from dispy.interfaces import API_VERSION, Address, Executor, ExecutorPlan, ExecutorRequest
from dispy.model import (
    OPEN,
    AttemptKey,
    ComputationId,
    Isolation,
    JobId,
    JobStatus,
    NodeId,
    NodeStatus,
    Outcome,
)
from dispy.plugins import PluginManager
from dispy.runtime.dialer import Target
from dispy.runtime.driver import SchedulerDriver
from dispy.runtime.holding import ResultMemory
from dispy.runtime.resolver import Resolver
from dispy.runtime.trust import ANYBODY, Trust
from dispy.wire.messages import JobResult, JobStart
from dispy.wire.owner import make_proof
from dispy_node import daemon as node_daemon
from dispy_node.daemon import NodeDaemon, NodeIdentity
from dispy_node.engine import events as nev
from dispy_node.engine.records import Body, Spooled
from dispy_node.storage import StateFolder
from dispy_testing.memory import MemoryNetwork

OPEN_TRUST = Trust(PluginManager(), OPEN, "")
NODE = Target("memory", "node1", 7, OPEN_TRUST)
ALIAS = Target("memory", "node1", 8, OPEN_TRUST)


class FakeRunner:
    """Stands for the runner process of a computation."""

    made: ClassVar[list[FakeRunner]] = []
    job_s: ClassVar[float] = 1.0
    body: ClassVar[bytes] = b"result"

    def __init__(self, computation: ComputationId, spool: Path, emit: Callable[[nev.Event], None]) -> None:
        self.computation = computation
        self.spool = spool
        self.emit = emit
        self.jobs: list[tuple[AttemptKey, Body]] = []
        self.log: list[str] = []
        self.send, self.receive = trio.open_memory_channel[tuple[AttemptKey, Body] | None](1000)
        self.made.append(self)

    def start(
        self,
        plan: ExecutorPlan,
        folder: Path,
        *,
        setup_timeout_s: float,
        let_through: object,
        variables: object,
    ) -> None:
        self.log.append(f"start {plan.command[0]}")

    def configure(self, settings: dict[str, object], code: Body, setup_args: Body) -> None:
        self.log.append("configure")

    def set_slots(self, slots: int) -> None:
        self.log.append(f"slots {slots}")

    def cancel(self, attempts: list[AttemptKey]) -> None:
        self.log.append(f"cancel {attempts}")
        ends = [
            nev.AttemptResult(JobResult(*key, Outcome.CANCELLED, 0, "", 0.0, 0.0, b"")) for key in attempts
        ]
        self.emit(nev.AttemptsEnded(self.computation, ends))

    def run_jobs(self, jobs: list[tuple[AttemptKey, Body]], carrying: object) -> None:
        self.jobs += jobs
        for job in jobs:
            self.send.send_nowait(job)

    def close(self, *, terminate: bool) -> None:
        self.log.append("close")
        self.send.send_nowait(None)

    async def serve(self) -> None:
        self.emit(nev.RunnerReady(self.computation))
        async for job in self.receive:
            if job is None:
                break
            (number, attempt), _body = job
            self.emit(nev.AttemptsStarted(self.computation, [JobStart(number, attempt, 1.0)]))
            await trio.sleep(self.job_s)
            self.emit(nev.AttemptsEnded(self.computation, [self.result(number, attempt)]))
        self.emit(nev.RunnerEnded(self.computation))

    def result(self, number: int, attempt: int) -> nev.AttemptResult:
        spooled, body = None, self.body
        if len(body) > 65536:
            path = self.spool / f"out-{number}-{attempt}"
            path.write_bytes(body)
            spooled, body = Spooled(str(path), len(body)), b""
        return nev.AttemptResult(JobResult(number, attempt, Outcome.RETURNED, 0, "", 1.0, 2.0, body), spooled)


class FakeExecutor(Executor):
    NAME: ClassVar[str] = "function"
    API_VERSION: ClassVar[int] = API_VERSION

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        return ExecutorPlan(command=["fake"])


class Application:
    """Notes the news."""

    def __init__(self) -> None:
        self.jobs: list[tuple[int, str]] = []
        self.results: dict[int, bytes] = {}
        self.reasons: dict[int, str] = {}
        self.nodes: list[str] = []
        self.closed_ones: list[str] = []
        self.reports: list[str] = []
        self.bugs = 0

    def jobs_changed(self, changes: list[fx.JobChange]) -> None:
        for change in changes:
            if change.result is not None:
                if self.bugs:
                    self.bugs -= 1
                    raise RuntimeError("a bug of the application")
                self.results[change.job.id] = bytes(change.result.body)
            self.jobs.append((change.job.id, JobStatus(change.status).name))
            self.reasons[change.job.id] = change.reason

    def node_changed(self, node: Node, status: NodeStatus, computation: Computation) -> None:
        self.nodes.append(f"{node.name} {NodeStatus(status).name} {computation.name}")

    def closed(self, computation: Computation) -> None:
        self.closed_ones.append(computation.name)

    def report(self, text: str, computation: Computation | None) -> None:
        self.reports.append(text)


class World:
    """A client and one node with two slots."""

    def __init__(self, state: StateFolder) -> None:
        self.network = MemoryNetwork()
        self.app = Application()
        self.driver = SchedulerDriver(
            CancelPolicy(),
            lambda scheme: self.network.transport("laptop"),
            self.app,
            ResultMemory(1 << 40),
        )
        self.daemon = NodeDaemon(NodeIdentity("worker", cpus=2), state, lambda name: FakeExecutor())
        self.computation = self.make_computation("1")

    def make_computation(self, digit: str) -> Computation:
        return Computation(
            id=ComputationId(digit * 32),
            name=f"compute{digit}",
            executor="function",
            isolation=Isolation.PROCESS,
            reentrant=False,
            accepts=lambda node: node.cpus,
            code_for=lambda python: b"code",
        )

    def add(self, computation: Computation | None = None) -> None:
        computation = computation or self.computation
        self.driver.handle(ev.ComputationAdded(computation))
        self.driver.dialer.want(NODE, computation.id)

    def job(self, number: int, body: bytes = b"args", computation: Computation | None = None) -> Job:
        return Job(JobId(number), (computation or self.computation).id, body)

    def submit(self, *numbers: int, body: bytes = b"args") -> None:
        for number in numbers:
            self.driver.submit(self.job(number, body))

    def close(self, *, terminate: bool = False) -> None:
        self.driver.handle(ev.ComputationClosing(self.computation.id, terminate=terminate))

    @property
    def node(self) -> Node:
        (node,) = self.driver.engine.nodes.values()
        return node


@pytest.fixture
def play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[World], Awaitable[None]]], World]:
    """Run a script in a world whose client and node are up."""
    monkeypatch.setattr(node_daemon, "RunnerProcess", FakeRunner)
    monkeypatch.setattr(FakeRunner, "made", [])

    def play(script: Callable[[World], Awaitable[None]]) -> World:
        state, resolver = StateFolder(tmp_path / "node"), Resolver()

        async def main() -> World:
            world = World(state)

            async def handle(stream: trio.abc.Stream, peer: Any) -> None:
                await world.daemon.serve_link(stream, replace(peer, identity=ANYBODY))

            addresses = [Address("memory", "node1", 7), Address("memory", "node1", 8)]
            async with trio.open_nursery() as nursery:
                await nursery.start(world.daemon.run)
                listening = world.network.transport("node1").listen(addresses, handle)
                async with listening, trio.open_nursery() as inner:
                    started = trio.Event()
                    inner.start_soon(world.driver.run, resolver, started.set)
                    await started.wait()
                    await script(world)
                    inner.cancel_scope.cancel()
                nursery.cancel_scope.cancel()
            return world

        async def resolve(host: str) -> list[str]:
            await trio.lowlevel.checkpoint()
            return [host]

        monkeypatch.setattr(resolver, "resolve", resolve)
        try:
            return trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
        finally:
            resolver.close()
            state.close()

    return play


Play = Callable[[Callable[[World], Awaitable[None]]], World]


def test_node_and_client_are_known_again(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        await trio.sleep(1)
        (link,) = world.driver._links.values()
        assert link.session.hello.proof == make_proof(world.driver._secret, "")
        link.close_soon("for a test")
        await trio.sleep(5)
        (other,) = world.driver._links.values()
        assert other is not link
        assert world.node.link == other.number
        assert world.node.owner.proof == make_proof(world.daemon._state.secret, "")

    assert play(script).app.reports == []


def test_traffic_of_an_impostor_is_not_that_of_the_node(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        await trio.sleep(1)
        sent = world.node.bytes_sent
        world.daemon._state.secret = b"other" * 8
        world.driver.dialer.want(ALIAS, world.computation.id)
        await trio.sleep(1)
        assert world.node.bytes_sent == sent
        assert world.node.targets == {("node1", 7)}
        world.driver.count_bytes()
        assert world.node.bytes_sent > sent
        await trio.sleep(10)

    (report,) = play(script).app.reports
    assert "cannot show that it is that node" in report


def test_jobs_go_to_the_node_and_results_come_back(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        world.submit(1, 2, 3)
        await trio.sleep(10)
        assert world.app.results == {1: b"result", 2: b"result", 3: b"result"}
        world.close()
        await trio.sleep(1)

    world = play(script)
    assert sorted(world.app.jobs)[:2] == [(1, "FINISHED"), (1, "RUNNING")]
    assert world.app.nodes == ["worker INITIALIZED compute1", "worker CLOSED compute1"]
    assert world.app.closed_ones == ["compute1"]
    assert world.app.reports == []
    assert world.driver.take_leftovers() == []
    assert FakeRunner.made[0].log[:3] == ["start fake", "configure", "slots 2"]
    assert FakeRunner.made[0].log[-1] == "close"


def test_large_arguments_and_results_travel_on_streams(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, result = bytes(range(256)) * 4000, bytes(range(255, -1, -1)) * 40_000
    monkeypatch.setattr(FakeRunner, "body", result)

    async def script(world: World) -> None:
        world.add()
        world.submit(1, body=arguments)
        await trio.sleep(10)
        (_key, body) = FakeRunner.made[0].jobs[0]
        assert isinstance(body, Spooled)
        assert Path(body.path).read_bytes() == arguments

    assert play(script).app.results == {1: result}


def test_job_never_overtakes_the_function_that_adds_its_computation(play: Play) -> None:
    """As when one thread makes a cluster and submits while another thread's job wakes the engine."""

    async def script(world: World) -> None:
        world.add()
        second = world.make_computation("2")

        def other_thread() -> None:
            world.driver.post(lambda: world.add(second))
            world.driver.submit(world.job(2, computation=second))

        # What runs in trio's own queue meets the engine's wake-up in the middle of a round.
        world.submit(1)
        trio.lowlevel.current_trio_token().run_sync_soon(other_thread)
        await trio.sleep(10)
        assert world.app.results == {1: b"result", 2: b"result"}

    play(script)


def test_functions_are_called_in_the_order_of_what_was_handed_over(play: Play) -> None:
    async def script(world: World) -> None:
        seen: list[set[int]] = []
        world.add()
        world.submit(1)
        world.driver.post(lambda: seen.append(set(world.driver.engine.jobs)))
        world.submit(2, 3)
        world.driver.post(lambda: seen.append(set(world.driver.engine.jobs)))
        assert seen == []
        await trio.sleep(0.01)
        assert seen == [{1}, {1, 2, 3}]

    play(script)


def test_cancelled_job_gets_its_end(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        world.submit(1, 2)
        await trio.sleep(0.5)
        world.driver.cancel([JobId(2)])
        await trio.sleep(5)
        assert (2, "CANCELLED") in world.app.jobs

    play(script)


def test_bytes_are_counted_on_the_way_and_when_a_link_ends(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        world.submit(1, body=b"x" * 10_000)
        await trio.sleep(5)
        assert (world.node.bytes_sent, world.node.bytes_received) == (0, 0)
        world.driver.count_bytes()
        sent, received = world.node.bytes_sent, world.node.bytes_received
        assert sent > 10_000 > received > 100
        world.driver.count_bytes()
        assert world.node.bytes_sent == sent
        world.network.drop("laptop", "node1")
        await trio.sleep(1)  # a new link, which begins at 0
        world.submit(2, body=b"x" * 10_000)
        await trio.sleep(5)
        world.driver.count_bytes()
        assert world.node.bytes_sent > sent + 10_000

    play(script)


def test_bug_while_a_message_is_handled_costs_that_link_only(
    play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(world: World) -> None:
        world.add()
        world.app.bugs = 1
        world.submit(1)
        await trio.sleep(1.5)
        assert len(world.app.reports) == 1
        assert "internal error" in world.app.reports[0]
        assert world.node.state is NodeState.CONNECTED  # again
        world.submit(2)
        await trio.sleep(5)
        assert world.app.results[2] == b"result"

    play(script)
    assert "a bug of the application" in capsys.readouterr().out


def test_link_that_breaks_is_made_again_and_results_are_told_then(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        world.submit(1)
        await trio.sleep(0.95)
        world.network.drop("laptop", "node1")
        await trio.sleep(3)
        assert world.app.results == {1: b"result"}
        assert [status for job, status in world.app.jobs if job == 1].count("FINISHED") == 1

    play(script)


def test_silent_node_is_lost_and_its_jobs_are_abandoned(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRunner, "job_s", 1000.0)

    async def script(world: World) -> None:
        world.add()
        world.submit(1)
        await trio.sleep(1)
        world.network.partition("laptop", "node1")
        await trio.sleep(60)
        assert world.app.jobs[-1] == (1, "ABANDONED")
        assert "worker CLOSED compute1" in world.app.nodes

    play(script)


def test_node_is_linked_once_though_it_is_named_twice(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        await trio.sleep(1)
        world.driver.dialer.want(ALIAS, world.computation.id)
        await trio.sleep(30)
        world.driver.count_bytes()
        assert world.network.connections <= 2
        before = len(world.driver.engine.nodes)
        await trio.sleep(30)
        assert len(world.driver.engine.nodes) == before == 1
        assert world.node.state is NodeState.CONNECTED

    play(script)


def test_node_that_is_known_is_not_dialled_at_another_address(play: Play) -> None:
    async def script(world: World) -> None:
        world.driver.expect(ALIAS, NodeId("somebody"))  # who has never been reached
        assert world.driver._may_dial(ALIAS)
        world.add()
        await trio.sleep(1)
        connections = world.network.connections
        world.driver.expect(ALIAS, world.node.id)
        world.driver.dialer.want(ALIAS, world.computation.id)
        await trio.sleep(30)
        assert world.network.connections == connections

    play(script)


def test_client_that_ends_is_forgotten_by_the_node(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRunner, "job_s", 1000.0)

    async def script(world: World) -> None:
        world.add()
        world.submit(1, 2)
        await trio.sleep(1)
        assert world.daemon.engine.computations

    world = play(script)
    assert [job.id for job in world.driver.take_leftovers()] == [1, 2]


def test_leftovers_are_all_that_has_no_end(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        world.submit(1)
        await trio.sleep(3)
        world.submit(2)
        await trio.sleep(0.5)
        world.submit(3)  # at the last moment

    world = play(script)
    assert [job.id for job in world.driver.take_leftovers()] == [2, 3]
    with pytest.raises(trio.RunFinishedError):
        world.driver.submit(world.job(4))


def test_node_ident_is_the_one_of_its_folder(play: Play) -> None:
    async def script(world: World) -> None:
        world.add()
        await trio.sleep(1)
        assert world.node.id == NodeId(world.daemon._state.node)

    play(script)
