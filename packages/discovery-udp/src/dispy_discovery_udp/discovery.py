"""The discovery ``udp``: broadcast for IPv4, multicast for IPv6, and for IPv4 if that is wanted."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Sequence
from typing import ClassVar

import trio

from dispy.discovery import Discovery, DiscoveryListener, DiscoveryScope, Presence
from dispy.interfaces import API_VERSION
from dispy_discovery_udp.driver import Driver
from dispy_discovery_udp.engine.beacon import Beacon, make_presence
from dispy_discovery_udp.engine.datagrams import NUMBER_BYTES, Mode, Ring
from dispy_discovery_udp.engine.seeker import Seeker
from dispy_discovery_udp.engine.values import Effect, TellDeparted, TellRefused, TellSighted
from dispy_discovery_udp.interfaces import Path

log = logging.getLogger("dispy")

REASONS = {
    Mode.KEYED: "a node there has another key: compare with `dispy key list` on both machines",
    Mode.OPEN: "a node there says that it is open, which nothing vouches for: if it is yours, start it without --open",
}


class UdpDiscovery(Discovery):
    """Finds nodes by datagrams that do not leave the local networks."""

    NAME: ClassVar[str] = "udp"
    API_VERSION: ClassVar[int] = API_VERSION

    async def search(self, scope: DiscoveryScope, listener: DiscoveryListener) -> None:
        """Ask for nodes, and hear those that announce themselves, until cancelled."""
        keys = await scope.keys()
        seeker = Seeker(
            Ring.make(keys.keys, is_open=keys.is_open),
            scope.node_ports,
            number=_make_number,
            jitter=random.random,
            ping_interval_s=scope.ping_interval_s,
        )

        def tell(effect: Effect) -> None:
            match effect:
                case TellSighted(sighting):
                    listener.sighted(sighting)
                case TellDeparted(ident, epoch):
                    listener.departed(ident, epoch)
                case TellRefused(host, mode):
                    listener.refused(host, REASONS[mode])

        def looking(paths: Sequence[Path]) -> None:
            places = [f"{path.interface} ({path.address})" for path in paths]
            listener.looking(places, is_local=all(path.is_loopback for path in paths))

        driver = Driver(seeker, scope, [scope.client_port], tell=tell, looking=looking, hears_directly=True)
        await driver.run(keys)

    async def announce(self, scope: DiscoveryScope, presence: Presence) -> None:
        """Announce a node and answer those who ask, until cancelled."""
        keys = await scope.keys()
        beacon = Beacon(
            make_presence(presence.ident, presence.epoch, presence.port, presence.addresses),
            Ring.make(keys.keys, is_open=keys.is_open),
            scope.client_port,
            number=_make_number,
            jitter=random.random,
            ping_interval_s=scope.ping_interval_s or 0,
        )
        clients = [address for name in presence.clients for address in await _resolve(name)]
        await Driver(beacon, scope, scope.node_ports, clients=clients).run(keys)


def _make_number() -> bytes:
    return os.urandom(NUMBER_BYTES)


async def _resolve(name: str) -> list[str]:
    """Return the addresses of a machine; if it is unknown, none, with a warning."""
    try:
        found = await trio.socket.getaddrinfo(name, None, type=trio.socket.SOCK_DGRAM)
    except OSError as error:
        log.warning("%r hears nothing of this node, since its address is not known: %s", name, error.strerror)
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
