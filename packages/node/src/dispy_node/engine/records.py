"""What a node remembers: clients, computations, attempts."""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass, field

from dispy.model import AttemptKey, ClientId, ComputationId, LinkId
from dispy.wire.messages import (
    FileOffer,
    Hello,
    JobDemand,
    JobLimits,
    JobResult,
    News,
    OpenComputation,
    SendFile,
)
from dispy.wire.owner import UNKNOWN, Owner


@dataclass(frozen=True, slots=True)
class Spooled:
    """A body in a file of the spool folder, owned by whoever holds this value."""

    path: str
    size: int


Body = bytes | Spooled


@dataclass(frozen=True, slots=True)
class PartKey:
    """What a part of a file is the beginning of, and whose it is.

    Attributes:
        owner: what the client has shown; another one that says its ident shows something else.
        digest: SHA-256 of the whole file.
        size: bytes of the whole file.
    """

    client: ClientId
    owner: Owner
    digest: bytes
    size: int


class AttemptState(enum.Enum):
    """Where an attempt is. Its table stands in `dispy_node.engine.tables`."""

    RECEIVING = "receiving"
    """Its body is still arriving on a stream."""
    WAITING = "waiting"
    """Its body is here; the computation's runner is not ready yet, or what it needs is not there, or not free."""
    QUEUED = "queued"
    """Handed to the runner, not started."""
    RUNNING = "running"
    ENDED = "ended"
    """Its result is kept until the scheduler acknowledges it."""
    GONE = "gone"
    """Forgotten; nothing refers to it any more."""


@dataclass(slots=True, eq=False)
class KeptNews:
    """What an attempt has told, until the scheduler has it."""

    news: News
    spooled: Spooled | None
    """Where its large body is; the news itself then has none."""
    waits: bool
    """The job waits for an answer."""
    sent: bool = False
    """It was told on the present link."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What an attempt has for itself, from when it is handed to the runner until it has ended."""

    cpus: int
    alone: bool = False
    """Nothing else runs at the node."""
    items: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """(name of a resource, its items), by name."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One start of a job on this node."""

    key: AttemptKey
    state: AttemptState
    stream: int = 0
    """Stream of its body while RECEIVING."""
    body: Body | None = None
    """Set while WAITING; from then on it is the runner's."""
    carries: bool = False
    """Files or code for it alone are in its body."""
    needs: tuple[int, ...] = ()
    """Shared data without which it must not run, each once."""
    lacks: int = 0
    """How much of that is not here, until it is handed over."""
    started_at: float = 0.0
    """When it started, by the node's clock."""
    seen_at: float = 0.0
    """When it started, by the engine's time."""
    cancelled: bool = False
    """The scheduler asked for its end."""
    withdrawn: bool = False
    """The node asked for its end, `why` it did."""
    recalled: bool = False
    """The scheduler, or the node, wants it back if it has not started."""
    why: str = ""
    """Why it was withdrawn or recalled."""
    unwanted: bool = False
    """The scheduler does not believe in it (any more): its result is dropped when it comes."""
    result: JobResult | None = None
    """Set when ENDED; ``body`` is empty if `spooled` holds it."""
    spooled: Spooled | None = None
    news: dict[int, KeptNews] = field(default_factory=dict)
    """What it has told and the scheduler does not have, by its number, in order; files only while RUNNING."""
    untold: deque[KeptNews] | None = None
    """Those of its news that are not sent on the present link, in order; None, which takes less, if there are none."""
    streaming: bool = False
    """The last of its news that was sent is on a stream, and not acknowledged."""
    last_news: int = 0
    """Highest number of what it has told."""
    limits: JobLimits | None = None
    """What it may use; the runner's, too, when it has been handed over."""
    cost: int = 0
    """What is counted for it; see `dispy_node.engine.holding`."""
    log_bytes: int = 0
    """What the records of logging among its news count; see `dispy_node.engine.news`."""
    logs_missed: int = 0
    """Records that were dropped since the last that is kept."""
    demand: JobDemand | None = None
    """What it must have besides one slot; see `dispy_node.engine.gathering`."""
    grant: Grant | None = None
    """That, while it is QUEUED or RUNNING."""


CODE = ""
"""Stands for the code where other streams have the path of a file."""
SETUP_ARGS = "\0"
"""Stands for the arguments of `setup` there."""


class ComputationState(enum.Enum):
    """Where a computation is on this node. Its table stands in `dispy_node.engine.tables`."""

    RECEIVING = "receiving"
    """Code and files are arriving."""
    PREPARING = "preparing"
    """The runner starts and loads it."""
    READY = "ready"
    CLOSING = "closing"
    """No more jobs; waits for the runner to end."""
    GONE = "gone"
    """Forgotten; unacknowledged results have moved to the client's leftovers."""


@dataclass(slots=True, eq=False)
class HostedComputation:
    """A computation of a client on this node.

    Attributes:
        slots: how many jobs the runner is allowed to run at once.
        held: how many it may be running: `slots`, or more until it has confirmed that they are given up.
        wanted: how many it could use when slots were shared out last; see `dispy_node.engine.slots`.
        idle_since: since when it has had fewer active attempts than slots, infinite if it has not.
        turn: rank when there are fewer slots than computations that want one; the lowest comes first.
    """

    id: ComputationId
    client: ClientId
    offer: OpenComputation
    state: ComputationState
    code: Body = b""
    setup_args: Body = b""
    files: dict[str, Spooled] = field(default_factory=dict)
    """Relative path -> where its content waits to be placed."""
    awaited: dict[int, str] = field(default_factory=dict)
    """Stream -> relative path of the file on it, or `CODE` or `SETUP_ARGS`."""
    looking: bool = False
    """It is not known yet which of the files that were offered without a stream are there."""
    wanted_files: dict[str, FileOffer] = field(default_factory=dict)
    """Path -> offer of a file that was asked for and is not announced yet."""
    parts: dict[str, Spooled] = field(default_factory=dict)
    """Path of such a file -> its beginning, which is there already."""
    found: dict[str, str] = field(default_factory=dict)
    """Path of a file that does not come -> path where its content is, in the folder that it shares."""
    attempts: dict[AttemptKey, Attempt] = field(default_factory=dict)
    data: set[int] = field(default_factory=set)
    """Shared data that its runner has."""
    arriving: dict[int, int] = field(default_factory=dict)
    """Shared data that is arriving -> its stream."""
    waiting: dict[int, dict[AttemptKey, Attempt]] = field(default_factory=dict)
    """Shared data, here or arriving -> attempts that need it and are not at the runner."""
    active: int = 0
    """Attempts that are QUEUED or RUNNING."""
    pending: int = 0
    """Attempts that are RECEIVING or WAITING."""
    apart: int = 0
    """Those of the active ones that have a grant, and so need none of `slots`."""
    apart_cpus: int = 0
    """Slots that these have."""
    slots: int = 0
    held: int = 0
    wanted: int = 0
    idle_since: float = math.inf
    turn: int = 0
    finishing: bool = False
    """No more jobs are taken; it closes when those that it has are done."""
    terminate: bool = False
    """Its attempts are being ended because it closes."""
    told: bool = True
    """The scheduler wants to hear of its end."""
    cost: int = 0
    """What is counted for it, without its attempts; see `dispy_node.engine.holding`."""

    @property
    def plain(self) -> int:
        """How many attempts at the runner need a slot of the computation."""
        return self.active - self.apart

    def has(self, needs: tuple[int, ...]) -> bool:
        """Tell whether all this shared data is here."""
        return not needs or self.data.issuperset(needs)


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A link of a client that has another one; it waits until the client shows which of them it keeps."""

    client: ClientId
    hello: Hello
    told_cpus: int | None
    owner: Owner
    told_refusal: str


@dataclass(slots=True, eq=False)
class Client:
    """A scheduler that uses this node; it outlives its links by the lease."""

    id: ClientId
    name: str
    link: LinkId | None
    owner: Owner = UNKNOWN
    """What it showed on its first link, and must show on each as long as anything of it is here."""
    lease_ends_at: float = 0.0
    computations: set[ComputationId] = field(default_factory=set)
    sharing: dict[int, tuple[HostedComputation, int]] = field(default_factory=dict)
    """Stream from the client -> the shared data of a computation that comes on it."""
    next_stream: int = 1
    """Number of the next stream to the client, on the present link."""
    last_stream: int = 0
    """Highest number of a stream that the client has announced on the present link."""
    streams: int = 0
    """How many it has announced there that have not ended, those that are thrown away included."""
    awaited: dict[int, tuple[HostedComputation, Attempt | None]] = field(default_factory=dict)
    """Stream from the client -> what it brings: the body of an attempt, or (None) a part of the computation."""
    files: dict[int, tuple[HostedComputation, SendFile]] = field(default_factory=dict)
    """Stream from the client -> the file for a computation that runs which comes on it."""
    reconciled: bool = True
    """Results may be sent: they wait for Reconcile when a client has come back, as it says which are wanted."""
    asked: bool = False
    """It has sent Reconcile on the present link."""
    looks: int = 0
    """At how many attempts was looked as it has sent that again."""
    data: int = 0
    """How much shared data is kept for it, or arrives."""
    held: int = 0
    """Bytes that are held in memory for it; see `dispy_node.engine.holding`."""
    choked: bool = False
    """It holds too much, so its jobs are not started."""
    lapsed: bool = False
    """Its lease has run out: nothing new is started for it."""
    forget_at: float = math.inf
    """When its leftovers are dropped."""
    turn: int = 0
    """As that of a computation, among clients."""
    leftovers: dict[ComputationId, dict[AttemptKey, Attempt]] = field(default_factory=dict)
    """Unacknowledged results of computations that are gone."""
    searched: dict[HostedComputation, None] = field(default_factory=dict)
    """Computations that are gone while it is still looked which of their files are there."""
