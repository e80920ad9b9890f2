"""What the scheduler wants done: the outputs of `dispy.engine.scheduler.SchedulerEngine`.

Names are imperatives. A driver carries effects out in order; the engine never learns whether one failed
except by a later event (a link that breaks gives `LinkClosed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from dispy.engine.records import Computation, Job, Node
from dispy.model import ComputationId, FilePart, JobStatus, LinkId, NodeStatus, Pieces
from dispy.wire.messages import JobResult, Message


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Queue a message on a link."""

    link: LinkId
    message: Message


@dataclass(frozen=True, slots=True)
class SendStream:
    """Send *source* on stream number *stream*, which an earlier message on the link has announced.

    ``source`` is bytes in one part or several, or a file to be read as it is sent.
    """

    link: LinkId
    stream: int
    source: bytes | FilePart | Pieces
    size: int


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Say goodbye with this reason and close the link."""

    link: LinkId
    reason: str


class JobChange(msgspec.Struct, frozen=True):
    """A job has a new status. (A struct, not a dataclass: one is made per job, at an eighth of the cost.)

    ``result`` is set with FINISHED and TERMINATED, and with CANCELLED if the node told how it ended; ``reason``
    says why for a job that ended without a result. ``partial`` is the body of an intermediate result, with
    PROVISIONAL_RESULT.
    """

    job: Job
    status: JobStatus
    node: Node | None
    result: JobResult | None = None
    reason: str = ""
    partial: bytes = b""


@dataclass(frozen=True, slots=True)
class TellJobs:
    """Tell the application of job changes, in order."""

    changes: list[JobChange]


@dataclass(frozen=True, slots=True)
class TellNode:
    """Tell the application that a node became usable for, or was lost to, a computation."""

    node: Node
    status: NodeStatus
    computation: ComputationId


@dataclass(frozen=True, slots=True)
class TellClosed:
    """The computation is closed at every node that could be reached."""

    computation: Computation


@dataclass(frozen=True, slots=True)
class TellFile:
    """Tell the application that a node has a file, or (then *reason* is not empty) that it has not."""

    handle: Any
    reason: str


@dataclass(frozen=True, slots=True)
class TellOutput:
    """Tell the application what a job that it watches has printed.

    ``missed`` bytes before ``data`` were dropped. Of each attempt the output is told from its beginning.
    """

    viewer: Any
    number: int
    stream: int
    attempt: int
    missed: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TellLog:
    """Tell the application of a record that a job has logged; ``body`` is read by `dispy.logs`.

    ``missed``: so many records before it were dropped.
    """

    job: Job
    node: Node
    body: bytes
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the user, in one line, what went wrong and what to do; never said twice for one cause."""

    text: str
    computation: ComputationId | None = None


Effect = (
    SendMessage
    | SendStream
    | CloseLink
    | TellJobs
    | TellNode
    | TellClosed
    | TellFile
    | TellOutput
    | TellLog
    | Report
)
