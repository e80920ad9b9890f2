"""The values that every part of dispy speaks about.

A *computation* is a function or program with what it needs; a *job* is one call of it; an *attempt* is one
start of a job on one node. A *client* is a process that owns clusters and runs the scheduler; a *node* is a
daemon that runs jobs. This module holds plain values only and imports nothing of dispy.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

NodeId = NewType("NodeId", str)
"""Identity of a node: 32 hex digits, made once and kept in the node's state folder."""

ClientId = NewType("ClientId", str)
"""Identity of one run of a scheduler: 32 hex digits, made when it starts."""

ComputationId = NewType("ComputationId", str)
"""Identity of a computation: 32 hex digits, unique everywhere."""

JobId = NewType("JobId", int)
"""Number of a job, unique within its client, counted from 1."""

LinkId = NewType("LinkId", int)
"""Number of a connection, unique within the process, never used again."""

AttemptKey = tuple[int, int]
"""(job number, attempt number): names one start of one job. Attempts count from 1."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """The content of a file, which is read when it is sent.

    Attributes:
        path: absolute path at the client.
        size: its length in bytes; with another one, or another time of modification, it is not sent.
        modified_at: seconds since the epoch.
        skip: so many bytes at its beginning are left out.
    """

    path: str
    size: int
    modified_at: float
    skip: int = 0

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self.size - self.skip


class Pieces:
    """Bytes in several parts, which need not be joined: a large argument is sent from where it lies.

    Args:
        parts: the bytes, in order; none of them changes any more.
    """

    __slots__ = ("_size_bytes", "parts")

    def __init__(self, parts: tuple[bytes | FilePart, ...]) -> None:
        self.parts = parts
        self._size_bytes = sum(map(len, parts))

    def __len__(self) -> int:
        """Return the number of bytes."""
        return self._size_bytes

    def joined(self) -> bytes:
        """Return the bytes in one part; there must be no file among the parts."""
        return b"".join([part for part in self.parts if isinstance(part, bytes)])


OUTPUT_BYTES = 10_000_000
"""Output of a job that is kept, per stream; of more, the middle is dropped, see `dispy.live.rest_of`."""


class SharedData:
    """Bytes that several jobs of a computation read, and that each node gets once.

    Args:
        ident: number of the data, unique within its computation.
        source: the bytes; they do not change any more.
        automatic: it was found among the arguments of jobs; else somebody has put it there and will release it.
    """

    __slots__ = ("__weakref__", "automatic", "id", "size", "source")

    def __init__(self, ident: int, source: bytes | Pieces, *, automatic: bool = False) -> None:
        self.id = ident
        self.source = source
        self.size = len(source)
        self.automatic = automatic


RESUMABLE_BYTES = 8 * 1024 * 1024
"""Files of `depends` from this size on are offered by their hash, and go on where a link broke. That costs a round trip
for each computation, and the hash; smaller files are sent again as soon."""

INLINE_BODY_BYTES = 64 * 1024
"""Arguments and results up to this size travel inside the message, larger ones on a stream of their own.

Below it a batch of messages stays small enough not to delay a heartbeat; above it a copy to a spool file costs
less than what the data itself costs.
"""

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Largest frame that a peer may send: a batch of inline bodies, never a large payload (those are chunked)."""

CHUNK_BYTES = 256 * 1024
"""Size of a piece of a stream: large enough for full speed on loopback, small enough to interleave."""


class Role(enum.StrEnum):
    """What a participant of the protocol is, as told in its greeting."""

    CLIENT = "client"
    NODE = "node"


class AccessRole(enum.StrEnum):
    """What a participant may do, as its certificate says."""

    NODE = "node"
    """Run jobs for others."""
    OBSERVE = "observe"
    """See who is there and what runs."""
    SUBMIT = "submit"
    """Run computations, and see what OBSERVE sees."""
    OPERATE = "operate"
    """Manage nodes and the jobs of others, and do what SUBMIT does."""
    ADMIN = "admin"
    """Everything that a client can do."""

    @property
    def included(self) -> frozenset[AccessRole]:
        """This role and those whose rights it has too."""
        ranks = (AccessRole.OBSERVE, AccessRole.SUBMIT, AccessRole.OPERATE, AccessRole.ADMIN)
        return frozenset(ranks[: ranks.index(self) + 1]) if self in ranks else frozenset({self})


ROLE_URI_PREFIX = "urn:dispy:role:"
"""Before the name of a role it makes the URI that gives this role to the owner of a certificate."""


class Openness(enum.Enum):
    """Type of `OPEN`."""

    OPEN = "open"

    def __repr__(self) -> str:
        return "dispy.OPEN"


OPEN = Openness.OPEN
"""Given as ``secret``: connections are neither authenticated nor encrypted, because the user wants it so."""


class Isolation(enum.StrEnum):
    """How jobs are kept apart: a fresh process each, or processes that are used again."""

    PROCESS = "process"
    WORKER = "worker"


class ClusterOrder(enum.StrEnum):
    """Whose jobs go first where clusters of one scheduler want the same slots."""

    FIRST = "first"
    """Those of the cluster whose earliest waiting job was submitted first."""
    FAIR = "fair"
    """Those of the cluster that was served least recently."""
    EARLY = "early"
    """Those of the cluster that was created first."""


class StartMethod(enum.StrEnum):
    """How processes of jobs come into being: with the memory of the one that has loaded the code, or on their own."""

    FORK = "fork"
    SPAWN = "spawn"


class Outcome(enum.IntEnum):
    """How an attempt ended, as the node tells it.

    The body of the result (see `dispy.packing.results`) holds, next to the captured output:
    """

    RETURNED = 0
    """The function returned; ``value`` is the pickled result."""
    EXITED = 1
    """The program ended; ``code`` is its exit status, or minus the signal's number."""
    RAISED = 2
    """The function raised; ``error`` is the traceback's text, ``value`` the pickled exception or empty."""
    DIED = 3
    """The process ended without a result; ``code`` as for EXITED, ``detail`` says what happened."""
    BROKEN = 4
    """It could not be run, or its result could not be sent; ``detail`` says what and where."""
    CANCELLED = 5
    """It ended because it was asked to, running or not yet started."""
    EXCEEDED = 6
    """The node ended it because it went beyond a limit; ``code`` is the `Limit`, ``detail`` says by how much."""


class Limit(enum.IntEnum):
    """What a job may have been given a limit of."""

    TIMEOUT = 1
    """Time since its start."""
    CPU_TIME = 2
    """Time of processors that its whole process tree has used."""
    MEMORY = 3
    """Memory of its whole process tree."""
    PROCESSES = 4
    """Processes in its tree."""


class JobStatus(enum.IntEnum):
    """Status of a job as the application sees it; numbers are those of the original."""

    CREATED = 5
    RUNNING = 6
    PROVISIONAL_RESULT = 7
    CANCELLED = 8
    TERMINATED = 9
    ABANDONED = 10
    FINISHED = 11


class NodeStatus(enum.IntEnum):
    """What happened to a node, seen from one computation; numbers are those of the original."""

    INITIALIZED = 4
    CLOSED = 16
    AVAIL_INFO = 17


@dataclass(frozen=True, slots=True)
class PythonVersion:
    """Version of an interpreter: code objects are exchanged only between equal (major, minor)."""

    major: int
    minor: int
    micro: int = 0

    @classmethod
    def parse(cls, text: str) -> PythonVersion:
        """Read ``"3.12.1"``.

        Raises:
            ValueError: *text* is not two or three numbers joined by dots.
        """
        parts = [int(part) for part in text.split(".")]
        if len(parts) not in (2, 3):
            raise ValueError(f"not a Python version: {text!r}")
        return cls(*parts)

    def shares_bytecode_with(self, other: PythonVersion) -> bool:
        """Tell whether code objects of one can be loaded by the other."""
        return (self.major, self.minor) == (other.major, other.minor)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"


@dataclass(frozen=True, slots=True)
class Avail:
    """What a node has free: percent of CPU and swap, bytes of memory and disk."""

    cpu_percent: float
    memory_bytes: int
    disk_bytes: int
    swap_percent: float
