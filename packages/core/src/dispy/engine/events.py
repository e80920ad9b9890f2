"""What can happen to the scheduler: the inputs of `dispy.engine.scheduler.SchedulerEngine`.

Names are past participles: an event tells what has happened, never what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dispy.engine.records import Computation, Job, SourceFile
from dispy.model import ComputationId, JobId, LinkId, NodeId
from dispy.wire.messages import Hello, Message, News
from dispy.wire.owner import UNKNOWN, Owner


@dataclass(frozen=True, slots=True)
class ComputationAdded:
    """The application made a cluster."""

    computation: Computation


@dataclass(frozen=True, slots=True)
class ComputationClosing:
    """The application closes a cluster. Jobs that have not ended are cancelled if *terminate*.

    Without *terminate* the caller has seen to it that no job is pending.
    """

    computation: ComputationId
    terminate: bool


@dataclass(frozen=True, slots=True)
class NodesWidened:
    """More nodes may match the computation than before: ask its `accepts` again for each known node."""

    computation: ComputationId


@dataclass(frozen=True, slots=True)
class NodeRested:
    """The application wants no more jobs of the computation at this node, for now; what is there goes on."""

    computation: ComputationId
    node: NodeId


@dataclass(frozen=True, slots=True)
class NodeTaken:
    """The application wants to use this node again, whatever it has said of it before: ask `accepts`."""

    computation: ComputationId
    node: NodeId


@dataclass(frozen=True, slots=True)
class NodeLeft:
    """The application is done with this node: jobs there end by themselves, or are ended if *terminate*.

    With *again* the computation is opened there anew afterwards, if `accepts` still says so.
    """

    computation: ComputationId
    node: NodeId
    terminate: bool
    again: bool


@dataclass(frozen=True, slots=True)
class NodeCpusLimited:
    """The application wants at most this many slots of a node used, by all computations; None: all."""

    node: NodeId
    cpus: int | None


@dataclass(frozen=True, slots=True)
class JobsSubmitted:
    """New jobs, in the order of submission; each names its computation by ``job.computation``."""

    jobs: Sequence[Job]


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """The application wants these jobs ended."""

    jobs: Sequence[JobId]


@dataclass(frozen=True, slots=True)
class JobsGivenUp:
    """The driver sees that no node will ever run the jobs that wait: each that there is has refused.

    Jobs that are queued now end as TERMINATED, with this reason; later ones are taken in as usual.
    """

    computation: ComputationId
    reason: str


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A link to a node is up and both have greeted.

    ``target`` is the (host, port) that was dialled, as the user wrote it, or None if the node dialled.
    ``peer_host`` is the address of the other end. ``realm`` names what both sides have proved to each other; it is
    empty where nothing had to be proved. ``owner`` is what binds the ident in its greeting to it.
    """

    link: LinkId
    hello: Hello
    target: tuple[str, int] | None
    peer_host: str
    realm: str = ""
    owner: Owner = UNKNOWN


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """A link is gone, for this reason. ``final``: the node said that it ends for good."""

    link: LinkId
    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A node sent a message. Results, and news, whose body is on a stream come when the stream has ended."""

    link: LinkId
    message: Message


@dataclass(frozen=True, slots=True)
class FileArrived:
    """A file that a job sends has come whole and has its place; or (then *taken* is false) it was refused or lost."""

    link: LinkId
    computation: str
    news: News
    taken: bool


@dataclass(frozen=True, slots=True)
class FileWanted:
    """The application wants a file in the folder of a computation at a node. Answered by `TellFile`, always.

    ``handle`` is the application's own object for it.
    """

    computation: ComputationId
    node: NodeId
    file: SourceFile
    handle: Any


@dataclass(frozen=True, slots=True)
class WatchWanted:
    """The application wants to see what a job prints, from the beginning, in `TellOutput`, until the job has ended.

    ``handle`` is that of the job, ``number`` is not used by another watch, ``viewer`` is the application's own object
    for it. A job that is settled gives nothing.
    """

    job: JobId
    handle: Any
    number: int
    stream: int
    viewer: Any


@dataclass(frozen=True, slots=True)
class OutputUsed:
    """The application has used up what it was told of a watch up to this byte of the attempt."""

    number: int
    attempt: int
    at: int


@dataclass(frozen=True, slots=True)
class WatchDropped:
    """The application looks no longer."""

    number: int


@dataclass(frozen=True, slots=True)
class DataReleased:
    """The application lets go of shared data that it has put there; jobs that were submitted keep it."""

    computation: ComputationId
    data: int


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline named by `next_deadline` is reached."""


Event = (
    ComputationAdded
    | ComputationClosing
    | NodesWidened
    | NodeRested
    | NodeTaken
    | NodeLeft
    | NodeCpusLimited
    | JobsSubmitted
    | CancelRequested
    | JobsGivenUp
    | LinkOpened
    | LinkClosed
    | MessageReceived
    | FileArrived
    | FileWanted
    | WatchWanted
    | OutputUsed
    | WatchDropped
    | DataReleased
    | TimePassed
)
