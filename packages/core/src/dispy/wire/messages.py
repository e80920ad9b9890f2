"""The messages of the protocol: values without behaviour.

Every message is a msgspec struct that travels as a msgpack array whose first element is its tag. A decoder
ignores elements that it does not know (a newer peer's additions go to the end and have defaults) and refuses
tags that it does not know. `docs/protocol.md` tells when each is sent.

*Body* of a job or result is opaque here: only job processes and clients look inside. It is either in ``body``,
or, when it is larger than `dispy.model.INLINE_BODY_BYTES`, on the stream numbered ``stream`` (> 0) with
``size`` bytes; then ``body`` is empty.
"""

from __future__ import annotations

import msgspec

from dispy.model import AttemptKey

PROTOCOL_VERSION = 1
"""Version of the messages below. A peer speaks its own version and the one before."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """First message in each direction: who is there and what it can do."""

    protocol_min: int
    protocol_max: int
    role: str
    ident: str
    """NodeId or ClientId of the sender."""
    epoch: int
    """How often the participant with this ident has started, from 1."""
    name: str
    version: str
    """Version of the dispy distributions."""
    python: str
    platform: str
    max_frame_bytes: int
    heartbeat_s: float
    """The sender writes at least this often; the peer takes three times this long for lost."""
    cpus: int = 0
    """Slots of a node; 0 for a client."""
    addresses: list[str] = []
    avail: tuple[float, int, int, float] | None = None
    """CPU percent, memory bytes, disk bytes, swap percent that are free at a node."""
    proof: bytes = b""
    """Shows that ``ident`` is the sender's: the same on each of its links to the receiver; see `dispy.wire.owner`."""
    refusal: str = ""
    """Why a node takes no jobs at present; empty if it does."""
    resources: dict[str, int] = {}
    """Resources of a node besides its slots: name -> how many items of it jobs may have."""


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="beat"):
    """Nothing to say, but alive."""


class Goodbye(msgspec.Struct, frozen=True, array_like=True, tag="bye"):
    """Last message of a link: the sender closes it, for this reason."""

    reason: str
    final: bool = False
    """True: the sender itself ends, and what it had is gone; do not wait for its return."""


class StreamEnded(msgspec.Struct, frozen=True, array_like=True, tag="s-end"):
    """All chunks of a stream are sent; with a reason: it broke off, and what arrived is worthless."""

    stream: int
    reason: str = ""


class StreamCredit(msgspec.Struct, frozen=True, array_like=True, tag="s-credit"):
    """The receiver of a stream has used up this many bytes and takes as many more."""

    stream: int
    size: int


class FileOffer(msgspec.Struct, frozen=True, array_like=True):
    """A file that a computation brings along, to be placed at ``path`` below its folder.

    Two with the same ``digest`` may share a stream. Without a stream the file comes only if the node wants it.
    """

    path: str
    size: int
    mode: int
    modified_at: float
    stream: int
    digest: bytes = b""
    """SHA-256 of the content, or empty."""
    skip: int = 0
    """So many bytes at the beginning are there already, and do not come on the stream."""


class OpenComputation(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """Scheduler to node: prepare this computation. Answered by ComputationReady or ComputationFailed."""

    computation: str
    name: str
    executor: str
    """Name of the executor plugin that runs its jobs: "function" or "program"."""
    isolation: str
    code: bytes
    """Opaque bundle for the runner, or the program's file name as UTF-8; if there is `setup` or `cleanup` for a
    program, then NUL and the bundle with these follow."""
    code_stream: int = 0
    code_size: int = 0
    files: list[FileOffer] = []
    cpus: int = 0
    """Use at most this many slots; 0 means all."""
    setup_timeout_s: float = 0.0
    """So long may `setup` take; 0: the code has neither `setup` nor `cleanup`."""
    setup_args: bytes = b""
    """Opaque: arguments for both at this node; empty if there are none, or if they are on a stream."""
    setup_stream: int = 0
    setup_size: int = 0
    live: bool = False
    """The output of its jobs is looked at while they run: programs should not hold it back."""
    log_level: int = -1
    """Records of `logging` from this level on are told as news; -1: none."""
    dest_path: str = ""
    """Folder that the client's computations share, a relative path; empty: one of its own."""
    keep_files: bool = False
    """Let the folder stay when the computation is closed."""
    start_method: str = "fork"
    """How processes of jobs are started: "fork", where the node can, or "spawn"."""


class ComputationReady(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """Node to scheduler: jobs of this computation may be assigned."""

    computation: str


class ComputationFailed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """Node to scheduler: the computation cannot be used here (any more), for this reason."""

    computation: str
    reason: str


class CloseComputation(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """Scheduler to node: no more jobs. Answered by ComputationClosed when the last job has ended."""

    computation: str
    terminate: bool = False
    """True: end jobs that still run."""


class ComputationClosed(msgspec.Struct, frozen=True, array_like=True, tag="closed"):
    """Node to scheduler: runner and folder of the computation are gone."""

    computation: str
    problem: str = ""
    """What has gone wrong in `cleanup`; empty if nothing has."""


class JobLimits(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a job may use at most, with all processes below it; 0 is no limit."""

    timeout_s: float = 0.0
    """From its start."""
    cpu_time_s: float = 0.0
    memory_bytes: int = 0
    processes: int = 0


class JobDemand(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a job must have, all of it for itself, from its start to its end."""

    cpus: int = 1
    """Slots of the node."""
    exclusive: bool = False
    """Nothing else runs at the node meanwhile; ``cpus`` is the least that the node must have."""
    resources: tuple[tuple[str, int], ...] = ()
    """(name, how many items of it), by name, each once."""


class JobAssignment(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One job for a node; see the module about bodies."""

    job: int
    attempt: int
    body: bytes
    stream: int = 0
    size: int = 0
    limits: JobLimits | None = None
    carries: tuple[str, int] | None = None
    """Set if files or code for this job only come in its body: name and size of the largest file, or "" and 0."""
    needs: tuple[int, ...] = ()
    """Shared data without which it must not run; each was announced by ShareData before."""
    demand: JobDemand | None = None
    """None: one slot."""


class AssignJobs(msgspec.Struct, frozen=True, array_like=True, tag="assign"):
    """Scheduler to node: run these jobs of a computation, in this order."""

    computation: str
    jobs: list[JobAssignment]


class CancelJobs(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Scheduler to node: end these attempts; each still gets a JobResult."""

    computation: str
    attempts: list[AttemptKey]


class JobStart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An attempt that has begun; the time is the node's clock, seconds since the epoch."""

    job: int
    attempt: int
    started_at: float


class JobsStarted(msgspec.Struct, frozen=True, array_like=True, tag="started"):
    """Node to scheduler: these attempts run. It may be left out for one whose result follows at once."""

    computation: str
    starts: list[JobStart]


class JobResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How an attempt ended. Times are the node's clock; both are 0.0 if it never started."""

    job: int
    attempt: int
    outcome: int
    """A `dispy.model.Outcome`."""
    code: int
    detail: str
    started_at: float
    ended_at: float
    body: bytes
    stream: int = 0
    size: int = 0


class JobResults(msgspec.Struct, frozen=True, array_like=True, tag="results"):
    """Node to scheduler: results, kept at the node until acknowledged."""

    computation: str
    results: list[JobResult]


class AckResults(msgspec.Struct, frozen=True, array_like=True, tag="ack"):
    """Scheduler to node: these results have arrived (or are not wanted); forget them."""

    computation: str
    attempts: list[AttemptKey]


class JobsRejected(msgspec.Struct, frozen=True, array_like=True, tag="reject"):
    """Node to scheduler: these attempts were not started and never will be, for this reason."""

    computation: str
    attempts: list[AttemptKey]
    reason: str


class Belief(msgspec.Struct, frozen=True, array_like=True):
    """The attempts of one computation that the scheduler believes a node to have."""

    computation: str
    attempts: list[AttemptKey]


class Reconcile(msgspec.Struct, frozen=True, array_like=True, tag="reconcile"):
    """Scheduler to node, first message of each link: all that the scheduler believes to be there.

    The node answers with Reconciled, then tells again what runs (JobsStarted) and what is finished and not
    acknowledged (JobResults); it ends and forgets whatever the scheduler no longer believes in.
    """

    beliefs: list[Belief]


class Finding(msgspec.Struct, frozen=True, array_like=True):
    """What a node really has of one computation."""

    computation: str
    state: str
    """"unknown", "preparing", "ready" or "closing"."""
    missing: list[AttemptKey]
    """Attempts that the scheduler named and the node does not have."""
    data: list[int] = []
    """Shared data of the computation that the node has whole."""


class Reconciled(msgspec.Struct, frozen=True, array_like=True, tag="reconciled"):
    """Node to scheduler: answer to Reconcile, one finding for each belief."""

    findings: list[Finding]


class NodeChanged(msgspec.Struct, frozen=True, array_like=True, tag="node"):
    """Node to scheduler: its number of slots or what it has free has changed."""

    cpus: int
    avail: tuple[float, int, int, float] | None = None
    draining: bool = False
    """True: the node takes no jobs; it is about to end, or says so again when it does."""
    reason: str = ""
    """Why it is draining."""


PARTIAL = 0
"""Kind of news: an intermediate result; its body is that of a result's value."""

FILE = 1
"""Kind of news: a file, which always travels on a stream."""

LOG = 2
"""Kind of news: a record of `logging`, as JSON; see `dispy.logs`."""


class News(msgspec.Struct, frozen=True, array_like=True):
    """What an attempt tells while it runs.

    What follows ``size`` is about files only: a relative path with forward slashes, permissions, time of
    modification, and the SHA-256 of the content.
    """

    job: int
    attempt: int
    number: int
    """Rises within the attempt."""
    kind: int
    body: bytes
    stream: int = 0
    size: int = 0
    path: str = ""
    mode: int = 0
    modified_at: float = 0.0
    digest: bytes = b""


class JobNews(msgspec.Struct, frozen=True, array_like=True, tag="news"):
    """Node to scheduler: what attempts tell, kept at the node until acknowledged by AckNews."""

    computation: str
    news: list[News]


class NewsAck(msgspec.Struct, frozen=True, array_like=True):
    """A piece of news that has arrived; with ``taken`` false it was of no use, such as a file that is refused."""

    job: int
    attempt: int
    number: int
    taken: bool


class AckNews(msgspec.Struct, frozen=True, array_like=True, tag="ack-news"):
    """Scheduler to node: this has arrived; forget it."""

    computation: str
    acks: list[NewsAck]


class SendFile(msgspec.Struct, frozen=True, array_like=True, tag="file"):
    """Scheduler to node: put this file into the folder of a computation that is ready. Answered by FileTaken."""

    computation: str
    number: int
    """Names the transfer in the answer."""
    file: FileOffer


class FileTaken(msgspec.Struct, frozen=True, array_like=True, tag="file-taken"):
    """Node to scheduler: a file has its place; or, with a reason, it has not."""

    computation: str
    number: int
    reason: str = ""


class LimitSlots(msgspec.Struct, frozen=True, array_like=True, tag="slots"):
    """Scheduler to node: from now on use at most so many slots for a computation. It has no answer."""

    computation: str
    cpus: int
    """0 means all; jobs that run beyond them go on."""


STDOUT = 1
"""Streams of a job, numbered as its descriptors."""

STDERR = 2


class WatchOutput(msgspec.Struct, frozen=True, array_like=True, tag="watch"):
    """Scheduler to node: send output of an attempt that runs, as it comes, in JobOutput; or send more, or no more."""

    computation: str
    job: int
    attempt: int
    number: int
    """Names the watch."""
    stream: int
    start: int
    """Begin with this byte, or begin there again; -1: go on."""
    limit: int
    """Send nothing from this byte on until another limit comes; -1: end the watch."""


class JobOutput(msgspec.Struct, frozen=True, array_like=True, tag="output"):
    """Node to scheduler: what an attempt has printed. Not kept, not acknowledged; all output is in the result, too."""

    computation: str
    job: int
    attempt: int
    number: int
    """Of the watch."""
    offset: int
    """Place in the stream of the first byte in ``data``."""
    missed: int
    """So many bytes before that were dropped."""
    data: bytes


class FilesWanted(msgspec.Struct, frozen=True, array_like=True, tag="want"):
    """Node to scheduler: of the files offered without a stream, these (all that it wants) are not there. Answered by
    FilesComing."""

    computation: str
    paths: list[str]
    have: list[int] = []
    """For each, how many bytes at its beginning are there; empty if none are."""


class FilesComing(msgspec.Struct, frozen=True, array_like=True, tag="coming"):
    """Scheduler to node: the files that were wanted, each on a stream."""

    computation: str
    files: list[FileOffer]


class ShareData(msgspec.Struct, frozen=True, array_like=True, tag="share"):
    """Scheduler to node: keep this for the jobs of a computation that name it. Answered only if it cannot be kept."""

    computation: str
    data: int
    """Number of the data within the computation."""
    stream: int
    size: int


class DropData(msgspec.Struct, frozen=True, array_like=True, tag="drop-data"):
    """Scheduler to node: no job will name these shared data any more. It has no answer."""

    computation: str
    data: list[int]


class DataLost(msgspec.Struct, frozen=True, array_like=True, tag="data-lost"):
    """Node to scheduler: it does not have this shared data, for this reason; jobs that waited for it have ended."""

    computation: str
    data: int
    reason: str


class RecallJobs(msgspec.Struct, frozen=True, array_like=True, tag="recall"):
    """Scheduler to node: give back, by JobsRejected, those of these attempts that have not started; others go on."""

    computation: str
    attempts: list[AttemptKey]


Message = (
    Hello
    | Heartbeat
    | Goodbye
    | StreamEnded
    | StreamCredit
    | OpenComputation
    | ComputationReady
    | ComputationFailed
    | CloseComputation
    | ComputationClosed
    | AssignJobs
    | CancelJobs
    | JobsStarted
    | JobResults
    | AckResults
    | JobsRejected
    | Reconcile
    | Reconciled
    | NodeChanged
    | JobNews
    | AckNews
    | SendFile
    | FileTaken
    | LimitSlots
    | WatchOutput
    | JobOutput
    | FilesWanted
    | FilesComing
    | ShareData
    | DropData
    | DataLost
    | RecallJobs
)
"""Every message that may stand in a batch."""
