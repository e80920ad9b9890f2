"""Which job goes to which node, and how far ahead.

Rules: jobs of a computation go out by priority, and those of the same in the order of their submission; before them
go those that are bound to the node in question, in the same order. A job that was sent is not overtaken any more. The
next job goes to the placement with the smallest load, which is jobs in flight by slots; so every free slot is
filled (load < 1) before anything is sent ahead. An allocator puts another rank in place of the load, see
`dispy.engine.ranking`. Where several computations want the same slots, `dispy.engine.turns` says who is next.

Theory of operation. Each computation keeps a heap of its placements by load, and that heap lives on from event
to event. Entries are numbered, and ``Placement.entry`` is the number of the one that is valid, 0 if none is; all
others are stale and fall out when they come to the top. Of equal loads the oldest entry is first. An event marks
the placements whose room may have changed (`Ledger.touch`); each of them gets a new entry, once, when the event is
done. So an event costs O(log placements) for each placement it touches and each job it assigns, whatever the number
of nodes. A placement that only jobs of other computations keep from getting more is not in that heap, but parked at its
node.

A job is sent ahead of a free slot to hide the time between a result and the next assignment. That pays for short
jobs only, and what is sent ahead goes elsewhere only by a detour (`dispy.engine.recalling`), so it is bounded in
time (`AHEAD_S`), in number (`AHEAD_MAX`) and in bytes (`BODY_BYTES_MAX`, `SPOOLED_BYTES_MAX`). Computations
that share a node share the window.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

from dispy.engine.capacity import busy_of, is_open
from dispy.engine.demanding import Demanding
from dispy.engine.effects import SendMessage, SendStream
from dispy.engine.ledger import Ledger
from dispy.engine.ranking import rank_of
from dispy.engine.ranks import forget_empty, lines_in_turn
from dispy.engine.records import Computation, Job, JobState, Node, Placement
from dispy.engine.sharing import crowds, numbers_of, send_data
from dispy.engine.tables import JOB_TABLE, JobStep
from dispy.engine.turns import Turns, following, is_crowded, room_beside
from dispy.model import INLINE_BODY_BYTES, SharedData
from dispy.wire.messages import AssignJobs, JobAssignment

AHEAD_S = 0.2
"""Seconds of work that may wait at a node for each slot: more than a round trip of a slow network and a turn at each
end take, and short enough that little is left to take back when other slots have nothing to do."""

AHEAD_MAX = 256
"""Jobs that may wait at a node for each slot: enough for 1 ms jobs."""

AHEAD_ONE_S = 2.0
"""One job waits for each slot if jobs take no longer than this: a round trip between two would be felt."""

LOOK_S = 0.05
"""Seconds between two looks at jobs that were sent ahead, as long as there are any; see `dispy.engine.recalling`."""

DEMANDED_LOOK_S = 0.5
"""The same if these are only at nodes that have jobs with demands."""

BODY_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of arguments in flight at a placement; beyond it only free slots are filled. Bounds what a node holds."""

SPOOLED_BYTES_MAX = 256 * 1024 * 1024
"""The same for arguments that travel on streams of their own: those the node holds on its disk, so that the next
ones can arrive while jobs run."""

BATCH_BYTES = 2 * 1024 * 1024
"""Inline bodies in one message: half of the largest frame, for a frame may carry other messages as well."""

ASSIGNMENT_BYTES = 96
"""What an assignment takes in a message besides its body; rather too much."""

NEED_BYTES = 9
"""What naming shared data takes there, at most."""

DEMAND_BYTES = 128
"""What a demand takes there, and each resource in it, at most."""

_ASSIGNED = JOB_TABLE[JobState.QUEUED][JobStep.ASSIGNED]


@dataclass(slots=True)
class _Batch:
    """What one placement gets by one event: messages, each with the streams that it announces."""

    computation: Computation
    jobs: list[JobAssignment] = field(default_factory=list)
    size: int = 0
    large: list[tuple[int, Job]] = field(default_factory=list)
    """Each job whose body goes on a stream of its own, with its place in `jobs`."""
    needs: dict[int, SharedData] = field(default_factory=dict)
    """Shared data that the node lacks."""


def window_of(slots: int, mean_s: float | None) -> int:
    """Tell how many jobs may be in flight at a placement."""
    if mean_s is None:
        return slots
    ahead = AHEAD_MAX if mean_s * AHEAD_MAX <= AHEAD_S else int(AHEAD_S / mean_s)
    if ahead == 0 and mean_s <= AHEAD_ONE_S:
        ahead = 1
    return slots * (1 + ahead)


def has_room(placement: Placement) -> bool:
    """Tell whether a job may be sent to *placement*."""
    if placement.node.demands:  # nothing is sent ahead where slots are kept for single jobs
        return busy_of(placement) < placement.slots and not placement.blocked and is_open(placement)
    return len(placement.inflight) < placement.window and not placement.blocked and is_open(placement)


def watch_ahead(ledger: Ledger, computation: Computation) -> None:
    """Have it looked soon whether jobs that were sent ahead wait while slots are free, if there are both."""
    if computation.free and computation.behind:
        key = ("recall", computation.id)
        if ledger.timers.due(key) is None:
            # Jobs with demands may take long, and what waits behind them, too.
            is_slow = all(placement.node.demands for placement in computation.behind)
            ledger.timers.set(key, ledger.now + (DEMANDED_LOOK_S if is_slow else LOOK_S))


def free_slots(placement: Placement) -> int:
    """Tell how many slots have nothing to do and may be given jobs."""
    free = placement.slots - busy_of(placement)
    return free if free > 0 and is_open(placement) else 0


class Placing:
    """Assigns queued jobs to placements."""

    def __init__(self, ledger: Ledger, turns: Turns) -> None:
        self._ledger = ledger
        self._turns = turns
        self._batches: dict[Placement, _Batch] = {}
        self._entries = 0
        self.demanding = Demanding(ledger, self._send_one)

    def dispatch(self) -> None:
        """Assign what can be assigned after this event; one message for each placement, more if it is large."""
        ledger = self._ledger
        demanding = [computation for computation in ledger.awake.values() if computation.demanding]
        if demanding:
            self.demanding.place(demanding)
        self._dispatch_plain()
        while demanding and self.demanding.place(demanding):  # as jobs before them are gone now
            self._dispatch_plain()
        if self._batches:
            for placement, batch in self._batches.items():
                self._flush(placement, batch)
            self._batches.clear()

    def _send_one(self, computation: Computation, placement: Placement, job: Job) -> bool:
        """Assign a job that has been taken out of its line; False if it is too large to wait there."""
        line = deque([job])
        self._fill(computation, placement, line, math.inf)
        return not line

    def _dispatch_plain(self) -> None:
        ledger = self._ledger
        for computation in ledger.requeued.values():
            self._turns.renew(computation)
        ledger.requeued.clear()
        contended: dict[Node, None] = {}
        for placement, computation in ledger.touched.items():
            if placement.node.parked:
                self._park(computation, placement)
                contended[placement.node] = None
                continue
            if placement.pinned and has_room(placement) and not is_crowded(placement):
                self._fill(computation, placement, placement.pinned, math.inf)
            self._offer(computation, placement)
        ledger.touched.clear()
        for node in contended:
            self._serve(node)
        if len(ledger.awake) == 1:
            for computation in ledger.awake.values():
                self._drain(computation, math.inf)
        else:
            self._drain_in_turn([one for one in ledger.awake.values() if one.queue or one.ranked])
        for computation in ledger.awake.values():
            if computation.ranked:
                forget_empty(computation)
            if computation.behind:
                watch_ahead(ledger, computation)
        ledger.awake.clear()

    def _offer(self, computation: Computation, placement: Placement) -> None:
        """Give the heap a valid entry for *placement* if it has room, and none if not; count what is free there."""
        if not has_room(placement) or is_crowded(placement):
            self._park(computation, placement)
            return
        placement.parked = 0
        self._count(computation, placement)
        if computation.allocator is None:
            load = busy_of(placement) / placement.slots
        else:
            load = rank_of(self._ledger, computation, busy_of(placement), placement.slots)
        if placement.entry and load == placement.load:
            return
        self._entries += 1
        placement.load = load
        placement.entry = self._entries
        heap = computation.heap
        heappush(heap, (load, placement.entry, placement))
        if len(heap) > 4 * len(computation.placements) + 16:
            heap[:] = [entry for entry in heap if entry[2].entry == entry[1]]  # in place: the caller holds it
            heapify(heap)

    def _park(self, computation: Computation, placement: Placement) -> None:
        """Take a placement out of the heap; if it has room but for other computations, let it wait for its turn."""
        placement.entry = 0
        if has_room(placement):
            self._turns.park(computation, placement)
        else:
            placement.parked = 0
        self._count(computation, placement)

    def _serve(self, node: Node) -> None:
        """Give the room at a node to those that are parked there, in turn."""
        parked, turns = node.parked, self._turns
        looks = True
        while parked:
            key, entry, computation, placement = parked[0]
            if placement.parked != entry:
                heappop(parked)
                continue
            if looks and has_room(placement) and is_crowded(placement):
                return
            turn = turns.key(computation, placement)
            if turn <= key or computation.ranked:  # it is given something, or a line of it may be empty now
                self._ledger.awake[computation.id] = computation
            looks = turn <= key  # nothing is given before, so that it need not be looked again
            if turn > key:
                heapreplace(parked, (turn, entry, computation, placement))
                continue
            heappop(parked)
            placement.parked = 0
            if has_room(placement) and self._give(computation, placement, following(node)):
                self._park(computation, placement)
            else:
                self._offer(computation, placement)

    def _give(self, computation: Computation, placement: Placement, following: float) -> bool:
        """Give a placement at an uncrowded node what its turn allows; tell whether that was anything."""
        before = len(placement.inflight)
        for line in (placement.pinned, *lines_in_turn(computation)):
            if line and len(placement.inflight) == before:
                most = self._turns.portion(line, following)
                self._fill(computation, placement, line, math.inf, most)
        if len(placement.inflight) == before:
            return False
        self._turns.serve(computation)
        return True

    def _drain_in_turn(self, waiting: list[Computation]) -> None:
        """Assign what several computations have waiting."""
        turns = self._turns
        keys = [(turns.key(computation), number) for number, computation in enumerate(waiting)]
        heapify(keys)
        while keys:
            _, number = heappop(keys)
            computation = waiting[number]
            if self._drain(computation, keys[0][0] if keys else math.inf):
                heappush(keys, (turns.key(computation), number))

    def _drain(self, computation: Computation, following: float) -> bool:
        """Assign jobs of a computation as long as there is room and it is its turn; tell whether more may go."""
        for line in lines_in_turn(computation):
            most = math.inf if following == math.inf else self._turns.portion(line, following)
            if line and self._drain_line(computation, line, most):
                self._turns.serve(computation)
                if following < math.inf:
                    return True
        return False

    def _count(self, computation: Computation, placement: Placement) -> None:
        free = 0 if placement.parked else free_slots(placement)
        if free != placement.free:
            computation.free += free - placement.free
            placement.free = free
        if busy_of(placement) > placement.slots:
            computation.behind[placement] = None
        else:
            computation.behind.pop(placement, None)

    def _drain_line(self, computation: Computation, queue: deque[Job], most: float = math.inf) -> int:
        """Assign at most *most* jobs of a line; tell how many."""
        heap = computation.heap
        given = 0
        while queue and heap and given < most:
            _, entry, placement = heappop(heap)
            if entry != placement.entry:
                continue
            placement.entry = 0
            if has_room(placement) and not is_crowded(placement):
                # The next entry may be stale; then its load is only a reason to look again too early.
                before = len(placement.inflight)
                self._fill(computation, placement, queue, heap[0][0] if heap else math.inf, most - given)
                given += len(placement.inflight) - before
            self._offer(computation, placement)
        return given

    def _fill(
        self,
        computation: Computation,
        placement: Placement,
        queue: deque[Job],
        limit: float,
        most_jobs: float = math.inf,
    ) -> None:
        """Assign jobs of *queue* until the placement is full or as loaded as *limit*; at least one if there is.

        There is room for one; it is given *most_jobs* at most.
        """
        ranked = computation.allocator is not None
        node, slots, inflight = placement.node, placement.slots, placement.inflight
        extra = busy_of(placement) - len(inflight)
        window: float = slots - extra if node.demands else placement.window
        window = min(window, len(inflight) + min(room_beside(placement), most_jobs))
        node.hosts[placement] = None
        batch = self._batches.get(placement)
        if batch is None:
            batch = self._batches[placement] = _Batch(computation)
        while queue:
            job = queue[0]
            if job.state is not JobState.QUEUED:
                queue.popleft()
                computation.dropped -= 1
                continue
            body = job.body
            size = len(body)
            most = BODY_BYTES_MAX if size <= INLINE_BODY_BYTES and not job.needs else SPOOLED_BYTES_MAX
            if len(inflight) >= slots and (
                placement.inflight_bytes + size > most or (job.needs and crowds(placement, job, most=most))
            ):
                placement.blocked = True
                return
            queue.popleft()
            job.state = _ASSIGNED
            job.attempt += 1
            job.last_news = 0
            job.node = node
            inflight[job.id] = job
            placement.inflight_bytes += size
            if size > INLINE_BODY_BYTES or not isinstance(body, bytes):
                batch.large.append((len(batch.jobs), job))
                batch.jobs.append(JobAssignment(job.id, job.attempt, b""))  # see `_flush`
                batch.size += ASSIGNMENT_BYTES
            else:
                batch.jobs.append(
                    JobAssignment(
                        job.id,
                        job.attempt,
                        body,
                        0,
                        0,
                        job.limits,
                        job.carries,
                        numbers_of(job.needs),
                        job.demand,
                    )
                )
                batch.size += size + ASSIGNMENT_BYTES
            if job.demand is not None:
                batch.size += DEMAND_BYTES * (1 + len(job.demand.resources))
            if job.needs:
                batch.size += len(job.needs) * NEED_BYTES
                batch.needs.update((data.id, data) for data in job.needs if data.id not in placement.data)
            if batch.size > BATCH_BYTES - INLINE_BODY_BYTES - ASSIGNMENT_BYTES:
                self._flush(placement, batch)
            count = len(inflight) + extra
            if count >= window:
                return
            rank = rank_of(self._ledger, computation, count, slots) if ranked else count / slots
            if rank >= limit:
                return

    def _flush(self, placement: Placement, batch: _Batch) -> None:
        """Send what is gathered, before the streams that it announces.

        Streams get their numbers here and not earlier: several placements of a node may be filled in turns, and what
        is sent first must have the lower number.
        """
        node = placement.node
        placement.moved_at = self._ledger.now
        if batch.jobs and node.link is not None:
            if batch.needs:
                send_data(self._ledger, batch.computation, placement, batch.needs.values())
            streams = []
            for index, job in batch.large:
                stream, size = node.next_stream, len(job.body)
                node.next_stream += 1
                batch.jobs[index] = JobAssignment(
                    job.id,
                    job.attempt,
                    b"",
                    stream,
                    size,
                    job.limits,
                    job.carries,
                    numbers_of(job.needs),
                    job.demand,
                )
                streams.append(SendStream(node.link, stream, job.body, size))
            self._ledger.effects.append(SendMessage(node.link, AssignJobs(batch.computation.id, batch.jobs)))
            self._ledger.effects.extend(streams)
        batch.jobs, batch.large, batch.size, batch.needs = [], [], 0, {}
