"""What a node wants done: the outputs of `dispy_node.engine.node.NodeEngine`, carried out in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dispy.model import AttemptKey, ClientId, ComputationId, LinkId
from dispy.wire.messages import JobLimits, Message, SendFile, WatchOutput
from dispy.wire.owner import Owner
from dispy_node.engine.records import Body, Grant, HostedComputation, PartKey, Spooled


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Queue a message on a link."""

    link: LinkId
    message: Message


@dataclass(frozen=True, slots=True)
class SendStream:
    """Send a spool file on a stream that an earlier message on the link has announced; keep the file."""

    link: LinkId
    stream: int
    source: Spooled


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Say goodbye with this reason and close the link."""

    link: LinkId
    reason: str


@dataclass(frozen=True, slots=True)
class FindFiles:
    """Look which files that were offered without a stream are there, whole or in part. Answered by FilesFound."""

    computation: HostedComputation


@dataclass(frozen=True, slots=True)
class StartRunner:
    """Make the computation's folder, place its files, start its runner and have it load the code.

    Answered by RunnerReady or RunnerFailed.
    """

    computation: HostedComputation


@dataclass(frozen=True, slots=True)
class RunJobs:
    """Hand jobs to the runner, in this order. Spooled bodies are the runner's from here on."""

    computation: ComputationId
    jobs: Sequence[tuple[AttemptKey, Body]]
    limits: Mapping[AttemptKey, JobLimits] = field(default_factory=dict)
    """What those of them may use that have limits."""
    carrying: frozenset[AttemptKey] = frozenset()
    """Those in whose bodies files or code for them alone come along."""
    granted: Mapping[AttemptKey, Grant] = field(default_factory=dict)
    """What those of them have that start at once, whatever slots the runner has."""


@dataclass(frozen=True, slots=True)
class SetSlots:
    """Allow the runner to run this many jobs at once; if that is fewer, it answers SlotsGivenUp."""

    computation: ComputationId
    slots: int


@dataclass(frozen=True, slots=True)
class CancelAttempts:
    """Have the runner end these attempts; each still gives an AttemptsEnded."""

    computation: ComputationId
    attempts: Sequence[AttemptKey]


@dataclass(frozen=True, slots=True)
class RecallAttempts:
    """Have the runner give back those of these attempts that it has not started, and never start them.

    Each of those gives an AttemptsEnded with the outcome CANCELLED and no start; the others go on.
    """

    computation: ComputationId
    attempts: Sequence[AttemptKey]


@dataclass(frozen=True, slots=True)
class CloseRunner:
    """Have the runner clean up and end; with *terminate* it ends what runs. Answered by RunnerEnded."""

    computation: ComputationId
    terminate: bool


@dataclass(frozen=True, slots=True)
class RemoveFolder:
    """Remove the computation's folder."""

    computation: ComputationId


@dataclass(frozen=True, slots=True)
class RemoveSpooled:
    """Remove spool files that nobody needs any more."""

    files: Sequence[Spooled]


@dataclass(frozen=True, slots=True)
class DropStream:
    """Read what still comes on this stream and throw it away."""

    link: LinkId
    stream: int


@dataclass(frozen=True, slots=True)
class ReceiveFile:
    """Keep what has come on this stream if the link breaks. It goes on where the part ends, if there is one.

    What was put together is compared with the hash before it counts as stored.
    """

    link: LinkId
    stream: int
    key: PartKey
    part: Spooled | None = None


@dataclass(frozen=True, slots=True)
class KeepParts:
    """Keep spool files, for their client to go on with them when it is back."""

    parts: Sequence[tuple[PartKey, Spooled]]


@dataclass(frozen=True, slots=True)
class ForgetParts:
    """Remove the parts of files that are kept for a client, as it will not come back."""

    client: ClientId
    owner: Owner


@dataclass(frozen=True, slots=True)
class AnswerNews:
    """Have the runner tell an attempt whether what it has told under this number is taken."""

    computation: ComputationId
    attempt: AttemptKey
    number: int
    taken: bool


@dataclass(frozen=True, slots=True)
class WatchAttempt:
    """Have the runner send output of an attempt that runs. Answered by OutputTold, as it comes."""

    computation: ComputationId
    message: WatchOutput


@dataclass(frozen=True, slots=True)
class PlaceFile:
    """Put a spool file into the folder of a computation that runs. Answered by FilePlaced."""

    computation: ComputationId
    client: ClientId
    message: SendFile
    spooled: Spooled


@dataclass(frozen=True, slots=True)
class KeepData:
    """Give a spool file to the runner, as shared data of this number, before any job that needs it."""

    computation: ComputationId
    data: int
    spooled: Spooled


@dataclass(frozen=True, slots=True)
class ForgetData:
    """Remove shared data of the runner; jobs that have it open go on with it."""

    computation: ComputationId
    data: Sequence[int]


@dataclass(frozen=True, slots=True)
class Report:
    """Write a line to the node's log for the operator. ``warning``: something is wrong."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class EndDaemon:
    """A drain is complete: the node may end."""


Effect = (
    SendMessage
    | SendStream
    | CloseLink
    | FindFiles
    | StartRunner
    | RunJobs
    | SetSlots
    | CancelAttempts
    | RecallAttempts
    | CloseRunner
    | RemoveFolder
    | RemoveSpooled
    | DropStream
    | ReceiveFile
    | KeepParts
    | ForgetParts
    | AnswerNews
    | WatchAttempt
    | PlaceFile
    | KeepData
    | ForgetData
    | Report
    | EndDaemon
)
