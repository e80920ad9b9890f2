"""A scheduler engine with everything around it that a script needs: say what happens, look at the effects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import pytest

from dispy.engine.effects import Effect, JobChange, Report, SendMessage, TellJobs
from dispy.engine.events import (
    ComputationAdded,
    ComputationClosing,
    Event,
    JobsSubmitted,
    LinkClosed,
    LinkOpened,
    MessageReceived,
    TimePassed,
)
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job, Node, Placement
from dispy.engine.scheduler import SchedulerEngine
from dispy.interfaces import API_VERSION, FaultPolicy, LostAttempt, Verdict
from dispy.model import ComputationId, Isolation, JobId, LinkId, NodeId, Outcome
from dispy.wire.messages import (
    AssignJobs,
    ComputationReady,
    Hello,
    JobResult,
    JobResults,
    JobsStarted,
    JobStart,
    Message,
)


class RerunPolicy(FaultPolicy):
    """Runs what may run again, again."""

    NAME: ClassVar[str] = "rerun"
    API_VERSION: ClassVar[int] = API_VERSION
    HONOURS_REENTRANT: ClassVar[bool] = True

    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.RERUN if lost.reentrant and not lost.pinned else Verdict.ABANDON


class RerunAllPolicy(RerunPolicy):
    """Runs pinned jobs again, too."""

    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.RERUN


class World:
    """One engine; nodes and computations are told by small numbers. Invariants are checked after each event."""

    RerunPolicy = RerunPolicy
    RerunAllPolicy = RerunAllPolicy

    def __init__(self, policy: FaultPolicy | None = None, **options: Any) -> None:
        self.engine = SchedulerEngine(policy or CancelPolicy(), **options)
        self.now = 1000.0
        self.links: dict[int, LinkId] = {}
        self._last_link = 0
        self._last_job = 0

    def do(self, event: Event) -> list[Effect]:
        effects = self.engine.handle(event, self.now)
        self.engine.check_invariants()
        return effects

    # -- computations and jobs

    def add(
        self,
        number: int = 1,
        *,
        accepts: Callable[[Node], int] = lambda node: node.cpus,
        code: bytes | str = b"code",
        **options: Any,
    ) -> Computation:
        """Add a computation that uses all slots of every node."""
        options.setdefault("reentrant", False)
        computation = Computation(
            id=ComputationId(f"c{number}"),
            name=f"compute{number}",
            executor="function",
            isolation=Isolation.PROCESS,
            accepts=accepts,
            code_for=lambda python: code,
            **options,
        )
        self.do(ComputationAdded(computation))
        return computation

    def jobs(
        self, computation: Computation, count: int, *, pinned: NodeId | None = None, body: bytes = b"args"
    ) -> list[Job]:
        """Make jobs, without submitting them."""
        self._last_job += count
        numbers = range(self._last_job - count + 1, self._last_job + 1)
        return [Job(JobId(number), computation.id, body, pinned=pinned) for number in numbers]

    def submit(self, computation: Computation, count: int = 1, **options: Any) -> list[Job]:
        jobs = self.jobs(computation, count, **options)
        self.do(JobsSubmitted(jobs))
        return jobs

    def close(self, computation: Computation, *, terminate: bool = False) -> list[Effect]:
        return self.do(ComputationClosing(computation.id, terminate))

    # -- nodes

    @staticmethod
    def ident(number: int) -> NodeId:
        return NodeId(f"{number:032x}")

    @staticmethod
    def hello(number: int = 1, **fields: Any) -> Hello:
        settings: dict[str, Any] = {
            "protocol_min": 1,
            "protocol_max": 1,
            "role": "node",
            "ident": World.ident(number),
            "epoch": 1,
            "name": f"node{number}",
            "version": "1.0",
            "python": "3.11.7",
            "platform": "linux",
            "max_frame_bytes": 4 << 20,
            "heartbeat_s": 5.0,
            "cpus": 2,
        }
        return Hello(**(settings | fields))

    def connect(
        self, number: int = 1, *, target: tuple[str, int] | None = None, host: str = "", **fields: Any
    ) -> list[Effect]:
        """Open a link to a node; it is the one that the node speaks on from now on."""
        link = self.new_link()
        self.links[number] = link
        return self.do(LinkOpened(link, self.hello(number, **fields), target, host or f"10.0.0.{number}"))

    def new_link(self) -> LinkId:
        self._last_link += 1
        return LinkId(self._last_link)

    def use(self, computation: Computation, *numbers: int, **fields: Any) -> None:
        """Connect nodes and have the computation ready there."""
        for number in numbers:
            if number not in self.links:
                self.connect(number, **fields)
            self.say(ComputationReady(computation.id), number)

    def disconnect(self, number: int = 1, *, reason: str = "reset", final: bool = False) -> list[Effect]:
        return self.do(LinkClosed(self.links[number], reason, final))

    def say(self, message: Message, number: int = 1) -> list[Effect]:
        return self.do(MessageReceived(self.links[number], message))

    def start(self, *jobs: Job, number: int = 1) -> list[Effect]:
        starts = [JobStart(job.id, job.attempt, 10.0) for job in jobs]
        return self.say(JobsStarted(jobs[0].computation, starts), number)

    def finish(self, *jobs: Job, number: int = 1, **fields: Any) -> list[Effect]:
        """Have the node tell results."""
        return self.say(JobResults(jobs[0].computation, [self.result(job, **fields) for job in jobs]), number)

    @staticmethod
    def result(job: Job, /, **fields: Any) -> JobResult:
        settings: dict[str, Any] = {
            "job": job.id,
            "attempt": job.attempt,
            "outcome": int(Outcome.RETURNED),
            "code": 0,
            "detail": "",
            "started_at": 10.0,
            "ended_at": 20.0,
            "body": b"result",
        }
        return JobResult(**(settings | fields))

    def node(self, number: int = 1) -> Node:
        return self.engine.nodes[self.ident(number)]

    def placement(self, computation: Computation, number: int = 1) -> Placement:
        return computation.placements[self.ident(number)]

    # -- time

    def wait(self, seconds: float) -> list[Effect]:
        """Let time pass, stopping at each deadline."""
        end = self.now + seconds
        effects: list[Effect] = []
        while (due := self.engine.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            effects += self.do(TimePassed())
        self.now = end
        return effects

    # -- what effects say

    @staticmethod
    def changes(effects: Iterable[Effect]) -> list[JobChange]:
        return [change for effect in effects if isinstance(effect, TellJobs) for change in effect.changes]

    @staticmethod
    def told(effects: Iterable[Effect]) -> list[tuple[int, str]]:
        """Give (job number, name of the new status) in order."""
        return [(change.job.id, change.status.name) for change in World.changes(effects)]

    @staticmethod
    def messages(effects: Iterable[Effect]) -> list[Message]:
        return [effect.message for effect in effects if isinstance(effect, SendMessage)]

    @staticmethod
    def assigned(effects: Iterable[Effect]) -> list[tuple[LinkId, list[tuple[int, int]]]]:
        """Give (link, attempts) of each AssignJobs."""
        return [
            (effect.link, [(item.job, item.attempt) for item in effect.message.jobs])
            for effect in effects
            if isinstance(effect, SendMessage) and isinstance(effect.message, AssignJobs)
        ]

    @staticmethod
    def reports(effects: Iterable[Effect]) -> list[str]:
        return [effect.text for effect in effects if isinstance(effect, Report)]

    @staticmethod
    def keys(jobs: Sequence[Job]) -> list[tuple[int, int]]:
        return [(job.id, job.attempt) for job in jobs]


@pytest.fixture
def world() -> World:
    """Give a scheduler whose policy abandons what is lost."""
    return World()


@pytest.fixture
def make_world() -> type[World]:
    """Give the means to make a scheduler with another policy."""
    return World
