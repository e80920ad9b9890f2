"""What a cluster's user says about its nodes: look for them, take them, leave them, wait for them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from dispy.errors import InvalidNodes
from dispy.job import DispyJob
from dispy.logger import logger
from dispy.runtime.waiting import check_may_wait
from dispy.status import DispyNode

if TYPE_CHECKING:
    from dispy.allotment import Allotments
    from dispy.engine.events import Event
    from dispy.engine.records import Computation, Node
    from dispy.model import NodeId
    from dispy.nodes import NodePattern
    from dispy.runtime.thread import Runtime

Answer = TypeVar("Answer")


class NodeManagement:
    """The part of a cluster that is about single nodes. A node is named by `DispyNode`, name or address.

    Its methods return 0 if all is well and -1, with a warning in the log, if not, as in the original.
    """

    _computation: Computation
    _runtime: Runtime
    _patterns: list[NodePattern]
    _allotments: Allotments
    _node_port: int
    _lock: threading.Condition
    _nodes: dict[str, DispyNode]

    if TYPE_CHECKING:

        def _check_open(self) -> None: ...
        def _check_trust(self, patterns: Sequence[NodePattern]) -> None: ...

    def discover_nodes(self, nodes: Any = None) -> int:
        """Look for nodes now, rather than when it would be their turn; those of *nodes* are also looked for.

        They are used if they are among the nodes of this cluster; `allocate_node` adds others.

        Args:
            nodes: as the argument of `JobCluster`; None: those that the cluster has.

        Raises:
            InvalidNodes: nothing in *nodes* can be understood.
        """
        patterns = self._patterns if nodes is None else self._parse(nodes)
        self._runtime.call(lambda: self._runtime.finder(self._computation.id).look(patterns))
        return 0

    def allocate_node(self, node: Any) -> int:
        """Use more nodes, or again those that were deallocated or closed.

        Args:
            node: as the argument *nodes* of `JobCluster`.

        Returns:
            0, or -1 if nothing in it can be understood.
        """
        from dispy.engine.events import NodesWidened, NodeTaken

        self._check_open()
        try:
            patterns = self._parse(node)
        except InvalidNodes as error:
            logger.warning("no node was allocated: %s", error)
            return -1
        self._runtime.call(lambda: self._runtime.require_transports(patterns))
        self._check_trust(patterns)
        prepared = self._allotments.prepare(patterns)

        def allocate() -> None:
            driver, computation = self._runtime.driver, self._computation
            self._allotments.add(prepared)
            self._patterns[:0] = patterns  # what was said last decides about CPUs
            for known in list(driver.engine.nodes.values()):
                if any(pattern.matches(known) for pattern in patterns):
                    driver.handle(NodeTaken(computation.id, known.id))
            driver.handle(NodesWidened(computation.id))
            self._runtime.finder(computation.id).look(patterns)

        self._runtime.call(allocate)
        return 0

    def deallocate_node(self, node: DispyNode | str) -> int:
        """Assign no more jobs to a node until `allocate_node`; jobs there go on, and it stays prepared."""
        from dispy.engine.events import NodeRested

        return self._tell_engine(node, lambda ident: NodeRested(self._computation.id, ident))

    def close_node(self, node: DispyNode | str, terminate_pending: bool = False) -> int:
        """Let go of a node: its jobs end, or are ended with *terminate_pending*, then it cleans up. Does not wait.

        Jobs that are bound to it and have not started are cancelled. `allocate_node` takes it again.
        """
        return self._leave(node, terminate=terminate_pending, again=False)

    def resetup_node(self, node: DispyNode | str, terminate_pending: bool = False) -> int:
        """Let go of a node as `close_node` does, and prepare it again, with `setup`. Does not wait.

        `NodeAllocate.allocate` is asked again, so that it can choose other ``setup_args``; 0 loses the node for this
        cluster. Jobs that are bound to it wait.
        """
        return self._leave(node, terminate=terminate_pending, again=True)

    def set_node_cpus(self, node: DispyNode | str, cpus: int) -> int:
        """Use at most *cpus* CPUs of a node, or for a negative number all but that many; for all clusters.

        Jobs that run are not stopped.

        Returns:
            How many are used from now on: no more than the node has. A negative number that leaves none changes
            nothing. -1 if the node is not known, or *cpus* is no number.
        """
        from dispy.engine.events import NodeCpusLimited

        self._check_open()
        if not isinstance(cpus, int) or isinstance(cpus, bool):
            logger.warning("cpus of node %s must be a number, not %r", node, cpus)
            return -1

        def limit() -> int:
            found = self._find_known(node)
            if found is None:
                return -1
            wanted = min(cpus, found.cpus) if cpus >= 0 else found.cpus + cpus
            if cpus >= 0 or wanted > 0:
                # A number that covers all today means all, also when the node gets more.
                self._runtime.driver.handle(
                    NodeCpusLimited(found.id, None if wanted == found.cpus else wanted)
                )
            return found.usable_cpus

        return self._warn_unknown(node, self._runtime.call(limit))

    def node_jobs(self, node: DispyNode | str, from_node: bool = False) -> list[DispyJob] | int:
        """Return the jobs of this cluster that run at a node now.

        Args:
            node: which.
            from_node: makes no difference: nodes tell the scheduler when a job starts and ends, without being asked.

        Returns:
            What `submit` has returned for them; -1 if the node is not known.
        """
        from dispy.engine.records import JobState

        self._check_open()

        def find() -> list[DispyJob] | int:
            found = self._find_known(node)
            if found is None:
                return -1
            placement = self._computation.placements.get(found.id)
            jobs = [] if placement is None else placement.inflight.values()
            return [job.handle for job in jobs if job.state in (JobState.RUNNING, JobState.CANCELLING)]

        return self._warn_unknown(node, self._runtime.call(find))

    def wait_for_nodes(self, n: int = 1, timeout: float | None = None) -> bool:
        """Wait until *n* nodes are ready for jobs.

        Returns:
            False if *timeout* (seconds) passed first; ``explain()`` tells what is missing.

        Raises:
            UsageError: called where nothing may wait: in `NodeAllocate.allocate`, or in a plugin's hook.
            ClusterClosed: the cluster is closed.
        """
        self._check_open()
        check_may_wait("cluster.wait_for_nodes()")
        with self._lock:
            return self._lock.wait_for(lambda: len(self._nodes) >= n, timeout)

    def _leave(self, node: DispyNode | str, *, terminate: bool, again: bool) -> int:
        from dispy.engine.events import NodeLeft

        return self._tell_engine(
            node, lambda ident: NodeLeft(self._computation.id, ident, terminate=bool(terminate), again=again)
        )

    def _tell_engine(self, node: DispyNode | str, make_event: Callable[[NodeId], Event]) -> int:
        """Tell the engine about a node that this cluster has; 0, or -1 if it has not."""
        self._check_open()

        def tell() -> int:
            found = self._find_known(node)
            if found is None or found.id not in self._computation.placements:
                return -1
            self._runtime.driver.handle(make_event(found.id))
            return 0

        return self._warn_unknown(node, self._runtime.call(tell))

    def _find_known(self, node: DispyNode | str) -> Node | None:
        """Find a node of this process, this cluster's first; in the engine's thread."""
        nodes = [placement.node for placement in self._computation.placements.values()]
        nodes += self._runtime.driver.engine.nodes.values()
        if isinstance(node, DispyNode) and node._node_id is not None:
            return next((known for known in nodes if known.id == node._node_id), None)
        wanted = node.ip_addr if isinstance(node, DispyNode) else node
        return next((known for known in nodes if known.is_known_as(wanted)), None)

    def _parse(self, nodes: Any) -> list[NodePattern]:
        from dispy.nodes import parse_nodes

        if nodes is None or (isinstance(nodes, (list, tuple)) and not nodes):
            raise InvalidNodes("no node is named: give names, addresses or patterns, as in nodes=[...]")
        # A tuple is one node, as in a list of nodes; `JobCluster` takes it for a list.
        return parse_nodes([nodes] if isinstance(nodes, tuple) else nodes, self._node_port)

    def _warn_unknown(self, node: DispyNode | str, answer: Answer) -> Answer:
        if answer == -1:
            logger.warning("node %s is not known to this cluster", node)
        return answer
