from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from dispy import config
from dispy.discovery import Discovery, DiscoveryKeys, DiscoveryListener, DiscoveryScope, Presence
from dispy.errors import CredentialsError
from dispy.interfaces import API_VERSION, Address
from dispy_node.presence import announce, make_presence, make_scope
from dispy_node.settings import NodeSettings
from dispy_node.storage import StateFolder

EVERYWHERE = [Address("tcp", "0.0.0.0", 51348), Address("tcp", "::", 51348)]
KEYS = DiscoveryKeys(keys=(b"k" * 32,))


class FakeTrust:
    def __init__(self, keys: DiscoveryKeys | CredentialsError = KEYS) -> None:
        self.keys = keys

    async def discovery_keys(self) -> DiscoveryKeys:
        await trio.lowlevel.checkpoint()
        if isinstance(self.keys, CredentialsError):
            raise self.keys
        return self.keys


class Noting(Discovery):
    NAME: ClassVar[str] = "noting"
    API_VERSION: ClassVar[int] = API_VERSION

    def __init__(self) -> None:
        self.announced: list[tuple[DiscoveryScope, Presence]] = []

    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        raise NotImplementedError

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        self.announced.append((scope, presence))
        await trio.lowlevel.checkpoint()


class Broken(Noting):
    NAME: ClassVar[str] = "broken"

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        raise RuntimeError("a bug of the plugin")


class FakePlugins:
    def __init__(self, *discoveries: Discovery) -> None:
        self._discoveries = discoveries

    def discoveries(self) -> Sequence[Discovery]:
        return self._discoveries


@pytest.fixture
def state(tmp_path: Path):
    state = StateFolder(tmp_path / "state")
    yield state
    state.close()


def scope_of(settings: NodeSettings, bound: Sequence[Address] = EVERYWHERE) -> DiscoveryScope:
    trust: Any = FakeTrust()
    return make_scope(settings, trust, bound)


def test_scope_is_where_clients_look_by_default() -> None:
    scope = scope_of(NodeSettings())
    assert (scope.node_ports, scope.client_port) == ((51348,), 51347)
    assert (scope.hosts, scope.multicast, scope.ping_interval_s) == ((), False, None)
    assert (scope.ipv4_group, scope.ipv6_group) == config.multicast_groups()


def test_scope_follows_the_settings() -> None:
    settings = NodeSettings(dispy_port=9700, ping_interval=30, ipv4_udp_multicast=True)
    scope = scope_of(settings, [Address("tcp", "10.0.0.5", 9701), Address("unix", "/run/node")])
    assert (scope.node_ports, scope.client_port) == ((9701,), 9700)
    assert (scope.hosts, scope.multicast, scope.ping_interval_s) == (("10.0.0.5",), True, 30.0)


def test_node_on_any_free_port_is_found_at_the_usual_one() -> None:
    scope = scope_of(NodeSettings(dispy_port=0), [Address("tcp", "0.0.0.0", 40000)])
    assert (scope.node_ports, scope.client_port) == ((51348,), 51347)


def test_presence_tells_addresses_of_ext_host_and_nothing_else(
    state: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    settings = NodeSettings(
        ext_host=("203.0.113.5", "no-such-host.invalid", "203.0.113.5"), scheduler_host=("far",)
    )
    presence = trio.run(make_presence, settings, state, 4000)
    assert presence == Presence(state.node, state.epoch, 4000, ("203.0.113.5",), ("far",))
    assert "--ext-host no-such-host.invalid" in caplog.text


def announced(
    state: StateFolder,
    *discoveries: Discovery,
    keys: DiscoveryKeys | CredentialsError = KEYS,
    bound: Sequence[Address] = EVERYWHERE,
    **settings: Any,
) -> None:
    trust: Any = FakeTrust(keys)
    plugins: Any = FakePlugins(*discoveries)
    trio.run(announce, NodeSettings(**settings), trust, plugins, state, bound, strict_exception_groups=True)


def test_every_discovery_announces_and_a_broken_one_harms_none(
    state: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    noting = Noting()
    announced(state, Broken(), noting)
    ((scope, presence),) = noting.announced
    assert scope.node_ports == (51348,)
    assert presence.port == 51348
    assert "has ended the announcements by 'broken'" in caplog.text


@pytest.mark.parametrize(
    "options",
    [
        {"no_discovery": True},
        {"bound": [Address("unix", "/run/node")]},
        {"keys": DiscoveryKeys()},
        {"keys": CredentialsError("the key file is empty")},
    ],
    ids=["on request", "no port", "certificates alone", "no key"],
)
def test_node_that_cannot_or_must_not_be_found(
    state: StateFolder, caplog: pytest.LogCaptureFixture, options: dict[str, Any]
) -> None:
    noting = Noting()
    with caplog.at_level(logging.INFO, "dispy.node"):
        announced(state, noting, **options)
    assert noting.announced == []
    assert ("only if they name it" in caplog.text) == ("keys" in options)


def test_without_any_discovery_it_is_said_how_to_get_one(
    state: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "dispy.node"):
        announced(state)
    assert "pip install 'dispy-core[std]'" in caplog.text
