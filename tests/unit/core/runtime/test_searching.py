"""What becomes of what a search finds; in virtual time, with a search that a test plays."""

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
from dispy.errors import CredentialsError
from dispy.interfaces import API_VERSION
from dispy.model import ComputationId, NodeId
from dispy.nodes import parse_nodes
from dispy.runtime.dialer import Attempted, Target
from dispy.runtime.searching import FORGET_S, NO_KEY, NOT_INSTALLED, QUIET_S, TIDY_S, NodeSearch

PORT = 51348
HERE = Target("tcp", "127.0.0.1", PORT)
KEYS = DiscoveryKeys(keys=(b"k" * 32,))


class FakeDiscovery(Discovery):
    NAME: ClassVar[str] = "fake"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.scopes: list[DiscoveryScope] = []

    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        self.scopes.append(scope)
        if self.failure:
            raise self.failure
        await trio.sleep_forever()

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        raise NotImplementedError


class FakeDriver:
    """Notes what is to be dialled."""

    def __init__(self) -> None:
        self.dialer = self
        self.targets: dict[Target, Attempted] = {}
        self.expected: dict[Target, NodeId] = {}
        self.hurried: list[Target] = []

    def want(
        self,
        target: Target,
        computation: ComputationId,
        *,
        local_hosts: Sequence[str] = (),
        addresses: Sequence[str] = (),
    ) -> None:
        self.targets.setdefault(target, Attempted()).addresses = addresses

    def unwant_target(self, target: Target, computation: ComputationId) -> None:
        self.targets.pop(target, None)

    def hurry(self, target: Target) -> None:
        self.hurried.append(target)

    def expect(self, target: Target, node: NodeId) -> None:
        self.expected[target] = node


class Scene:
    def __init__(
        self,
        nodes: Any = None,
        *,
        discoveries: Sequence[Discovery] | None = None,
        keys: DiscoveryKeys | CredentialsError = KEYS,
        keep: Sequence[Target] = (),
    ) -> None:
        self.driver = FakeDriver()
        self.keys = keys
        offered = [FakeDiscovery()] if discoveries is None else discoveries
        driver: Any = self.driver
        computation: Any = type("Computation", (), {"id": ComputationId("c")})()
        scope = DiscoveryScope(self.give_keys, (PORT,), PORT - 1)
        patterns = parse_nodes(nodes, PORT)
        self.search = NodeSearch(
            driver, computation, patterns, PORT, scope, lambda: offered, trust=None, keep=keep
        )

    async def give_keys(self) -> DiscoveryKeys:
        await trio.lowlevel.checkpoint()
        if isinstance(self.keys, CredentialsError):
            raise self.keys
        return self.keys

    def sight(self, *addresses: str, ident: str = "node", epoch: int = 1, port: int = PORT) -> None:
        self.search.sighted(Sighting(ident, epoch, port, addresses))

    @property
    def told(self) -> str:
        return "\n".join(self.search.describe())


def target(host: str, port: int = PORT) -> Target:
    return Target("tcp", host, port)


def run(script: Callable[[Scene], Awaitable[None]], *nodes: str, **options: Any) -> Scene:
    """Run a search with a script beside it."""

    async def main() -> Scene:
        scene = Scene(list(nodes), **options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scene.search.run)
            await wait_all_tasks_blocked()
            await script(scene)
            nursery.cancel_scope.cancel()
        return scene

    return trio.run(main, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


async def nothing(scene: Scene) -> None:
    await trio.lowlevel.checkpoint()


def test_node_that_is_found_is_dialled_at_once_at_all_its_addresses() -> None:
    async def script(scene: Scene) -> None:
        scene.sight("10.0.0.1", "fd00::1")

    scene = run(script)
    assert {key: found.addresses for key, found in scene.driver.targets.items()} == {
        target("10.0.0.1"): ("10.0.0.1", "fd00::1")
    }
    assert scene.driver.hurried == [target("10.0.0.1")]
    assert scene.driver.expected == {target("10.0.0.1"): "node"}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("10.0.*", True),
        ("*.1", True),
        ("10.0.0", False),
        ("fd00::*", True),
        ("10.0.1.*", False),
        ("*:9", False),
    ],
)
def test_only_what_is_asked_for_is_dialled(pattern: str, wanted: bool) -> None:
    async def script(scene: Scene) -> None:
        scene.sight("10.0.0.1", "fd00::1")

    scene = run(script, pattern, "192.168.0.*")
    assert bool(scene.driver.targets) == wanted
    assert (f"10.0.0.1:{PORT}: a node that nodes=[...] does not ask for" in scene.told) != wanted


def test_node_that_has_moved_is_dialled_where_it_is_now() -> None:
    async def script(scene: Scene) -> None:
        scene.sight("10.0.0.1", "10.1.0.1")
        scene.sight("10.1.0.1", "10.0.0.1")
        assert set(scene.driver.targets) == {target("10.0.0.1")}
        scene.sight("10.2.0.1")
        assert set(scene.driver.targets) == {target("10.2.0.1")}
        scene.sight("10.2.0.1", port=9)

    assert set(run(script).driver.targets) == {target("10.2.0.1", 9)}


def test_link_that_there_is_is_kept_wherever_the_node_answers_from() -> None:
    async def script(scene: Scene) -> None:
        scene.sight("10.0.0.1")
        scene.driver.targets[target("10.0.0.1")].connected = True
        scene.sight("10.9.0.1")

    assert set(run(script).driver.targets) == {target("10.0.0.1")}


def test_node_that_ends_is_forgotten_when_its_link_is_gone() -> None:
    async def script(scene: Scene) -> None:
        scene.sight("10.0.0.1", epoch=2)
        scene.search.departed("node", 1)  # of an epoch that is over
        scene.search.departed("other", 1)
        await trio.sleep(TIDY_S * 1.5)
        assert scene.driver.targets
        scene.driver.targets[target("10.0.0.1")].connected = True
        scene.search.departed("node", 2)
        await trio.sleep(TIDY_S * 1.5)
        assert scene.driver.targets
        scene.driver.targets[target("10.0.0.1")].connected = False
        await trio.sleep(TIDY_S * 1.5)

    assert run(script).driver.targets == {}


def test_node_that_returns_is_dialled_again() -> None:
    async def script(scene: Scene) -> None:
        scene.sight("10.0.0.1")
        scene.search.departed("node", 1)
        scene.sight("10.0.0.1", epoch=2)
        await trio.sleep(TIDY_S * 1.5)

    assert set(run(script).driver.targets) == {target("10.0.0.1")}


def test_node_that_vanishes_is_dialled_for_some_minutes() -> None:
    async def script(scene: Scene) -> None:
        scene.sight("10.0.0.1")
        scene.driver.targets[target("10.0.0.1")].connected = True
        await trio.sleep(FORGET_S * 2)
        scene.driver.targets[target("10.0.0.1")].connected = False
        await trio.sleep(FORGET_S - TIDY_S)
        assert scene.driver.targets
        await trio.sleep(TIDY_S * 3)

    assert run(script).driver.targets == {}


def test_what_is_named_is_never_let_go() -> None:
    async def script(scene: Scene) -> None:
        scene.sight("127.0.0.1")
        scene.search.departed("node", 1)
        await trio.sleep(TIDY_S * 1.5)

    assert set(run(script, keep=[HERE]).driver.targets) == {HERE}


def test_on_this_machine_alone_nobody_is_waited_for_long() -> None:
    async def script(scene: Scene) -> None:
        assert not scene.search.has_nothing_to_wait_for
        scene.search.looking(["lo (127.0.0.1)"], is_local=True)
        assert not scene.search.has_nothing_to_wait_for
        await trio.sleep(QUIET_S)
        assert scene.search.has_nothing_to_wait_for
        scene.search.looking(["lo (127.0.0.1)", "eth0 (10.0.0.9)"], is_local=False)
        assert not scene.search.has_nothing_to_wait_for
        scene.search.looking(["lo (127.0.0.1)"], is_local=True)
        scene.sight("127.0.0.1")
        assert not scene.search.has_nothing_to_wait_for

    run(script)


def test_where_was_looked_is_told() -> None:
    async def script(scene: Scene) -> None:
        assert scene.told == ""
        scene.search.looking(["lo (127.0.0.1)", "eth0 (10.0.0.9)"], is_local=False)
        assert scene.told == "  nodes that are not named were looked for on: lo (127.0.0.1), eth0 (10.0.0.9)"
        scene.search.looking([], is_local=True)
        assert "on: no network" in scene.told

    run(script)


def test_who_does_not_belong_to_us_is_told() -> None:
    async def script(scene: Scene) -> None:
        for number in range(7):
            scene.search.refused(f"10.0.0.{number}", "another key")
            scene.search.refused(f"10.0.0.{number}", "another key")
        scene.search.refused("10.0.1.1", "it is open")

    assert list(run(script).search.describe_refused()) == [
        "  10.0.0.0, 10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4 and 2 more: another key",
        "  10.0.1.1: it is open",
    ]


def test_made_up_addresses_take_no_more_memory_than_some() -> None:
    async def script(scene: Scene) -> None:
        for number in range(3000):
            scene.search.refused(f"10.0.{number // 256}.{number % 256}", "another key")

    assert "and 995 more" in run(script).told


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"keys": DiscoveryKeys()}, NO_KEY),
        ({"discoveries": []}, NOT_INSTALLED),
        ({"keys": CredentialsError("the key file is empty")}, "the key file is empty"),
        ({"discoveries": [FakeDiscovery(RuntimeError("no sockets"))]}, "internal error"),
    ],
    ids=["certificates alone", "not installed", "no key", "bug"],
)
def test_why_nothing_is_searched_is_told_and_nothing_waited_for(options: dict[str, Any], why: str) -> None:
    scene = run(nothing, **options)
    assert "nodes that are not named were not looked for: " in scene.told
    assert why in scene.told
    assert scene.search.has_nothing_to_wait_for


def test_open_operation_needs_no_key() -> None:
    assert run(nothing, keys=DiscoveryKeys(is_open=True)).told == ""


def test_without_a_wildcard_nothing_is_searched_until_there_is_one() -> None:
    discovery = FakeDiscovery()

    async def script(scene: Scene) -> None:
        assert not discovery.scopes
        scene.search.widen(parse_nodes(["10.0.*:5000"], PORT))
        await wait_all_tasks_blocked()
        scene.sight("10.0.0.1", port=5000)

    scene = run(script, "10.1.0.1", discoveries=[discovery])
    assert [scope.node_ports for scope in discovery.scopes] == [(5000,)]
    assert list(scene.driver.targets) == [target("10.0.0.1", 5000)]


def test_who_asks_for_more_has_what_is_known_at_once_and_the_rest_asked_for_anew() -> None:
    discovery = FakeDiscovery()

    async def script(scene: Scene) -> None:
        scene.sight("10.1.0.1")
        assert "does not ask for" in scene.told
        scene.search.widen(parse_nodes(["10.1.*", "10.0.*"], PORT))
        assert list(scene.driver.targets) == [target("10.1.0.1")]
        assert "does not ask for" not in scene.told
        await wait_all_tasks_blocked()

    run(script, "10.0.*", discoveries=[discovery])
    assert [scope.node_ports for scope in discovery.scopes] == [(PORT,), (PORT,)]


def test_what_has_been_named_later_is_never_let_go() -> None:
    async def script(scene: Scene) -> None:
        scene.search.widen([], [target("10.0.0.1")])
        scene.sight("10.0.0.1")
        scene.search.departed("node", 1)
        await trio.sleep(2 * FORGET_S)

    assert list(run(script).driver.targets) == [target("10.0.0.1")]
