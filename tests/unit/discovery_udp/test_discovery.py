"""The discovery as a whole, on loopback."""

from __future__ import annotations

import socket

import pytest
import trio

from dispy.discovery import DiscoveryKeys, DiscoveryScope, Presence
from dispy_discovery_udp.discovery import REASONS, UdpDiscovery, _resolve
from dispy_discovery_udp.engine.datagrams import Mode
from dispy_testing.contracts import check_discovery

KEYS = DiscoveryKeys(keys=(b"k" * 32,))
OTHERS = DiscoveryKeys(keys=(b"o" * 32,))


def scope_of(keys: DiscoveryKeys) -> DiscoveryScope:
    async def give() -> DiscoveryKeys:
        await trio.lowlevel.checkpoint()
        return keys

    ports = []
    socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in socks:
        sock.bind(("127.255.255.255", 0))
        ports.append(int(sock.getsockname()[1]))
    for sock in socks:
        sock.close()
    return DiscoveryScope(give, (ports[0],), ports[1], hosts=("127.0.0.1",))


def test_it_keeps_the_contract() -> None:
    trio.run(check_discovery, UdpDiscovery, scope_of(KEYS), strict_exception_groups=True)


class Listener:
    def __init__(self) -> None:
        self.places: list[str] = []
        self.is_local = False
        self.refusals: list[tuple[str, str]] = []
        self.has_refused = trio.Event()

    def looking(self, places, *, is_local: bool) -> None:
        self.places, self.is_local = list(places), is_local

    def sighted(self, sighting) -> None:
        raise AssertionError(sighting)

    def departed(self, ident: str, epoch: int) -> None:
        raise AssertionError(ident)

    def refused(self, host: str, reason: str) -> None:
        self.refusals.append((host, reason))
        self.has_refused.set()


def test_it_tells_where_it_looks_and_who_has_another_key() -> None:
    async def main() -> Listener:
        ours, listener = scope_of(KEYS), Listener()
        theirs = DiscoveryScope(scope_of(OTHERS).keys, ours.node_ports, ours.client_port, ours.hosts)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(UdpDiscovery().announce, theirs, Presence("them", 1, 4000))
                nursery.start_soon(UdpDiscovery().search, ours, listener)
                await listener.has_refused.wait()
                nursery.cancel_scope.cancel()
        return listener

    listener = trio.run(main, strict_exception_groups=True)
    assert listener.places == ["lo (127.0.0.1)"]
    assert listener.is_local
    assert set(listener.refusals) == {("127.0.0.1", REASONS[Mode.KEYED])}


def test_names_of_machines_elsewhere_are_looked_up(caplog: pytest.LogCaptureFixture) -> None:
    assert trio.run(_resolve, "127.0.0.1") == ["127.0.0.1"]
    assert trio.run(_resolve, "no-such-host.invalid") == []
    assert "'no-such-host.invalid' hears nothing of this node" in caplog.text
