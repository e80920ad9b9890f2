"""What the application says about single nodes: rest, use again, leave, use only so many slots.

Rules: a *resting* placement stays open and gets no jobs; those that are bound to its node wait. A placement that is
left is closed at its node, which ends by itself what it has, or at once if the application wants that. It stays
*dismissed*, also when its node starts anew, until the application takes it again; jobs that are bound to it are
cancelled, as nobody knows whether that will be. One that is to be used again right away is closed in the same way
and not dismissed, so that `Opening.closed` asks the application about the node and opens the computation there anew,
with new arguments of `setup`; jobs that are bound to it wait.
"""

from __future__ import annotations

from dispy.engine.events import NodeCpusLimited, NodeLeft, NodeRested, NodeTaken
from dispy.engine.ledger import Ledger
from dispy.engine.opening import OPEN, Opening
from dispy.engine.records import Computation, JobState, Placement, PlacementState
from dispy.engine.tables import JobStep, PlacementStep, advance_job, advance_placement
from dispy.model import ComputationId, NodeId
from dispy.wire.messages import CloseComputation

LEFT_REASON = "the program has closed it for this cluster; cluster.allocate_node() takes it again"


class Managing:
    """Carries out what the application wants of single nodes. A node that is not known is no error: it may be gone."""

    def __init__(self, ledger: Ledger, opening: Opening) -> None:
        self._ledger = ledger
        self._opening = opening

    def rest(self, event: NodeRested) -> None:
        """Assign nothing more there."""
        computation, placement = self._find(event.computation, event.node)
        if computation is not None and placement is not None:
            placement.resting = True
            self._ledger.touch(computation, placement)

    def take(self, event: NodeTaken) -> None:
        """Use the node, if the application accepts it."""
        computation, placement = self._find(event.computation, event.node)
        if computation is None or computation.closing:
            return
        if placement is not None:
            placement.resting = placement.dismissed = False
            self._ledger.touch(computation, placement)
        node = self._ledger.nodes.get(event.node)
        if node is not None:
            self._opening.consider(computation, node)

    def leave(self, event: NodeLeft) -> None:
        """Close the computation at one node."""
        computation, placement = self._find(event.computation, event.node)
        if computation is None or placement is None or computation.closing:
            return
        if not event.again:
            placement.dismissed = True
            placement.reason = LEFT_REASON
            self._ledger.drop_pinned(computation, placement, LEFT_REASON)
        if placement.state in OPEN:
            advance_placement(placement, PlacementStep.CLOSE_REQUESTED)
            self._opening.tell_gone(computation, placement)
            self._ask_to_close(computation, placement, terminate=event.terminate)
        elif placement.state is PlacementState.CLOSING and event.terminate:
            self._ask_to_close(computation, placement, terminate=True)
        self._ledger.touch(computation, placement)

    def limit(self, event: NodeCpusLimited) -> None:
        """Use at most so many slots of a node; what runs beyond them goes on."""
        node = self._ledger.nodes.get(event.node)
        if node is not None:
            node.cpus_limit = event.cpus
            self._opening.consider_all(node)
            self._ledger.touch_node(node)

    def _ask_to_close(self, computation: Computation, placement: Placement, *, terminate: bool) -> None:
        if terminate:
            for job in placement.inflight.values():
                if job.state is not JobState.CANCELLING:
                    advance_job(job, JobStep.CANCEL_REQUESTED)
        if not placement.node.reconciling:  # else it is sent when the node has told what it has
            self._ledger.send(placement.node, CloseComputation(computation.id, terminate))

    def _find(self, computation: ComputationId, node: NodeId) -> tuple[Computation | None, Placement | None]:
        found = self._ledger.computations.get(computation)
        return found, None if found is None else found.placements.get(node)
