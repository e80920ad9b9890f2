"""Finds nodes for a cluster, and never keeps the user waiting without saying why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import trio

from dispy.engine.events import JobsGivenUp
from dispy.engine.records import Computation, Node, NodeState, Placement, PlacementState
from dispy.runtime import embedded
from dispy.runtime.dialer import LOCAL_TARGET, Target
from dispy.runtime.searching import NodeSearch
from dispy.sizes import text_of_part

if TYPE_CHECKING:
    from dispy.discovery import Discovery, DiscoveryScope
    from dispy.nodes import NodePattern
    from dispy.runtime.driver import SchedulerDriver
    from dispy.runtime.trust import Trust

LOOK_S = 1.0
"""How long nodes may take to answer before one is started on this machine."""

SILENT_S = 3.0
"""How long a cluster may wait for a usable node before the user is told why."""

TOLD_MAX = 5
"""How many nodes are told about one by one that have the same reason not to be used."""

POLL_S = 0.02
"""How often it is looked whether a node has answered, within LOOK_S."""


WATCH_S = 0.25
"""How often it is looked whether the cluster still has a usable node."""


class NodeFinder:
    """Finds the nodes of one cluster, and watches that it has some; `run` ends with the cluster."""

    def __init__(
        self,
        driver: SchedulerDriver,
        computation: Computation,
        patterns: Sequence[NodePattern],
        node_port: int,
        tell: Callable[[str], None],
        *,
        trust: Trust | None = None,
        local_hosts: Sequence[str] = (),
        scope: DiscoveryScope | None = None,
        discoveries: Callable[[], Sequence[Discovery]] = tuple,
    ) -> None:
        self._driver = driver
        self._computation = computation
        self._patterns = patterns
        self._tell = tell
        self._local_hosts = local_hosts
        self._trust = trust
        self._node_port = node_port
        self._here = self._find_here(patterns)
        self._search: NodeSearch | None = None
        if scope is not None:
            self._search = NodeSearch(
                driver,
                computation,
                patterns,
                node_port,
                scope,
                discoveries,
                trust=trust,
                local_hosts=local_hosts,
                keep=[*self._find_named(patterns), *self._here],
            )

    async def run(self) -> None:
        """Dial what is named, look around for wildcards, start a node here if that is all there can be."""
        if not self._is_open():
            return  # closed at once: nobody would ever take back what is wanted from here on
        began = trio.current_time()
        for target in [*self._find_named(self._patterns), *self._here]:
            self._want(target)
        async with trio.open_nursery() as nursery:
            if self._search is not None:
                nursery.start_soon(self._search.run)
            if any(pattern.matches_everything for pattern in self._patterns):
                await self._start_node_if_alone(began)
            await self._watch(began)
            nursery.cancel_scope.cancel()

    def look(self, patterns: Sequence[NodePattern]) -> None:
        """Look for these nodes now; they are looked for from now on."""
        targets = [*self._find_named(patterns), *self._find_here(patterns)]
        for target in targets:
            self._want(target)
            self._driver.dialer.hurry(target)
        if self._search is not None:
            self._search.widen(patterns, targets)

    async def _watch(self, began: float) -> None:
        """Tell once whenever no node is usable for SILENT_S, and end jobs that no node will ever run."""
        unusable_since: float | None = began
        told = False
        first = True  # before the first node is there it is told without any job waiting, too
        while self._is_open():
            if self._is_usable():
                unusable_since, told, first = None, False, False
            else:
                now = trio.current_time()
                unusable_since = now if unusable_since is None else unusable_since
                waits = first or self._computation.pending > 0
                if waits and not told and now - unusable_since >= SILENT_S:
                    self._tell(self.explain())
                    told = True
                if self._computation.pending:
                    self._give_up_if_hopeless(patient=now - unusable_since >= SILENT_S)
            await trio.sleep(WATCH_S)

    def _give_up_if_hopeless(self, *, patient: bool) -> None:
        """End the jobs that wait, if every node that was asked for is there and cannot run them.

        A key that does not fit counts as well once we have been *patient*: it may be about to be changed there.
        """
        targets = self._driver.dialer.targets.values()
        mine = [attempted for attempted in targets if self._computation.id in attempted.wanted_by]
        reached = [
            placement
            for placement in self._computation.placements.values()
            if placement.node.state is NodeState.CONNECTED
        ]
        refused = [attempted for attempted in mine if attempted.refused and patient]
        if (
            (reached or refused)
            and all(placement.state is PlacementState.FAILED for placement in reached)
            and all(attempted.connected or attempted in refused for attempted in mine)
        ):
            reasons = "; ".join(
                dict.fromkeys(
                    [placement.reason for placement in reached] + [attempted.last for attempted in refused]
                )
            )
            self._driver.handle(
                JobsGivenUp(self._computation.id, f"no node can run {self._computation.name}: {reasons}")
            )

    def explain(self) -> str:
        """Say which nodes are used, what else was tried, what answered, and what to do."""
        used = [placement for placement in self._computation.placements.values() if _is_reachable(placement)]
        name = self._computation.name
        if used:
            lines = [f"nodes that are used for {name!r}: {len(used)}"]
        else:
            lines = [f"no usable node for {name!r} yet; its jobs wait"]
        lines += [
            _describe_placement(placement, self._driver.unsent_bytes(placement))
            for placement in self._computation.placements.values()
        ]
        lines += self._describe_targets()
        lines += self._describe_others()
        lines += [] if self._search is None else self._search.describe()
        if not used and not any(map(_is_coming, self._computation.placements.values())):
            lines.append(
                "  what to do: start `dispy node` on the machines named, or name others with nodes=[...]; "
                'nodes=["local"] uses this machine alone'
            )
        return "\n".join(lines)

    def _describe_targets(self) -> Iterator[str]:
        """Tell of what was dialled and is no node so far; many with the same reason are not told one by one."""
        known = {place for node in self._connected_nodes() for place in node.targets}
        with_reason: dict[str, list[Target]] = {}
        for target, attempted in self._driver.dialer.targets.items():
            if self._computation.id in attempted.wanted_by and target.place not in known:
                with_reason.setdefault(attempted.last, []).append(target)
        for reason, targets in with_reason.items():
            for target in targets[:TOLD_MAX]:
                yield f"  {target}: {reason}"
            if len(targets) > TOLD_MAX:
                yield f"  and {len(targets) - TOLD_MAX} more: {reason}"

    def _describe_others(self) -> Iterator[str]:
        """Tell of nodes that are there and not used, and of patterns that no node fits."""
        nodes = self._connected_nodes()
        for node in nodes:
            if node.id not in self._computation.placements:
                why = "nodes=[...] does not ask for it, or for none of its CPUs"
                if node.draining:
                    why = f"it takes no jobs{node.refusal and ': ' + node.refusal}"
                yield f"  node {node.name} ({node.peer_host}): {why}"
        for pattern in self._patterns:
            if pattern.is_wildcard and not any(pattern.matches(node) for node in nodes):
                yield f"  {pattern.text}: no node that is known matches"

    def _connected_nodes(self) -> list[Node]:
        return [node for node in self._driver.engine.nodes.values() if node.state is NodeState.CONNECTED]

    def _find_named(self, patterns: Sequence[NodePattern]) -> list[Target]:
        return [self._target_of(pattern.target) for pattern in patterns if pattern.target is not None]

    def _find_here(self, patterns: Sequence[NodePattern]) -> list[Target]:
        """Tell where a node of this machine listens, if wildcards may mean it: that needs no discovery."""
        wildcards = [pattern for pattern in patterns if pattern.is_wildcard]
        ports = {self._node_port if pattern.port is None else pattern.port for pattern in wildcards}
        return [Target("tcp", "127.0.0.1", port, self._trust) for port in sorted(ports)]

    def _target_of(self, named: tuple[str, str, int]) -> Target:
        return LOCAL_TARGET if named == LOCAL_TARGET[:3] else Target(*named, self._trust)

    def _want(self, target: Target) -> None:
        self._driver.dialer.want(target, self._computation.id, local_hosts=self._local_hosts)

    def _is_open(self) -> bool:
        return self._computation.id in self._driver.engine.computations and not self._computation.closing

    def _is_usable(self) -> bool:
        return any(map(_is_reachable, self._computation.placements.values()))

    def _has_answer(self) -> bool:
        return any(
            placement.state in (PlacementState.READY, PlacementState.PREPARING)
            for placement in self._computation.placements.values()
        )

    async def _start_node_if_alone(self, began: float) -> None:
        targets = self._driver.dialer.targets
        while self._is_open() and not self._has_answer():
            # Refused everywhere is an answer too: it need not be waited for. Nodes that another cluster of this
            # process is about to reach may serve this one as well.
            nobody = all(found.failed for found in targets.values())
            if self._search is not None:
                nobody = nobody and self._search.has_nothing_to_wait_for
            if nobody or trio.current_time() - began >= LOOK_S:
                self._start_node()
                return
            await trio.sleep(POLL_S)

    def _start_node(self) -> None:
        if not embedded.is_available():
            self._tell(
                f"no node answers for {self._computation.name!r}, and none can be started here: "
                "install one with: pip install 'dispy-core[local]'"
            )
            return
        for target in self._here:
            if all(pattern.target != target[:3] for pattern in self._patterns):
                self._driver.dialer.unwant_target(target, self._computation.id)
        self._want(LOCAL_TARGET)
        text = (
            f"no node answered for {self._computation.name!r}: running its jobs on this machine "
            '(nodes=["local"] asks for that at once; `dispy node` starts nodes elsewhere)'
        )
        refused = [] if self._search is None else self._search.describe_refused()
        self._tell("\n".join([text, *refused]))


def _is_reachable(placement: Placement) -> bool:
    return placement.is_usable and not placement.resting and placement.node.state is NodeState.CONNECTED


def _is_coming(placement: Placement) -> bool:
    return placement.state is PlacementState.PREPARING and placement.node.state is NodeState.CONNECTED


def _describe_placement(placement: Placement, unsent_bytes: int) -> str:
    match placement.state:
        case PlacementState.READY if placement.resting:
            what = "deallocated; cluster.allocate_node() lets it have jobs again"
        case PlacementState.READY if placement.node.state is NodeState.CONNECTED:
            what = f"used, with {placement.slots} jobs at once"
        case PlacementState.READY:
            what = "used, but its link is lost at the moment"
        case PlacementState.PREPARING if unsent_bytes and placement.node.state is NodeState.CONNECTED:
            total = sum(placement.coming.values())
            what = f"receiving files: {text_of_part(total - unsent_bytes, total)}"
        case PlacementState.PREPARING:
            what = "it is still being prepared: the computation is loaded there, and its setup called"
        case _:
            what = placement.reason or "it is closed there"
    return f"  node {placement.node.name} ({placement.node.peer_host}): {what}"
