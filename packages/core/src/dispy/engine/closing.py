"""Computations are closed, in bounded time.

Rules: closing sends CloseComputation to every node that has the computation. With *terminate* whatever is queued is
cancelled at once, whatever is at a node is asked to end, and what cannot be asked (its node is silent) is given
up. A job that has not ended `TERMINATE_S` later is given up too. The application is told that the computation
is closed when every node that can be reached has said so, or `CLOSE_S` later; nothing of it is remembered then, and
a node that comes back with it learns that nobody believes in it any more.
"""

from __future__ import annotations

from dispy.engine.effects import TellClosed
from dispy.engine.ledger import CLOSED_REASON, Ledger, describe_node
from dispy.engine.opening import Opening
from dispy.engine.ranks import lines_of
from dispy.engine.records import Computation, Job, JobState, Node, NodeState, Placement, PlacementState
from dispy.engine.tables import JobStep, PlacementStep, advance_job, advance_placement
from dispy.model import ComputationId, JobStatus
from dispy.wire.messages import CloseComputation, ComputationClosed

TERMINATE_S = 8.0
"""Seconds that a job has to end: a node kills 5 s after the first signal, the rest is for its way back."""

CLOSE_S = 10.0
"""Seconds that nodes have to close a computation: cleaning up goes on there, but nobody waits for it."""

_OPEN = (PlacementState.PREPARING, PlacementState.READY, PlacementState.CLOSING)


class Closing:
    """Closes computations."""

    def __init__(self, ledger: Ledger, opening: Opening) -> None:
        self._ledger = ledger
        self._opening = opening
        self._closing: dict[ComputationId, Computation] = {}
        self._overdue: set[ComputationId] = set()
        self._closed: list[Computation] = []

    def close(self, computation: Computation, now: float, *, terminate: bool) -> None:
        """Begin to close; once more with *terminate* makes it harder."""
        if computation.closing and (computation.terminate or not terminate):
            return
        ledger = self._ledger
        if not computation.closing:
            ledger.timers.set(("close", computation.id), now + CLOSE_S)
        computation.closing = True
        computation.terminate = terminate
        self._closing[computation.id] = computation
        for job in [job for queue in lines_of(computation) for job in queue if job.state is JobState.QUEUED]:
            ledger.settle(computation, job, JobStep.GIVEN_UP, JobStatus.CANCELLED, reason=CLOSED_REASON)
        ledger.sweep(computation)
        for placement in computation.placements.values():
            if terminate:
                for job in placement.inflight.values():
                    advance_job(job, JobStep.CANCEL_REQUESTED)
            if placement.state in _OPEN:
                advance_placement(placement, PlacementStep.CLOSE_REQUESTED)
                ledger.touch(computation, placement)
                if not placement.node.reconciling:  # else it is sent when the node has told what it has
                    ledger.send(placement.node, CloseComputation(computation.id, terminate))
        if terminate:
            ledger.timers.set(("terminate", computation.id), now + TERMINATE_S)
            self.give_up_unreachable()

    def give_up_unreachable(self) -> None:
        """Settle jobs of terminated computations at nodes that are silent: they would outlast the close."""
        for computation in self._closing.values():
            if computation.terminate:
                for placement in computation.placements.values():
                    if placement.node.state is not NodeState.CONNECTED:
                        self._give_up(computation, placement)

    def terminate_over(self, computation: Computation) -> None:
        """Wait no longer for jobs."""
        for placement in computation.placements.values():
            self._give_up(computation, placement)

    def close_over(self, computation: Computation) -> None:
        """Wait no longer for nodes."""
        self.terminate_over(computation)
        self._overdue.add(computation.id)

    def _give_up(self, computation: Computation, placement: Placement) -> None:
        jobs: list[Job] = list(placement.inflight.values())
        for job in jobs:
            self._ledger.release(computation, placement, job)
            reason = f"{CLOSED_REASON}, and {describe_node(placement.node)} has not told how the job ended"
            self._ledger.settle(computation, job, JobStep.GIVEN_UP, JobStatus.TERMINATED, reason=reason)

    def computation_closed(self, node: Node, message: ComputationClosed) -> None:
        """Take in that a node has got rid of a computation."""
        computation = self._ledger.computations.get(ComputationId(message.computation))
        placement = None if computation is None else computation.placements.get(node.id)
        if computation is None or placement is None:
            self._ledger.counters.stray_messages += 1
        elif placement.state is PlacementState.CLOSING:
            if message.problem:
                self._ledger.report(f"{describe_node(node)}: {message.problem}", computation.id)
            advance_placement(placement, PlacementStep.CLOSED)
            self._opening.closed(computation, placement)
        elif placement.state in _OPEN:
            self._opening.fail(computation, placement, "the node has closed it without being asked to")
        else:
            self._ledger.counters.stray_messages += 1

    def finish(self) -> None:
        """Tell the application of computations that are closed by now."""
        for computation in list(self._closing.values()):
            overdue = computation.id in self._overdue
            if overdue or (not computation.pending and all(map(_is_done, computation.placements.values()))):
                del self._closing[computation.id]
                self._overdue.discard(computation.id)
                self._closed.append(computation)
                self._ledger.effects.append(TellClosed(computation))

    def forget_closed(self) -> None:
        """Forget computations that the application was told to be closed, as it has been told by now."""
        ledger = self._ledger
        for computation in self._closed:
            for placement in computation.placements.values():
                ledger.forget_abandoned(placement)
                ledger.timers.clear(("pause", computation.id, placement.node.id))
            ledger.timers.clear(("terminate", computation.id))
            ledger.timers.clear(("recall", computation.id))
            ledger.timers.clear(("demand", computation.id))
            ledger.timers.clear(("close", computation.id))
            ledger.forget_reports(computation.id)
            computation.shared.clear()
            computation.idle.clear()
            del ledger.computations[computation.id]
        self._closed.clear()


def _is_done(placement: Placement) -> bool:
    return placement.state not in _OPEN or placement.node.state is not NodeState.CONNECTED
