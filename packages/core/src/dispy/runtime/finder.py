"""Finds nodes for a cluster, and never keeps the user waiting without saying why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import trio

from dispy.engine.records import Computation, PlacementState
from dispy.errors import InvalidNodes
from dispy.runtime import embedded
from dispy.runtime.dialer import LOCAL_TARGET, Target

if TYPE_CHECKING:
    from dispy.nodes import NodePattern
    from dispy.runtime.driver import SchedulerDriver

LOOK_S = 1.0
"""How long nodes may take to answer before one is started on this machine."""

SILENT_S = 3.0
"""How long a cluster may wait for a usable node before the user is told why."""

POLL_S = 0.02
"""How often it is looked whether a node has answered, within LOOK_S."""


class NodeFinder:
    """Finds the nodes of one cluster; `run` ends when there is nothing left to tell."""

    def __init__(
        self,
        driver: SchedulerDriver,
        computation: Computation,
        patterns: Sequence[NodePattern],
        node_port: int,
        tell: Callable[[str], None],
    ) -> None:
        self._driver = driver
        self._computation = computation
        self._patterns = patterns
        self._tell = tell
        self._here: Target = ("tcp", "127.0.0.1", node_port)
        self._started_node = False

    async def run(self) -> None:
        """Dial what is named, look around for wildcards, start a node here if that is all there can be."""
        want = self._driver.dialer.want
        began = trio.current_time()
        for pattern in self._patterns:
            if pattern.target is not None:
                want(pattern.target, self._computation.id)
        if any(pattern.is_wildcard for pattern in self._patterns):
            # What listens on this machine needs no discovery.
            want(self._here, self._computation.id)
            if any(pattern.matches_everything for pattern in self._patterns):
                await self._start_node_if_alone(began)
        await trio.sleep_until(began + SILENT_S)
        if self._is_open() and not self._is_usable():
            self._tell(self.explain())

    def explain(self) -> str:
        """Say what was tried, what answered, and what to do."""
        lines = [f"no usable node for {self._computation.name!r} yet; its jobs wait"]
        for target, attempted in self._driver.dialer.targets.items():
            if self._computation.id in attempted.wanted_by and not attempted.connected:
                where = "this machine" if target == LOCAL_TARGET else f"{target[1]}:{target[2]}"
                lines.append(f"  {where}: {attempted.last}")
        for placement in self._computation.placements.values():
            if placement.state is not PlacementState.READY:
                why = placement.reason or "it is still being prepared"
                lines.append(f"  node {placement.node.name} ({placement.node.peer_host}): {why}")
        wildcards = [pattern.text for pattern in self._patterns if pattern.is_wildcard]
        if wildcards:
            lines.append(f"  {', '.join(wildcards)}: no node that is known matches")
        lines.append(
            "  what to do: start `dispy node` on the machines named, or name others with nodes=[...]; "
            'nodes=["local"] uses this machine alone'
        )
        return "\n".join(lines)

    def _is_open(self) -> bool:
        return self._computation.id in self._driver.engine.computations and not self._computation.closing

    def _is_usable(self) -> bool:
        return any(
            placement.state is PlacementState.READY for placement in self._computation.placements.values()
        )

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
            if all(found.failed for found in targets.values()) or (
                trio.current_time() - began >= LOOK_S
            ):
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
        self._driver.dialer.unwant_target(self._here, self._computation.id)
        self._driver.dialer.want(LOCAL_TARGET, self._computation.id)
        self._tell(
            f"no node answered for {self._computation.name!r}: running its jobs on this machine "
            '(nodes=["local"] asks for that at once; `dispy node` starts nodes elsewhere)'
        )


def require_patterns(patterns: Sequence[NodePattern]) -> None:
    """Refuse an empty list.

    Raises:
        InvalidNodes: nothing is left of ``nodes``.
    """
    if not patterns:
        raise InvalidNodes('"nodes" argument is invalid')
