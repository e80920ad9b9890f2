"""What the scheduler remembers: jobs, computations, nodes, and one placement per computation and node."""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dispy.interfaces import Allocator
from dispy.model import (
    AttemptKey,
    Avail,
    ComputationId,
    FilePart,
    Isolation,
    JobId,
    LinkId,
    NodeId,
    Pieces,
    PythonVersion,
    SharedData,
    StartMethod,
)
from dispy.wire.messages import JobDemand, JobLimits
from dispy.wire.owner import UNKNOWN, Owner


class JobState(enum.Enum):
    """Where a job is. Its table stands in `dispy.engine.tables`."""

    QUEUED = "queued"
    """Waits at the scheduler for a slot."""
    ASSIGNED = "assigned"
    """Sent to a node, which has not said yet that it runs."""
    RUNNING = "running"
    CANCELLING = "cancelling"
    """The node is asked to end it; its result is still to come."""
    ABANDONED = "abandoned"
    """Its node is lost and it may not start again; a late result is still welcome."""
    SETTLED = "settled"
    """Ended for good; the engine has forgotten it."""


class Job:
    """One call of a computation. Made by the application, then owned by the engine.

    Attributes:
        id: number of the job within this client.
        computation: what it is a call of.
        body: pickled arguments, or the arguments of a program; opaque to the engine.
        pinned: the node that it must run on, or None.
        needs: shared data without which it must not run, each once; empty when it is settled.
        handle: the application's own object for this job; opaque to the engine.
        carries: name and size of the largest file that is only for this job, ("", 0) if it brings only code; or None.
        attempt: number of its latest start, 0 before the first.
        node: the node that has or had its latest attempt.
        started_at: start of the latest attempt by the node's clock, 0.0 if not started.
        last_news: number of the last intermediate result of the latest attempt.
        limits: what it may use, None if there are no limits.
        priority: of those that wait the highest goes first.
        demand: what it must have for itself at a node; None: one slot.
    """

    limits: JobLimits | None = None
    priority: int = 0
    demand: JobDemand | None = None
    # Not slots: thousands of jobs wait, and most have none. See `LimitedJob`.

    __slots__ = (
        "attempt",
        "body",
        "carries",
        "computation",
        "handle",
        "id",
        "last_news",
        "needs",
        "node",
        "pinned",
        "started_at",
        "state",
    )

    def __init__(
        self,
        job_id: JobId,
        computation: ComputationId,
        body: bytes | Pieces,
        *,
        pinned: NodeId | None = None,
        handle: Any = None,
        carries: tuple[str, int] | None = None,
        needs: tuple[SharedData, ...] = (),
    ) -> None:
        self.id = job_id
        self.computation = computation
        self.body = body
        self.pinned = pinned
        self.handle = handle
        self.carries = carries
        self.needs = needs
        self.state = JobState.QUEUED
        self.attempt = 0
        self.last_news = 0
        self.node: Node | None = None
        self.started_at = 0.0

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.state.value} attempt {self.attempt}>"


class LimitedJob(Job):
    """A job with limits, a priority or a demand."""

    __slots__ = ("demand", "limits", "priority")

    def __init__(
        self,
        job_id: JobId,
        computation: ComputationId,
        body: bytes | Pieces,
        limits: JobLimits | None,
        *,
        priority: int = 0,
        demand: JobDemand | None = None,
        pinned: NodeId | None = None,
        handle: Any = None,
        carries: tuple[str, int] | None = None,
        needs: tuple[SharedData, ...] = (),
    ) -> None:
        super().__init__(
            job_id, computation, body, pinned=pinned, handle=handle, carries=carries, needs=needs
        )
        self.limits = limits
        self.priority = priority
        self.demand = demand


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the client that a computation brings along."""

    source: str
    """Absolute path at the client."""
    path: str
    """Relative path at the node, with forward slashes."""
    size: int
    mode: int
    modified_at: float
    digest: bytes = b""
    """SHA-256 of the content; empty if nobody needs it."""

    @property
    def content(self) -> FilePart:
        """What is sent."""
        return FilePart(self.source, self.size, self.modified_at)


@dataclass(slots=True)
class DataUse:
    """Shared data that jobs have named and that is not dropped."""

    automatic: bool
    jobs: int = 0
    """Jobs that need it and are not forgotten."""


@dataclass(slots=True, eq=False)
class DemandLine:
    """Jobs of a computation with the same demand, bound to the same node or to none."""

    demand: JobDemand
    pinned: NodeId | None
    jobs: deque[Job] = field(default_factory=deque)
    open: dict[Placement, None] = field(default_factory=dict)
    """Placements that may be able to run the next of them."""
    later: dict[Placement, None] = field(default_factory=dict)
    """Those that could, but for other jobs with demands that are there."""
    unmet_since: float = math.inf
    """Since when no node that is used can ever meet the demand."""
    warned: bool = False


@dataclass(slots=True)
class Computation:
    """A function or program with what it needs, as the scheduler sees it.

    Attributes:
        accepts: asked once for each node: how many slots to use there, 0 to leave it alone. It must not block;
            if it raises, the node is refused and the user is told.
        code_for: the code to send to a node with that Python, or a text that says why there is none.
        files_for: all files for a node; None: `files`, at each.
        arguments_for: the arguments of `setup` and `cleanup` at a node, pickled; empty if there are none.
        setup_timeout_s: how long `setup` may take; 0.0 if there is neither `setup` nor `cleanup`.
        observed: the application wants to hear of every step, that a job runs also where the node has left that
            out, and of what nodes have free.
    """

    id: ComputationId
    name: str
    executor: str
    isolation: Isolation
    reentrant: bool
    accepts: Callable[[Node], int]
    code_for: Callable[[PythonVersion], bytes | str]
    files: Sequence[SourceFile] = ()
    observed: bool = False
    folder: str = ""
    """Folder of the client below which files of its jobs go; empty: they are refused."""
    handle: Any = None
    arguments_for: Callable[[Node], bytes] = lambda node: b""
    setup_timeout_s: float = 0.0
    files_for: Callable[[Node], Sequence[SourceFile]] | None = None
    dest_path: str = ""
    """Folder at nodes that it shares with other computations; empty: one of its own."""
    keep_files: bool = False
    """The folder stays when it is closed."""
    max_file_bytes: int = 0
    """Largest file that its jobs may send; 0: no limit."""
    live: bool = False
    """The application looks at output of its jobs while they run."""
    log_level: int = -1
    """Records of `logging` from this level on are wanted; -1: none."""
    start_method: StartMethod = StartMethod.FORK
    allocator: Allocator | None = None
    """Ranks nodes with free slots; None: the least loaded gets the next job. The engine drops one that fails."""
    # owned by the engine
    queue: deque[Job] = field(default_factory=deque)
    """Jobs of priority 0 that are bound to no node."""
    ranked: dict[int, deque[Job]] = field(default_factory=dict)
    """Priority -> jobs of it that are bound to no node; see `dispy.engine.ranks`."""
    demanding: dict[tuple[JobDemand, NodeId | None], DemandLine] = field(default_factory=dict)
    """Jobs with demands, also those that are bound to a node; see `dispy.engine.demanding`."""
    placements: dict[NodeId, Placement] = field(default_factory=dict)
    pending: int = 0
    """Jobs that are not settled; abandoned ones count as settled."""
    closing: bool = False
    terminate: bool = False
    """It is closed without waiting for its jobs."""
    heap: list[tuple[float, int, Placement]] = field(default_factory=list, repr=False)
    """(rank, number of the entry, placement), the best first; see `dispy.engine.placing`."""
    free: int = 0
    """Slots that have nothing to do, of all placements that take jobs."""
    behind: dict[Placement, None] = field(default_factory=dict, repr=False)
    """Placements with more jobs than slots; see `dispy.engine.recalling`."""
    number: int = 0
    """How many were added before it."""
    served: int = 0
    """Grows each time that it is given slots; see `dispy.engine.turns`."""
    dropped: int = 0
    """Jobs that have ended while they stood in a queue and are still to be taken out of it."""
    shared: dict[int, DataUse] = field(default_factory=dict)
    """Number of shared data -> its use."""
    idle: dict[int, SharedData] = field(default_factory=dict)
    """Automatic data that no job needs at present, the longest idle first; kept to be recognised."""
    released: set[int] = field(default_factory=set)
    """Data that the application has let go of."""


class NodeState(enum.Enum):
    """Whether a node can be reached. Its table stands in `dispy.engine.tables`."""

    CONNECTED = "connected"
    SILENT = "silent"
    """Its link is gone; what it has may still come back within the lease."""
    LOST = "lost"
    """The lease has run out, or it said that it ends, or it came back as a new epoch."""


@dataclass(slots=True, eq=False)
class Node:
    """A node daemon, as the scheduler sees it."""

    id: NodeId
    name: str
    epoch: int
    cpus: int
    python: PythonVersion
    platform: str
    version: str
    state: NodeState
    link: LinkId | None
    peer_host: str
    """Address that it was reached at, or came from."""
    addresses: set[str] = field(default_factory=set)
    """Every address that it is known by."""
    targets: set[tuple[str, int]] = field(default_factory=set)
    """(host, port) pairs, as the user wrote them, under which it was reached."""
    avail: Avail | None = None
    lease_ends_at: float = 0.0
    draining: bool = False
    refusal: str = ""
    """Why it is draining, in its own words."""
    reconciling: bool = False
    """It is asked what it has and has not answered: nothing is assigned until it does."""
    next_stream: int = 1
    bytes_sent: int = 0
    bytes_received: int = 0
    realms: set[str] = field(default_factory=set)
    """What it has proved to belong to; empty for a node that only this process can reach."""
    cpus_limit: int | None = None
    """The application uses at most so many of its slots; None: all."""
    owner: Owner = UNKNOWN
    """What it showed on its first link, and must show on each."""
    impostors: set[str] = field(default_factory=set)
    """Addresses from which others have greeted with its ident, so that the user is told once."""
    resources: dict[str, int] = field(default_factory=dict)
    """What it has besides slots: name -> how many items."""
    demands: dict[JobId, Job] = field(default_factory=dict)
    """Jobs with demands that are in flight there, of all computations."""
    hosts: dict[Placement, None] = field(default_factory=dict, repr=False)
    """All placements there that have jobs in flight, and perhaps others; see `dispy.engine.turns`."""
    parked: list[tuple[float, int, Computation, Placement]] = field(default_factory=list, repr=False)
    """(turn, number of the entry, computation, placement), the next one first."""

    @property
    def usable_cpus(self) -> int:
        """How many of its slots may be used by all computations together."""
        return self.cpus if self.cpus_limit is None else min(self.cpus, self.cpus_limit)

    def is_known_as(self, name: str) -> bool:
        """Tell whether people call it so: by its name, or by an address that it has or was reached under."""
        return (
            name in (self.name, self.id, self.peer_host)
            or name in self.addresses
            or any(name == host for host, _ in self.targets)
        )


class PlacementState(enum.Enum):
    """State of one computation at one node. Its table stands in `dispy.engine.tables`."""

    PREPARING = "preparing"
    """OpenComputation is sent."""
    READY = "ready"
    CLOSING = "closing"
    """CloseComputation is sent."""
    CLOSED = "closed"
    FAILED = "failed"
    """The node cannot run it; ``reason`` says why."""


@dataclass(slots=True, eq=False)
class Placement:
    """One computation at one node.

    Attributes:
        slots: how many jobs may run there at once.
        inflight: jobs sent there and not ended, by job number.
        mean_s: smoothed run time of a job there in seconds, or None before the first result.
        abandoned: jobs whose attempt there was lost and may still give a result, by job number.
        window: how many jobs may be in flight.
        load: rank of its valid entry in the computation's heap.
        entry: number of that entry, 0 if it has none.
        free: its share of `Computation.free`.
        parked: number of its valid entry in the heap of its node, 0 if it has none.
        paused: the node has rejected jobs lately.
        blocked: the next job was too large to be sent ahead; until one that is there has ended.
        opened_with: how many slots its node was told to use at most when it was opened there, 0 for all.
        told: the same, as it was told last.
        initialized: the application was told that the node is usable, and not yet that it is lost.
        resting: the application wants no more jobs there for now.
        dismissed: the application does not want to use the node any more.
        moved_at: when jobs were sent there, or ended there, last; by the engine's clock.
        recalling: attempts that it was asked to give back; some may have ended since.
        waiting: demand -> the job with it that was sent there last, its attempt, and when that was.
        shunned_at: when a job with a demand was taken back that had waited there for too long.
        data: shared data that was sent there since it was opened and has not been lost there.
        coming: streams with files that were sent there since it was opened -> sizes of these files in bytes.
    """

    node: Node
    state: PlacementState
    slots: int
    inflight: dict[int, Job] = field(default_factory=dict)
    inflight_bytes: int = 0
    pinned: deque[Job] = field(default_factory=deque)
    mean_s: float | None = None
    reason: str = ""
    jobs_done: int = 0
    cpu_time_s: float = 0.0
    abandoned: dict[int, Job] = field(default_factory=dict)
    window: int = 0
    load: float = 0.0
    entry: int = 0
    free: int = 0
    parked: int = 0
    paused: bool = False
    blocked: bool = False
    opened_with: int = 0
    told: int = 0
    initialized: bool = False
    files: Sequence[SourceFile] = ()
    """What was offered when it was opened last, but for what the node has asked for since."""
    resting: bool = False
    dismissed: bool = False
    moved_at: float = 0.0
    recalling: set[AttemptKey] = field(default_factory=set)
    data: set[int] = field(default_factory=set)
    coming: dict[int, int] = field(default_factory=dict)
    waiting: dict[JobDemand, tuple[Job, int, float]] = field(default_factory=dict)
    shunned_at: float = -math.inf
    restarts: int = 0
    """How often its runner has died and it was opened again."""

    @property
    def is_usable(self) -> bool:
        """True if jobs can be sent there, now or when the node can be reached again."""
        return self.state is PlacementState.READY
