"""What can happen to a node: the inputs of `dispy_node.engine.node.NodeEngine`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dispy.model import Avail, ClientId, ComputationId, LinkId
from dispy.wire.messages import Hello, JobOutput, JobResult, JobStart, Message, News, SendFile
from dispy.wire.owner import UNKNOWN, Owner
from dispy_node.engine.hours import Phase
from dispy_node.engine.records import HostedComputation, Spooled


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A client is connected and both have greeted.

    ``told_cpus`` is the number of slots that the node has told in its own greeting, which was made earlier than
    this event; None if that is the present one. ``owner`` is what binds the ident in the client's greeting to it;
    ``told_refusal`` is why, as the node has told there, it takes no jobs.
    """

    link: LinkId
    hello: Hello
    told_cpus: int | None = None
    owner: Owner = UNKNOWN
    told_refusal: str = ""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The link to a client is gone. ``final``: the client said that it ends for good."""

    link: LinkId
    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A client sent a message."""

    link: LinkId
    message: Message


@dataclass(frozen=True, slots=True)
class StreamStored:
    """A stream of a client has arrived whole and lies in a spool file."""

    link: LinkId
    stream: int
    spooled: Spooled


@dataclass(frozen=True, slots=True)
class StreamThrownAway:
    """A stream that was dropped has ended."""

    link: LinkId
    stream: int


@dataclass(frozen=True, slots=True)
class StreamFailed:
    """A stream of a client broke off, or could not be stored (disk full); the link itself is well."""

    link: LinkId
    stream: int
    reason: str


@dataclass(frozen=True, slots=True)
class FilesFound:
    """It is known which files of an offer are there: their paths -> where their contents are.

    With a reason that cannot be found out, and the computation cannot run. ``parts``: of some others the beginning is
    there, in a spool file.
    """

    computation: HostedComputation
    found: Mapping[str, str]
    reason: str = ""
    parts: Mapping[str, Spooled] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunnerReady:
    """The runner has loaded the computation."""

    computation: ComputationId


@dataclass(frozen=True, slots=True)
class RunnerFailed:
    """The runner could not be started, or could not load the computation; it has ended."""

    computation: ComputationId
    reason: str


@dataclass(frozen=True, slots=True)
class RunnerEnded:
    """A runner that was ready has ended: because it was told to, or (then *reason* is not empty) by itself.

    ``trouble``: what has gone wrong in cleanup, if anything.
    """

    computation: ComputationId
    reason: str = ""
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class AttemptsStarted:
    """The runner started these."""

    computation: ComputationId
    starts: Sequence[JobStart]


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended; its large body, if any, lies in a spool file."""

    result: JobResult
    spooled: Spooled | None = None


@dataclass(frozen=True, slots=True)
class AttemptsEnded:
    """These attempts have ended at the runner, started or not."""

    computation: ComputationId
    results: Sequence[AttemptResult]


@dataclass(frozen=True, slots=True)
class NewsTold:
    """An attempt tells something while it runs, and waits for `AnswerNews`; a large body lies in a spool file."""

    computation: ComputationId
    news: News
    spooled: Spooled | None = None


@dataclass(frozen=True, slots=True)
class OutputTold:
    """An attempt that is watched has printed something."""

    computation: ComputationId
    output: JobOutput


@dataclass(frozen=True, slots=True)
class FilePlaced:
    """A file of a client is in its place; or, with a reason, it could not be put there."""

    client: ClientId
    message: SendFile
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SlotsGivenUp:
    """The runner confirms that it runs at most this many jobs from now on."""

    computation: ComputationId
    slots: int


@dataclass(frozen=True, slots=True)
class CpusChanged:
    """The operator changed the number of slots."""

    cpus: int


@dataclass(frozen=True, slots=True)
class AvailMeasured:
    """What the machine has free was measured again."""

    avail: Avail


@dataclass(frozen=True, slots=True)
class HoursChanged:
    """Another part of the day has begun; ``text`` says for people when jobs are taken."""

    phase: Phase
    text: str = ""


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """The cleanup of a computation wants the node to end."""

    computation: ComputationId


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """The operator wants the node to end: take no more jobs, finish those that run."""


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline named by `next_deadline` is reached."""


Event = (
    LinkOpened
    | LinkClosed
    | MessageReceived
    | StreamStored
    | StreamFailed
    | StreamThrownAway
    | FilesFound
    | RunnerReady
    | RunnerFailed
    | RunnerEnded
    | AttemptsStarted
    | AttemptsEnded
    | NewsTold
    | OutputTold
    | FilePlaced
    | SlotsGivenUp
    | CpusChanged
    | AvailMeasured
    | HoursChanged
    | ShutdownAsked
    | DrainRequested
    | TimePassed
)
