"""The search for the nodes of one cluster that nobody has named, and what has come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from dispy.discovery import Discovery, DiscoveryScope, Sighting
from dispy.errors import DispyError
from dispy.logger import logger
from dispy.model import NodeId
from dispy.runtime.dialer import Target

if TYPE_CHECKING:
    from dispy.engine.records import Computation
    from dispy.nodes import NodePattern
    from dispy.runtime.driver import SchedulerDriver
    from dispy.runtime.trust import Trust

QUIET_S = 0.25
"""How long an answer from this machine itself may take."""

TIDY_S = 5.0
"""How often nodes are forgotten that have gone."""

FORGET_S = 600.0
"""So long a node is dialled that neither answers nor can be reached: when it comes back, it announces itself."""

TOLD_MAX = 5
REFUSED_MAX = 1000
"""Addresses that are remembered of nodes that do not belong to us; anybody can make these up."""

NO_KEY = "nodes find each other by a key, and certificates alone have none: name the nodes, or add a secret"
NOT_INSTALLED = "nothing that finds nodes is installed; it comes with: pip install 'dispy-core[std]'"


@dataclass(slots=True)
class _Found:
    """A node that has answered and that the cluster asks for."""

    target: Target
    epoch: int
    seen_at: float
    has_left: bool = False


class NodeSearch:
    """Finds nodes with every `Discovery` that is installed, and has those dialled that the patterns mean.

    Nothing is sent while no pattern is a wildcard.

    Args:
        keep: targets that are wanted in any case, and so are never let go here.
    """

    def __init__(
        self,
        driver: SchedulerDriver,
        computation: Computation,
        patterns: Sequence[NodePattern],
        node_port: int,
        scope: DiscoveryScope,
        discoveries: Callable[[], Sequence[Discovery]],
        *,
        trust: Trust | None,
        local_hosts: Sequence[str] = (),
        keep: Sequence[Target] = (),
    ) -> None:
        self._driver = driver
        self._computation = computation
        self._wildcards: list[NodePattern] = []
        self._node_port = node_port
        self._scope = scope
        self._discoveries = discoveries
        self._trust = trust
        self._local_hosts = local_hosts
        self._keep: set[Target] = set()
        self._found: dict[str, _Found] = {}
        """Ident -> what is known, of nodes that are wanted."""
        self._unwanted: dict[str, Sighting] = {}
        self._refused: dict[str, str] = {}
        """Address -> why the node there does not belong to us."""
        self._places: Sequence[str] = ()
        self._is_local = False
        self._looking_since: float | None = None
        self._problem = ""
        """Why nothing is searched."""
        self._asked_anew = trio.Event()
        self.widen(patterns, keep)

    def widen(self, patterns: Sequence[NodePattern], keep: Sequence[Target] = ()) -> None:
        """Search for these, too; whatever is searched for already is asked for at once."""
        self._keep.update(keep)
        self._wildcards += [
            pattern for pattern in patterns if pattern.is_wildcard and pattern not in self._wildcards
        ]
        for sighting in list(self._unwanted.values()):
            self.sighted(sighting)
        self._asked_anew.set()

    async def run(self) -> None:
        """Search until cancelled, anew whenever it is asked for more."""
        while True:
            self._asked_anew = trio.Event()
            async with trio.open_nursery() as nursery:
                if self._wildcards:
                    nursery.start_soon(self._search_everywhere)
                await self._asked_anew.wait()
                nursery.cancel_scope.cancel()

    async def _search_everywhere(self) -> None:
        """Search with all there is; without anything to search with, note why, and return."""
        self._problem = ""
        ports = sorted({pattern.port or self._node_port for pattern in self._wildcards})
        scope = replace(self._scope, node_ports=tuple(ports))
        try:
            discoveries = self._discoveries()
            keys = await self._scope.keys()
        except DispyError as error:
            self._problem = str(error)
            return
        if not (keys.is_open or keys.keys):
            self._problem = NO_KEY
        elif not discoveries:
            self._problem = NOT_INSTALLED
        else:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tidy)
                for discovery in discoveries:
                    nursery.start_soon(self._search, discovery, scope)

    async def _search(self, discovery: Discovery, scope: DiscoveryScope) -> None:
        """Run one search; what it raises ends that search only."""
        try:
            await discovery.search(scope, self)
        except* Exception as group:
            logger.exception(
                "a bug in dispy, or in a plugin, has ended the search for nodes (%s)", discovery.NAME
            )
            self._problem = (
                f"the search ({discovery.NAME}) has ended by an internal error, see the log: {group}"
            )

    async def _tidy(self) -> None:
        while True:
            await trio.sleep(TIDY_S)
            now = trio.current_time()
            for ident, found in list(self._found.items()):
                if self._is_connected(found.target):
                    found.seen_at = now
                elif found.has_left or now - found.seen_at > FORGET_S:
                    del self._found[ident]
                    self._let_go(found.target)

    @property
    def has_nothing_to_wait_for(self) -> bool:
        """True if nodes on other machines cannot be found, and one on this machine would have answered."""
        if self._problem:
            return True
        if self._looking_since is None or not self._is_local or self._found:
            return False
        return trio.current_time() - self._looking_since >= QUIET_S

    # ---- news (dispy.discovery.DiscoveryListener)

    def looking(self, places: Sequence[str], *, is_local: bool) -> None:
        """Note which networks are searched."""
        self._places, self._is_local = places, is_local
        if self._looking_since is None:
            self._looking_since = trio.current_time()

    def sighted(self, sighting: Sighting) -> None:
        """Have a node dialled, if it is one that the cluster asks for."""
        if not any(pattern.may_mean(sighting.addresses, sighting.port) for pattern in self._wildcards):
            self._unwanted[sighting.ident] = sighting
            return
        self._unwanted.pop(sighting.ident, None)
        now = trio.current_time()
        known = self._found.get(sighting.ident)
        target = Target("tcp", sighting.addresses[0], sighting.port, self._trust)
        if known is not None and (self._is_connected(known.target) or _leads_to(known.target, sighting)):
            target = known.target
        elif known is not None:
            self._let_go(known.target)
        self._found[sighting.ident] = _Found(target, sighting.epoch, now)
        self._driver.expect(target, NodeId(sighting.ident))
        self._driver.dialer.want(
            target, self._computation.id, local_hosts=self._local_hosts, addresses=sighting.addresses
        )
        self._driver.dialer.hurry(target)

    def departed(self, ident: str, epoch: int) -> None:
        """Note that a node ends; it may still be at its last jobs."""
        self._unwanted.pop(ident, None)
        found = self._found.get(ident)
        if found is not None and epoch >= found.epoch:
            found.has_left = True

    def refused(self, host: str, reason: str) -> None:
        """Note that there is a node that does not belong to us."""
        if len(self._refused) < REFUSED_MAX or host in self._refused:
            self._refused[host] = reason

    # ---- for people

    def describe(self) -> Iterator[str]:
        """Tell where was looked, and who has answered that is not used."""
        if self._problem:
            yield f"  nodes that are not named were not looked for: {self._problem}"
        elif self._looking_since is not None:
            where = (
                ", ".join(self._places)
                or "no network: this machine has none, or DISPY_INTERFACES leaves none"
            )
            yield f"  nodes that are not named were looked for on: {where}"
        for sighting in list(self._unwanted.values())[:TOLD_MAX]:
            yield f"  {sighting.addresses[0]}:{sighting.port}: a node that nodes=[...] does not ask for"
        yield from self.describe_refused()

    def describe_refused(self) -> Iterator[str]:
        """Tell of nodes that do not belong to us."""
        for reason in dict.fromkeys(self._refused.values()):
            hosts = [host for host, why in self._refused.items() if why == reason]
            told = ", ".join(hosts[:TOLD_MAX]) + (
                f" and {len(hosts) - TOLD_MAX} more" if hosts[TOLD_MAX:] else ""
            )
            yield f"  {told}: {reason}"

    # ---- the rest

    def _is_connected(self, target: Target) -> bool:
        attempted = self._driver.dialer.targets.get(target)
        return attempted is not None and attempted.connected

    def _let_go(self, target: Target) -> None:
        if target not in self._keep:
            self._driver.dialer.unwant_target(target, self._computation.id)


def _leads_to(target: Target, sighting: Sighting) -> bool:
    return target.port == sighting.port and target.host in sighting.addresses
