"""How nodes are looked for, and what the user is told about it; in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from dispy.discovery import (
    Discovery,
    DiscoveryKeys,
    DiscoveryListener,
    DiscoveryScope,
    Presence,
    Sighting,
)
from dispy.engine import events as ev
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Node, SourceFile
from dispy.engine.scheduler import SchedulerEngine
from dispy.interfaces import API_VERSION
from dispy.model import ComputationId, Isolation, LinkId
from dispy.nodes import choose, parse_nodes
from dispy.runtime import embedded
from dispy.runtime.dialer import LOCAL_TARGET, Attempted, Target
from dispy.runtime.finder import LOOK_S, SILENT_S, NodeFinder
from dispy.wire.messages import ComputationFailed, ComputationReady, Hello

PORT = 51348
HERE = Target("tcp", "127.0.0.1", PORT)
NAMED = Target("tcp", "10.0.0.1", PORT)


class FakeDialer:
    """Notes what is wanted; the test says what becomes of it."""

    def __init__(self) -> None:
        self.targets: dict[Target, Attempted] = {}
        self.local_hosts: list[Sequence[str]] = []

    def want(
        self,
        target: Target,
        computation: ComputationId,
        *,
        local_hosts: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> None:
        self.targets.setdefault(target, Attempted()).wanted_by.add(computation)
        self.local_hosts.append(local_hosts)

    def unwant_target(self, target: Target, computation: ComputationId) -> None:
        attempted = self.targets.pop(target, None)
        if attempted is not None:
            attempted.wanted_by.discard(computation)

    def hurry(self, target: Target) -> None:
        pass


class PlayedSearch(Discovery):
    """Tells what a test wants."""

    NAME: ClassVar[str] = "played"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self, play: Callable[[DiscoveryListener], Awaitable[None]]) -> None:
        self.play = play
        self.searches = 0

    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        self.searches += 1
        await self.play(listener)
        await trio.sleep_forever()

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        raise NotImplementedError


async def give_keys() -> DiscoveryKeys:
    await trio.lowlevel.checkpoint()
    return DiscoveryKeys(keys=(b"k" * 32,))


def searching(play: Callable[[DiscoveryListener], Awaitable[None]]) -> dict[str, Any]:
    """Return options of a finder that has something to search with."""
    discovery = PlayedSearch(play)
    return {"scope": DiscoveryScope(give_keys, (PORT,), PORT - 1), "discoveries": lambda: [discovery]}


class Scene:
    """A real engine and a finder; nodes are told by their host."""

    def __init__(self, nodes: Any, **options: Any) -> None:
        self.engine = SchedulerEngine(CancelPolicy())
        self.dialer = FakeDialer()
        self.told: list[str] = []
        self.patterns = parse_nodes(nodes, PORT)
        self.computation = Computation(
            id=ComputationId("c" * 32),
            name="compute",
            executor="function",
            isolation=Isolation.PROCESS,
            reentrant=False,
            accepts=lambda node: choose(self.patterns, None, node)[1],
            code_for=lambda python: b"code",
        )
        self.handle(ev.ComputationAdded(self.computation))
        driver: Any = self
        self.expect = lambda target, node: None
        self.unsent: dict[str, int] = {}
        self.unsent_bytes = lambda placement: self.unsent.get(placement.node.id, 0)
        self.finder = NodeFinder(driver, self.computation, self.patterns, PORT, self.told.append, **options)
        self._links = 0

    def handle(self, event: ev.Event) -> None:
        self.engine.handle(event, trio.current_time())

    def fail(self, target: Target, reason: str = "nothing listens there") -> None:
        self.dialer.targets[target].failed = True
        self.dialer.targets[target].last = reason

    def connect(self, host: str, *, ready: bool = True, **fields: Any) -> Node:
        self._links += 1
        link, ident = LinkId(self._links), f"{self._links:032x}"
        settings: dict[str, Any] = {
            "role": "node",
            "ident": ident,
            "name": f"node{self._links}",
            "python": "3.11.7",
            "heartbeat_s": 5.0,
            "cpus": 2,
        }
        hello = Hello(
            protocol_min=1,
            protocol_max=1,
            epoch=1,
            version="1",
            platform="linux",
            max_frame_bytes=1 << 22,
            **(settings | fields),
        )
        for target in self.dialer.targets:
            if target[1] == host:
                self.dialer.targets[target].connected = True
        self.handle(ev.LinkOpened(link, hello, (host, PORT), host))
        if ready:
            self.handle(ev.MessageReceived(link, ComputationReady(self.computation.id)))
        return next(node for node in self.engine.nodes.values() if node.id == ident)

    def close(self) -> None:
        self.handle(ev.ComputationClosing(self.computation.id, terminate=True))


def run(nodes: Any, script: Callable[[Scene], Awaitable[None]], **options: Any) -> Scene:
    """Run a finder with a script beside it."""

    async def main() -> Scene:
        scene = Scene(nodes, **options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.finder.run)
            await wait_all_tasks_blocked()
            await script(scene)
            await trio.sleep(10)  # it watches the nodes as long as the cluster is open
            nursery.cancel_scope.cancel()
        return scene

    return trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


@pytest.fixture(autouse=True)
def node_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "is_available", lambda: True)


def test_named_nodes_are_wanted_and_no_other() -> None:
    async def script(scene: Scene) -> None:
        assert set(scene.dialer.targets) == {NAMED, Target("tcp", "10.0.0.2", 9)}
        assert scene.dialer.local_hosts == [["10.1.1.1"]] * 2
        scene.connect("10.0.0.1")

    scene = run(["10.0.0.1", "10.0.0.2:9"], script, local_hosts=["10.1.1.1"])
    assert scene.told == []


def test_node_on_this_machine_is_used_before_one_is_started() -> None:
    async def script(scene: Scene) -> None:
        assert set(scene.dialer.targets) == {HERE}
        scene.connect("127.0.0.1")

    scene = run(None, script)
    assert set(scene.dialer.targets) == {HERE}
    assert scene.told == []


def test_refused_everywhere_one_is_started_at_once() -> None:
    async def script(scene: Scene) -> None:
        began = trio.current_time()
        scene.fail(HERE)
        while LOCAL_TARGET not in scene.dialer.targets:
            await trio.sleep(0.01)
        assert trio.current_time() - began < 0.1
        scene.connect("local")

    scene = run(None, script)
    assert set(scene.dialer.targets) == {LOCAL_TARGET}
    assert len(scene.told) == 1
    assert "on this machine" in scene.told[0]


def test_node_that_is_found_is_used_and_none_is_started() -> None:
    async def play(listener: DiscoveryListener) -> None:
        listener.looking(["eth0 (10.0.0.9)"], is_local=False)
        await trio.sleep(0.5)
        listener.sighted(Sighting("1" * 32, 1, PORT, ("10.0.0.1",)))

    async def script(scene: Scene) -> None:
        scene.fail(HERE)
        await trio.sleep(0.4)
        assert set(scene.dialer.targets) == {HERE}
        await trio.sleep(0.2)
        assert set(scene.dialer.targets) == {HERE, NAMED}
        scene.connect("10.0.0.1")

    assert run("*", script, **searching(play)).told == []


def test_where_only_this_machine_can_answer_one_is_started_soon() -> None:
    async def play(listener: DiscoveryListener) -> None:
        await trio.lowlevel.checkpoint()
        listener.looking(["lo (127.0.0.1)"], is_local=True)
        listener.refused("127.0.0.1", "a node there has another key")

    async def script(scene: Scene) -> None:
        scene.fail(HERE)
        began = trio.current_time()
        while LOCAL_TARGET not in scene.dialer.targets:
            await trio.sleep(0.01)
        assert 0.2 < trio.current_time() - began < 0.5
        scene.connect("local")

    (told,) = run("*", script, **searching(play)).told
    assert "running its jobs on this machine" in told
    assert "127.0.0.1: a node there has another key" in told


def test_list_without_wildcard_causes_no_search() -> None:
    async def play(listener: DiscoveryListener) -> None:
        raise AssertionError("somebody searches")

    async def script(scene: Scene) -> None:
        await trio.sleep(1)
        scene.connect("10.0.0.1")
        assert "looked for" not in scene.finder.explain()

    run(["10.0.0.1", "10.0.0.2"], script, **searching(play))


def test_where_was_looked_is_explained() -> None:
    async def play(listener: DiscoveryListener) -> None:
        await trio.lowlevel.checkpoint()
        listener.looking(["eth0 (10.0.0.9)"], is_local=False)

    async def script(scene: Scene) -> None:
        await trio.sleep(0.1)
        assert "looked for on: eth0 (10.0.0.9)" in scene.finder.explain()

    run("10.*", script, **searching(play))


def test_it_is_explained_how_much_of_its_files_a_node_has() -> None:
    async def script(scene: Scene) -> None:
        await trio.sleep(0.1)
        source = SourceFile("/src/big.bin", "big.bin", 5_000_000_000, 0o644, 1.5)
        scene.computation.files = [source]
        node = scene.connect("10.0.0.1", ready=False)
        scene.unsent[node.id] = 3_800_000_000
        assert "node1 (10.0.0.1): receiving files: 1.2 of 5.0 GB" in scene.finder.explain()
        scene.unsent.clear()
        assert "node1 (10.0.0.1): it is still being prepared" in scene.finder.explain()

    run("10.0.0.1", script)


def test_who_does_not_answer_is_not_waited_for_for_ever() -> None:
    async def script(scene: Scene) -> None:
        await trio.sleep(LOOK_S * 0.9)
        assert LOCAL_TARGET not in scene.dialer.targets
        await trio.sleep(LOOK_S * 0.2)
        assert LOCAL_TARGET in scene.dialer.targets
        scene.connect("local")

    run("*", script)


def test_node_that_is_named_stays_wanted_when_one_is_started() -> None:
    async def script(scene: Scene) -> None:
        scene.fail(HERE)
        await trio.sleep(0.1)
        assert set(scene.dialer.targets) == {HERE, LOCAL_TARGET}
        scene.connect("local")

    run(["*", "127.0.0.1"], script)


def test_none_is_started_for_a_narrower_pattern() -> None:
    async def script(scene: Scene) -> None:
        scene.fail(HERE)

    scene = run("10.*", script)
    assert LOCAL_TARGET not in scene.dialer.targets
    assert "10.*: no node that is known matches" in scene.told[0]


def test_without_the_node_package_the_user_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "is_available", lambda: False)

    async def script(scene: Scene) -> None:
        scene.fail(HERE)

    scene = run(None, script)
    assert "pip install 'dispy-core[local]'" in scene.told[0]
    assert set(scene.dialer.targets) == {HERE}


def test_silence_is_explained_after_three_seconds() -> None:
    async def main() -> None:
        scene = Scene(["10.0.0.1"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.finder.run)
            await wait_all_tasks_blocked()
            scene.fail(NAMED, "no way to 10.0.0.1: is the machine on?")
            await trio.sleep(SILENT_S * 0.9)
            assert scene.told == []
            await trio.sleep(SILENT_S * 10)
            nursery.cancel_scope.cancel()
        (text,) = scene.told  # once
        assert "no usable node for 'compute'" in text
        assert f"10.0.0.1:{PORT}: no way to 10.0.0.1: is the machine on?" in text
        assert "dispy node" in text

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_cluster_that_is_closed_meanwhile_is_not_spoken_of() -> None:
    async def script(scene: Scene) -> None:
        scene.close()

    scene = run(None, script)
    assert scene.told == []
    assert LOCAL_TARGET not in scene.dialer.targets


def test_cluster_that_is_closed_before_its_finder_runs_wants_nothing() -> None:
    async def main() -> None:
        scene = Scene(["10.0.0.1"])
        scene.close()
        await scene.finder.run()
        assert scene.dialer.targets == {}

    trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def explained(nodes: Any, script: Callable[[Scene], None]) -> str:
    """Let nodes come and give the explanation."""

    async def main() -> str:
        scene = Scene(nodes)
        for pattern in scene.patterns:
            if pattern.target is not None:
                scene.dialer.want(Target(*pattern.target), scene.computation.id)
        script(scene)
        await trio.lowlevel.checkpoint()
        return scene.finder.explain()

    return trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_nodes_in_use_are_told_and_nothing_is_to_be_done() -> None:
    def script(scene: Scene) -> None:
        scene.connect("10.0.0.1")
        scene.fail(Target("tcp", "10.0.0.2", PORT))

    text = explained(["10.0.0.1", "10.0.0.2"], script)
    assert text.splitlines() == [
        "nodes that are used for 'compute': 1",
        "  node node1 (10.0.0.1): used, with 2 jobs at once",
        f"  10.0.0.2:{PORT}: nothing listens there",
    ]


def test_node_that_is_away_is_told() -> None:
    def script(scene: Scene) -> None:
        scene.connect("10.0.0.1")
        scene.handle(ev.LinkClosed(LinkId(1), "reset"))

    assert "node node1 (10.0.0.1): used, but its link is lost at the moment" in explained(
        ["10.0.0.1"], script
    )


def test_node_that_cannot_or_is_not_yet_told_why() -> None:
    def script(scene: Scene) -> None:
        scene.connect("10.0.0.1", ready=False)
        scene.connect("10.0.0.2", ready=False)
        scene.handle(
            ev.MessageReceived(LinkId(2), ComputationFailed(scene.computation.id, "its disk is full"))
        )

    text = explained(["10.0.0.1", "10.0.0.2"], script)
    assert "node node1 (10.0.0.1): it is still being prepared" in text
    assert "node node2 (10.0.0.2): its disk is full" in text
    assert "what to do" not in text, "it is about to be used"


def test_what_to_do_if_no_node_can() -> None:
    def script(scene: Scene) -> None:
        scene.connect("10.0.0.1", ready=False)
        scene.handle(
            ev.MessageReceived(LinkId(1), ComputationFailed(scene.computation.id, "its disk is full"))
        )

    assert "what to do" in explained(["10.0.0.1"], script)


def test_node_that_is_not_asked_for_and_one_that_has_not_greeted() -> None:
    def script(scene: Scene) -> None:
        scene.connect("192.168.0.9")
        scene.dialer.targets[NAMED].connected = True
        scene.dialer.targets[NAMED].last = "it answers, but has not greeted yet"

    text = explained(["10.0.0.1"], script)
    assert "node node1 (192.168.0.9): nodes=[...] does not ask for it" in text
    assert f"10.0.0.1:{PORT}: it answers, but has not greeted yet" in text


def test_many_with_one_reason_are_not_told_one_by_one() -> None:
    def script(scene: Scene) -> None:
        scene.fail(Target("tcp", "10.0.0.7", PORT), "its machine is off")

    text = explained([f"10.0.0.{number}" for number in range(1, 21)], script)
    assert text.count("not tried yet") == 6
    assert "  and 14 more: not tried yet" in text
    assert f"  10.0.0.7:{PORT}: its machine is off" in text


def test_local_node_is_called_this_machine() -> None:
    text = explained(["local"], lambda scene: scene.fail(LOCAL_TARGET, "too many processes"))
    assert "  this machine: too many processes" in text
