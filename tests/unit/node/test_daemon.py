"""The node daemon, and what it does with links and runners that fail.

In tests/unit/core/runtime/test_driver.py it runs jobs for a real client.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from dispy.errors import UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest, Peer
from dispy.model import RESUMABLE_BYTES, ClientId, ComputationId, LinkId, Role
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.runtime.sources import BytesSource
from dispy.runtime.trust import ANYBODY, owner_of
from dispy.wire.messages import (
    CloseComputation,
    ComputationClosed,
    ComputationFailed,
    ComputationReady,
    FileOffer,
    FilesComing,
    FilesWanted,
    Message,
    NodeChanged,
    OpenComputation,
    Reconcile,
)
from dispy.wire.rights import EVERYTHING
from dispy.wire.session import MessagesReceived, PeerLeft, Session, SessionEvent
from dispy_node import daemon as daemon_module
from dispy_node.confine.confinement import Confinement, Layer
from dispy_node.daemon import AVAIL_S, EXPIRE_S, NodeDaemon, NodeIdentity
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.records import Body, PartKey, Spooled
from dispy_node.parts import KEPT_S
from dispy_node.storage import StateFolder

HERE = Peer("10.0.0.9", is_local=False, identity=ANYBODY)
COMPUTATION = "c" * 32


class FakeRunner:
    """Gets ready after `ready_s`, and ends when it is told to."""

    ready_s: ClassVar[float] = 0.0
    bug: ClassVar[Exception | None] = None

    def __init__(self, computation: ComputationId, spool: Path, emit: Callable[[ev.Event], None]) -> None:
        self.computation = computation
        self.emit = emit
        self.told: list[str] = []
        self.closed = trio.Event()
        self.settings: dict[str, object] = {}
        self.setup: list[object] = []

    def start(
        self,
        plan: ExecutorPlan,
        folder: Path,
        *,
        setup_timeout_s: float,
        let_through: object,
        variables: object,
    ) -> None:
        self.let_through = let_through
        self.setup.append(setup_timeout_s)
        if plan.command[0] == "missing":
            raise FileNotFoundError(2, "No such file or directory", "missing")

    def configure(self, settings: dict[str, object], code: Body, setup_args: Body) -> None:
        self.settings = settings
        self.setup.append(setup_args)

    def set_slots(self, slots: int) -> None:
        self.told.append(f"slots {slots}")

    def run_jobs(self, jobs: object, carrying: object) -> None:
        self.told.append("run")

    def cancel(self, attempts: object) -> None:
        self.told.append("cancel")

    def close(self, *, terminate: bool) -> None:
        self.told.append(f"close {terminate}")
        self.closed.set()

    async def serve(self) -> None:
        await trio.sleep(self.ready_s)
        if self.bug is not None:
            raise self.bug
        if not self.closed.is_set():
            self.emit(ev.RunnerReady(self.computation))
            await self.closed.wait()
        self.emit(ev.RunnerEnded(self.computation))


class FakeExecutor(Executor):
    NAME: ClassVar[str] = "function"
    API_VERSION: ClassVar[int] = API_VERSION
    error: Exception | None = None
    command = "runner"

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        if self.error is not None:
            raise self.error
        return ExecutorPlan(command=[self.command])


class Client:
    """A client's end of a link."""

    def __init__(self, digit: str, stream: trio.abc.Stream) -> None:
        hello = make_hello(Role.CLIENT, digit * 32, name=f"client{digit}")
        session = Session(hello, now=trio.current_time(), accepts=frozenset({Role.NODE}), roles=EVERYTHING)
        self.link = Link(LinkId(1), stream, HERE, session)
        self.heard: list[Message] = []
        self.left: PeerLeft | None = None
        self.reason = ""

    async def run(self) -> None:
        self.reason = await self.link.run(self.take)

    def take(self, link: Link, events: Sequence[SessionEvent]) -> None:
        for event in events:
            if isinstance(event, MessagesReceived):
                self.heard += event.messages
            elif isinstance(event, PeerLeft):
                self.left = event

    async def say(self, *messages: Message) -> None:
        for message in messages:
            self.link.send(message)
        await wait_all_tasks_blocked()


class Scene:
    """A daemon with clients."""

    def __init__(self, state: StateFolder, nursery: trio.Nursery) -> None:
        self.executor = FakeExecutor()
        self.state = state
        self.daemon = NodeDaemon(NodeIdentity("worker", cpus=2), state, lambda name: self.executor)
        self.nursery = nursery
        self.reasons: list[str] = []

    async def connect(self, digit: str = "1") -> Client:
        ours, theirs = memory_stream_pair()

        async def serve() -> None:
            self.reasons.append(await self.daemon.serve_link(theirs, HERE))

        client = Client(digit, ours)
        self.nursery.start_soon(serve)
        self.nursery.start_soon(client.run)
        await wait_all_tasks_blocked()
        await client.say(Reconcile([]))
        return client


def opened(name: str = "compute", **fields: Any) -> OpenComputation:
    return OpenComputation(COMPUTATION, name, "function", "process", b"code", **fields)


Play = Callable[[Callable[[Scene], Awaitable[None]]], None]


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(daemon_module, "RunnerProcess", FakeRunner)

    def play(script: Callable[[Scene], Awaitable[None]]) -> None:
        state = StateFolder(tmp_path / "node")

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                scene = Scene(state, nursery)
                await nursery.start(scene.daemon.run)
                await script(scene)
                nursery.cancel_scope.cancel()

        try:
            trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)
        finally:
            state.close()

    return play


def test_computation_is_opened_and_closed(play: Play) -> None:
    async def script(scene: Scene) -> None:
        client = await scene.connect()
        await client.say(opened(setup_timeout_s=3.5, setup_args=b"args"))
        assert ComputationReady(COMPUTATION) in client.heard
        runner: Any = scene.daemon._runners[ComputationId(COMPUTATION)]
        assert runner.setup == [3.5, b"args"]
        assert runner.settings["node"] == "worker"
        assert runner.settings["folder"] == str(scene.state.computations / COMPUTATION)
        assert (scene.state.computations / COMPUTATION).is_dir()
        await client.say(CloseComputation(COMPUTATION))
        assert client.heard[-1] == ComputationClosed(COMPUTATION)
        assert scene.daemon._runners == {}
        assert not (scene.state.computations / COMPUTATION).exists()

    play(script)


def test_computation_closed_in_the_batch_that_opens_it_is_not_left_behind(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeRunner, "ready_s", 100.0)

    async def script(scene: Scene) -> None:
        client = await scene.connect()
        await client.say(opened(), CloseComputation(COMPUTATION, terminate=True))
        runner: Any = scene.daemon._runners[ComputationId(COMPUTATION)]
        assert runner.told == ["close True"]  # not lost because the runner was not there yet
        await trio.sleep(101)
        assert client.heard[-1] == ComputationClosed(COMPUTATION)
        assert scene.daemon._runners == {}

    play(script)


@pytest.mark.parametrize(
    ("error", "command", "reason"),
    [
        (UsageError("program 'x' is not executable"), "runner", "program 'x' is not executable"),
        (None, "missing", "its runner could not be started: No such file or directory"),
        (RuntimeError("a bug of a plugin"), "runner", "internal error at the node, whose log tells more"),
    ],
)
def test_computation_that_cannot_be_started_is_told_and_the_node_goes_on(
    play: Play, error: Exception | None, command: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(scene: Scene) -> None:
        client = await scene.connect()
        scene.executor.error, scene.executor.command = error, command
        await client.say(opened())
        assert client.heard[-1] == ComputationFailed(COMPUTATION, reason)
        assert scene.daemon._runners == {}
        scene.executor.error, scene.executor.command = None, "runner"
        await client.say(opened())
        assert client.heard[-1] == ComputationReady(COMPUTATION)

    play(script)
    assert ("a bug of a plugin" in caplog.text) == isinstance(error, RuntimeError)


def test_file_with_a_path_that_leads_away_fails_the_computation(play: Play) -> None:
    async def script(scene: Scene) -> None:
        client = await scene.connect()
        await client.say(opened(files=[FileOffer("../away", 0, 0o644, 0.0, 1)]))
        client.link.send_stream(1, Empty(), 0)
        await wait_all_tasks_blocked()
        assert isinstance(client.heard[-1], ComputationFailed)
        assert "not a plain relative path" in client.heard[-1].reason

    play(script)


LARGE = random.Random(0).randbytes(RESUMABLE_BYTES)
HALF = 5_000_000


async def offer_large(scene: Scene, digest: bytes, have: int) -> tuple[Client, FileOffer]:
    """Connect, offer a large file without a stream, and see how much of it the node has."""
    client = await scene.connect()
    offer = FileOffer("large", len(LARGE), 0o644, 0.0, 0, digest)
    client.link.send(opened(files=[offer]))
    with trio.fail_after(60):
        while not isinstance(client.heard[-1], FilesWanted):
            await trio.sleep(0.01)
    assert client.heard[-1] == FilesWanted(COMPUTATION, ["large"], [have] if have else [])
    return client, msgspec.structs.replace(offer, stream=1, skip=have)


def keep_half(scene: Scene, digest: bytes) -> Spooled:
    """Have the node keep what has come of the file, as when a link breaks."""
    hello = make_hello(Role.CLIENT, "1" * 32, name="client1")
    writer = scene.state.open_spool(len(LARGE))
    writer.write(LARGE[:HALF])
    part = writer.finish()
    key = PartKey(ClientId(hello.ident), owner_of(HERE, hello), digest, len(LARGE))
    scene.daemon._keep_parts(fx.KeepParts([(key, part)]))
    return part


@pytest.mark.parametrize("is_right", [True, False])
def test_a_file_goes_on_where_its_link_broke_and_is_compared(play: Play, is_right: bool) -> None:
    digest = hashlib.sha256(LARGE).digest() if is_right else b"d" * 32

    async def script(scene: Scene) -> None:
        part = keep_half(scene, digest)
        client, offer = await offer_large(scene, digest, HALF)
        client.link.send(FilesComing(COMPUTATION, [offer]))
        client.link.send_stream(1, BytesSource(LARGE[HALF:]), len(LARGE) - HALF)
        with trio.fail_after(60):
            while isinstance(client.heard[-1], FilesWanted):
                await trio.sleep(0.01)
        if is_right:
            assert client.heard[-1] == ComputationReady(COMPUTATION)
            assert (scene.state.computations / COMPUTATION / "large").read_bytes() == LARGE
        else:
            assert isinstance(client.heard[-1], ComputationFailed)
            assert "large: what came in parts is not what was offered" in client.heard[-1].reason
        assert not Path(part.path).exists()

    play(script)


def test_parts_are_removed_in_time(play: Play) -> None:
    async def script(scene: Scene) -> None:
        part = keep_half(scene, b"d" * 32)
        await trio.sleep(KEPT_S - 1)
        assert Path(part.path).exists()
        await trio.sleep(EXPIRE_S + 1)
        assert not Path(part.path).exists()

    play(script)


class Empty:
    """The source of an empty stream."""

    def read(self, size_bytes: int) -> bytes:
        return b""

    def close(self) -> None:
        """Nothing is open."""


def test_bug_of_a_runner_ends_its_computation_only(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(FakeRunner, "bug", RuntimeError("a bug of the runner"))

    async def script(scene: Scene) -> None:
        client = await scene.connect()
        await client.say(opened())
        assert isinstance(client.heard[-1], ComputationFailed)
        assert "internal error" in client.heard[-1].reason
        other = await scene.connect("2")
        assert other.reason == ""

    play(script)
    assert "a bug of the runner" in caplog.text


def test_bug_while_a_link_is_served_ends_that_link_only(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(scene: Scene) -> None:
        bad, good = await scene.connect("1"), await scene.connect("2")
        handle = scene.daemon.engine.handle

        def buggy(event: ev.Event, now: float) -> Any:
            if isinstance(event, ev.MessageReceived) and isinstance(event.message, CloseComputation):
                raise RuntimeError("a bug of the engine")
            return handle(event, now)

        monkeypatch.setattr(scene.daemon.engine, "handle", buggy)
        await bad.say(CloseComputation(COMPUTATION))
        assert bad.left == PeerLeft("internal error on the other side", False)  # it may come back
        assert scene.reasons == ["internal error at the node"]
        await good.say(opened())
        assert good.heard[-1] == ComputationReady(COMPUTATION)
        again = await scene.connect("1")
        await trio.sleep(60)
        assert again.reason == good.reason == ""

    play(script)
    assert "a bug of the engine" in caplog.text
    assert "the link to 10.0.0.9" in caplog.text


def test_bug_while_the_end_of_a_link_is_told_does_not_end_the_node(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(scene: Scene) -> None:
        client = await scene.connect()
        handle = scene.daemon.engine.handle

        def buggy(event: ev.Event, now: float) -> Any:
            if isinstance(event, ev.LinkClosed):
                raise RuntimeError("a bug of the engine")
            return handle(event, now)

        monkeypatch.setattr(scene.daemon.engine, "handle", buggy)
        client.link.close_soon("enough", final=True)
        await wait_all_tasks_blocked()
        assert scene.reasons == ["internal error at the node"]
        assert scene.daemon._links == {}
        await scene.connect("2")

    play(script)
    assert "a bug of the engine" in caplog.text


def test_stranger_is_refused_and_logged(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    async def script(scene: Scene) -> None:
        ours, theirs = memory_stream_pair()
        scene.nursery.start_soon(scene.daemon.serve_link, theirs, HERE)
        await ours.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await trio.sleep(5)

    play(script)
    assert "connection from 10.0.0.9 refused" in caplog.text


def test_client_that_breaks_the_protocol_loses_its_link(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script(scene: Scene) -> None:
        client = await scene.connect()
        await client.say(NodeChanged(3))
        await trio.sleep(1)
        assert client.left is not None
        assert "NodeChanged" in client.left.reason

    play(script)
    assert (
        "client client1 at 10.0.0.9 left: client sent NodeChanged, which a client never sends" in caplog.text
    )


def test_coming_and_going_is_logged(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def script(scene: Scene) -> None:
        client = await scene.connect()
        client.link.close_soon("enough", final=True)
        await wait_all_tasks_blocked()

    play(script)
    assert "client client1 at 10.0.0.9 connected" in caplog.text
    assert "client client1 at 10.0.0.9 left: enough" in caplog.text


def test_known_clients_fill_no_log(
    play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("dispy_node.daemon.VISIT_LINES", 5)

    async def script(scene: Scene) -> None:
        for _ in range(10):
            client = await scene.connect()
            client.link.close_soon("enough", final=True)
            await wait_all_tasks_blocked()

    play(script)
    assert caplog.text.count("client client1 at 10.0.0.9") == 5


def test_what_is_free_is_told_now_and_then(play: Play) -> None:
    async def script(scene: Scene) -> None:
        client = await scene.connect()
        assert client.link.session.peer is not None
        assert client.link.session.peer.avail is not None
        await trio.sleep(AVAIL_S * 1.1)
        (message,) = [message for message in client.heard if isinstance(message, NodeChanged)]
        assert message.cpus == 2
        assert message.avail is not None

    play(script)


def test_what_cannot_be_measured_is_left_out(
    play: Play, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(folder: Path) -> Any:
        raise FileNotFoundError(2, "No such file or directory", str(folder))

    monkeypatch.setattr(daemon_module, "measure_avail", fails)

    async def script(scene: Scene) -> None:
        client = await scene.connect()
        assert client.link.session.peer is not None
        assert client.link.session.peer.avail is None
        await trio.sleep(AVAIL_S * 2)
        assert client.reason == ""

    play(script)
    assert "cannot be measured" in caplog.text


def test_drain_ends_when_nothing_is_left(play: Play) -> None:
    async def script(scene: Scene) -> None:
        client = await scene.connect()
        scene.daemon.drain()
        with trio.fail_after(60):
            await scene.daemon.drained.wait()
        await wait_all_tasks_blocked()
        assert any(isinstance(message, NodeChanged) and message.draining for message in client.heard)

    play(script)


def test_drain_that_the_rules_want_is_told_too(play: Play) -> None:
    async def script(scene: Scene) -> None:
        await scene.connect()
        assert not scene.daemon.drain_begun.is_set()
        scene.daemon.handle(ev.DrainRequested())  # as by --serve and --client_shutdown
        assert scene.daemon.drain_begun.is_set()

    play(script)


def test_client_that_stays_away_is_forgotten(play: Play) -> None:
    async def script(scene: Scene) -> None:
        client = await scene.connect()
        await client.say(opened())
        await trio.aclose_forcefully(client.link._stream)
        await trio.sleep(5)
        assert scene.daemon.engine.computations
        await trio.sleep(60)
        assert not scene.daemon.engine.computations
        assert scene.daemon._runners == {}

    play(script)


class FakeConfinement(FakeExecutor):
    """Notes what it is told; it is no way to run jobs."""

    WRAPS: ClassVar[bool] = True

    def __init__(self) -> None:
        self.asked: list[ExecutorRequest] = []
        self.ended: list[ExecutorRequest] = []

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        self.asked.append(request)
        plan = super().plan(request)
        return ExecutorPlan([*plan.command, "confined"])

    def finished(self, request: ExecutorRequest) -> None:
        self.ended.append(request)


@pytest.mark.parametrize("error", [None, UsageError("not today"), ValueError("a bug")])
def test_runner_is_confined_and_that_is_cleared_away(play: Play, error: Exception | None) -> None:
    async def script(scene: Scene) -> None:
        confining = FakeConfinement()
        confining.error = error
        scene.daemon._confinement = Confinement([Layer(confining, {"size": "2"})])
        client = await scene.connect()
        await client.say(opened())
        if error is None:
            assert isinstance(client.heard[-1], ComputationReady)
            assert not confining.ended
            await client.say(CloseComputation(COMPUTATION, terminate=True))
        with trio.fail_after(60):
            while not confining.ended:
                await trio.sleep(0.1)
        (asked,), (ended,) = confining.asked, confining.ended
        assert asked.inner == ExecutorPlan(["runner"])
        assert asked.folder == scene.state.computations / COMPUTATION
        assert (asked.spool.parent, asked.state) == (scene.state.spool, scene.state.path)
        assert (ended.spool, ended.options) == (asked.spool, {"size": "2"})

    play(script)


@pytest.mark.parametrize("is_confined", [False, True])
def test_runner_gets_the_variables_of_the_confinement(play: Play, is_confined: bool) -> None:
    async def script(scene: Scene) -> None:
        layers = [Layer(FakeConfinement(), {})] if is_confined else []
        scene.daemon._confinement = Confinement(layers, let_through=frozenset({"NAME"}))
        client = await scene.connect()
        await client.say(opened())
        (runner,) = scene.daemon._runners.values()
        assert isinstance(runner, FakeRunner)
        assert runner.let_through == ({"NAME"} if is_confined else None)

    play(script)


def test_client_cannot_choose_what_only_confines(play: Play) -> None:
    async def script(scene: Scene) -> None:
        scene.executor = FakeConfinement()
        client = await scene.connect()
        await client.say(opened())
        (message,) = [message for message in client.heard if isinstance(message, ComputationFailed)]
        assert "is for the owner of a node to decide" in message.reason
        assert not scene.executor.asked

    play(script)


def test_folders_are_removed_beside_the_work(tmp_path: Path) -> None:
    """To remove a folder may take minutes, in which links must not fall silent."""
    state = StateFolder(tmp_path)
    daemon = NodeDaemon(NodeIdentity("worker", cpus=1), state, never_called)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(daemon.run)
            (state.make_folder(ComputationId(COMPUTATION)) / "file").write_text("x")
            daemon._remove_folder(fx.RemoveFolder(ComputationId(COMPUTATION)))
            assert [path.name[:9] for path in state.computations.iterdir()] == [".removed-"]
            with trio.fail_after(10):
                while list(state.computations.iterdir()):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()

    trio.run(main, strict_exception_groups=True)
    state.close()


def never_called(name: str) -> Executor:
    raise AssertionError(name)
