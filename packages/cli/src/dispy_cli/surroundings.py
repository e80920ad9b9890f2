"""What answers on the networks of this machine, though nobody has named it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from dispy import config
from dispy.discovery import Discovery, DiscoveryScope, Sighting
from dispy.errors import DispyError

if TYPE_CHECKING:
    from dispy.runtime.trust import Trust

LOOK_S = 1.0
"""How long nodes may take to answer; as long as a cluster waits for them."""

LOCAL_S = 0.25
"""The same, if there is only this machine to answer."""

NO_KEY = "nodes find each other by a key, and certificates alone have none; name the nodes, or add a secret"
NOT_INSTALLED = "nothing that finds nodes is installed; it comes with: pip install 'dispy-core[std]'"


class Surroundings:
    """Who has answered (a `dispy.discovery.DiscoveryListener`).

    Attributes:
        places: the networks that were searched, for people.
        is_local: all of them are of this machine alone.
        sightings: ident -> node.
        strangers: address -> why the node there does not belong to us.
        problem: why not all was searched, and what to do; empty if all was.
    """

    def __init__(self, problem: str = "") -> None:
        self.places: tuple[str, ...] = ()
        self.is_local = False
        self.sightings: dict[str, Sighting] = {}
        self.strangers: dict[str, str] = {}
        self.problem = problem

    def looking(self, places: Sequence[str], *, is_local: bool) -> None:
        """Note which networks are searched."""
        self.places, self.is_local = tuple(places), is_local

    def sighted(self, sighting: Sighting) -> None:
        """Note a node."""
        self.sightings[sighting.ident] = sighting

    def departed(self, ident: str, epoch: int) -> None:
        """Forget a node that ends, unless it has started again since."""
        known = self.sightings.get(ident)
        if known is not None and epoch >= known.epoch:
            del self.sightings[ident]

    def refused(self, host: str, reason: str) -> None:
        """Note a node that does not belong to us."""
        self.strangers[host] = reason


def look_around(trust: Trust, discoveries: Callable[[], Sequence[Discovery]]) -> Surroundings:
    """Ask at the ports of `dispy.config` who is there, in an event loop of its own; it takes `LOOK_S`."""
    return trio.run(_look_around, trust, discoveries, strict_exception_groups=True)


async def _look_around(trust: Trust, discoveries: Callable[[], Sequence[Discovery]]) -> Surroundings:
    try:
        scope = make_scope(trust)
        keys = await scope.keys()
        installed = discoveries()
    except DispyError as error:
        return Surroundings(str(error))
    if not (keys.is_open or keys.keys):
        return Surroundings(NO_KEY)
    if not installed:
        return Surroundings(NOT_INSTALLED)
    around = Surroundings()
    async with trio.open_nursery() as nursery:
        for discovery in installed:
            nursery.start_soon(_search, discovery, scope, around)
        await trio.sleep(LOCAL_S)
        if not around.is_local:
            await trio.sleep(LOOK_S - LOCAL_S)
        nursery.cancel_scope.cancel()
    return around


def make_scope(trust: Trust) -> DiscoveryScope:
    """Tell where to look.

    Raises:
        UsageError: an address of multicast in `dispy.config` is none.
    """
    ipv4_group, ipv6_group = config.multicast_groups()
    return DiscoveryScope(
        keys=trust.discovery_keys,
        node_ports=(config.node_port(),),
        client_port=config.client_port(),
        ipv4_group=ipv4_group,
        ipv6_group=ipv6_group,
    )


async def _search(discovery: Discovery, scope: DiscoveryScope, around: Surroundings) -> None:
    """Run one search; what it raises ends that search only, and is told."""
    try:
        await discovery.search(scope, around)
    except* Exception as group:
        reason = "; ".join(map(str, group.exceptions))
        around.problem = f"the search {discovery.NAME!r} has failed: {reason}; update it, or name the nodes"
