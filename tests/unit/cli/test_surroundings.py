"""The search for nodes that nobody has named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import MockClock

from dispy import config
from dispy.discovery import Discovery, DiscoveryKeys, DiscoveryListener, DiscoveryScope, Presence, Sighting
from dispy.errors import CredentialsError
from dispy.interfaces import API_VERSION
from dispy_cli.surroundings import LOCAL_S, LOOK_S, NO_KEY, NOT_INSTALLED, Surroundings, _look_around

NODE = Sighting("a" * 32, 2, 51348, ("10.0.0.2",))


class FakeTrust:
    def __init__(self, keys: DiscoveryKeys | Exception) -> None:
        self.keys = keys

    async def discovery_keys(self) -> DiscoveryKeys:
        if isinstance(self.keys, Exception):
            raise self.keys
        return self.keys


class FakeDiscovery(Discovery):
    NAME: ClassVar[str] = "fake"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self, tell: Callable[[DiscoveryListener], object]) -> None:
        self.tell = tell
        self.scopes: list[DiscoveryScope] = []

    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        self.scopes.append(scope)
        self.tell(listener)
        await trio.sleep_forever()

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        raise NotImplementedError


KEYED = DiscoveryKeys(keys=(b"k" * 32,))


def look(keys: DiscoveryKeys | Exception, discoveries: Sequence[Discovery]) -> tuple[Surroundings, float]:
    async def run() -> tuple[Surroundings, float]:
        began = trio.current_time()
        trust: Any = FakeTrust(keys)
        return await _look_around(trust, lambda: discoveries), trio.current_time() - began

    return trio.run(run, clock=MockClock(autojump_threshold=0), strict_exception_groups=True)


def test_who_answers() -> None:
    def tell(listener: DiscoveryListener) -> None:
        listener.looking(["eth0 (10.0.0.1)"], is_local=False)
        listener.sighted(NODE)
        listener.refused("10.0.0.3", "a node there has another key")

    discovery = FakeDiscovery(tell)
    around, took_s = look(KEYED, [discovery])
    assert took_s == pytest.approx(LOOK_S)
    assert around.places == ("eth0 (10.0.0.1)",)
    assert around.sightings == {NODE.ident: NODE}
    assert around.strangers == {"10.0.0.3": "a node there has another key"}
    assert not around.problem
    (scope,) = discovery.scopes
    assert (scope.node_ports, scope.client_port) == ((config.node_port(),), config.client_port())


def test_this_machine_alone_takes_less() -> None:
    discovery = FakeDiscovery(lambda listener: listener.looking(["lo (127.0.0.1)"], is_local=True))
    around, took_s = look(DiscoveryKeys(is_open=True), [discovery])
    assert around.is_local
    assert took_s == pytest.approx(LOCAL_S)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (DiscoveryKeys(), NO_KEY),
        (KEYED, NOT_INSTALLED),
        (CredentialsError("no key; make one"), "no key; make one"),
    ],
)
def test_what_keeps_it_from_looking(keys: DiscoveryKeys | Exception, problem: str) -> None:
    around, took_s = look(keys, [])
    assert (around.problem, took_s) == (problem, 0)


def test_search_that_fails_leaves_the_others_alone() -> None:
    def fail(listener: DiscoveryListener) -> None:
        raise ValueError("odd")

    discoveries = [FakeDiscovery(fail), FakeDiscovery(lambda listener: listener.sighted(NODE))]
    around, _ = look(KEYED, discoveries)
    assert list(around.sightings) == [NODE.ident]
    assert "the search 'fake' has failed: odd" in around.problem


def test_nodes_that_end_are_forgotten() -> None:
    around = Surroundings()
    around.sighted(NODE)
    around.departed(NODE.ident, NODE.epoch - 1)
    around.departed("b" * 32, 1)
    assert list(around.sightings) == [NODE.ident]
    around.departed(NODE.ident, NODE.epoch)
    assert not around.sightings
