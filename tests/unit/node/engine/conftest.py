"""A node engine with short ways to feed it; every event is followed by `check_invariants`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dispy.model import ComputationId, LinkId, Outcome
from dispy.wire.messages import (
    AssignJobs,
    Belief,
    Hello,
    JobAssignment,
    JobResult,
    JobStart,
    Message,
    OpenComputation,
    Reconcile,
)
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.node import NodeEngine
from dispy_node.engine.records import Spooled


class NodeScript:
    """One engine, one clock. The first client is "c1" on link 1, the first computation "a"."""

    def __init__(self, **options: Any) -> None:
        self.engine = NodeEngine(**{"cpus": 2, **options})
        self.now = 100.0

    def do(self, event: ev.Event) -> list[fx.Effect]:
        """Feed an event; give the effects."""
        effects = self.engine.handle(event, self.now)
        self.engine.check_invariants()
        return effects

    def send(self, message: Message, link: int = 1) -> list[fx.Effect]:
        return self.do(ev.MessageReceived(LinkId(link), message))

    def said(self, message: Message, link: int = 1) -> fx.SendMessage:
        """The effect that sends *message*."""
        return fx.SendMessage(LinkId(link), message)

    def connect(self, link: int = 1, ident: str = "c1", role: str = "client") -> list[fx.Effect]:
        hello = Hello(1, 1, role, ident, 1, f"host-{ident}", "1.0", "3.11.1", "linux", 4 << 20, 5.0)
        return self.do(ev.LinkOpened(LinkId(link), hello))

    def lose(self, link: int = 1, *, final: bool = False) -> list[fx.Effect]:
        return self.do(ev.LinkClosed(LinkId(link), "connection reset", final))

    def offer(self, name: str = "a", **options: Any) -> OpenComputation:
        return OpenComputation(name, "compute", "function", "process", b"P", **options)

    def ready(self, name: str = "a", link: int = 1, **options: Any) -> list[fx.Effect]:
        """Open a computation and have its runner ready."""
        self.send(self.offer(name, **options), link)
        return self.do(ev.RunnerReady(ComputationId(name)))

    def job(self, number: int, body: bytes = b"args", **options: Any) -> JobAssignment:
        return JobAssignment(number, options.pop("attempt", 1), body, **options)

    def assign(self, *numbers: int, name: str = "a", link: int = 1) -> list[fx.Effect]:
        return self.send(AssignJobs(name, [self.job(number) for number in numbers]), link)

    def assign_stream(self, number: int, stream: int, name: str = "a", link: int = 1) -> list[fx.Effect]:
        return self.send(AssignJobs(name, [self.job(number, b"", stream=stream, size=9)]), link)

    def store(self, stream: int, path: str = "in", link: int = 1) -> list[fx.Effect]:
        return self.do(ev.StreamStored(LinkId(link), stream, Spooled(path, 9)))

    def result(self, number: int, outcome: Outcome = Outcome.RETURNED, **options: Any) -> JobResult:
        values = {"started_at": 5.0, "ended_at": 6.0, "code": 0, "detail": "", "body": b"value", "attempt": 1}
        values.update(options)
        return JobResult(number, outcome=int(outcome), **values)

    def start(self, *numbers: int, name: str = "a") -> list[fx.Effect]:
        starts = [JobStart(number, 1, 5.0) for number in numbers]
        return self.do(ev.AttemptsStarted(ComputationId(name), starts))

    def end(
        self, *numbers: int, name: str = "a", spooled: Spooled | None = None, **options: Any
    ) -> list[fx.Effect]:
        results = [ev.AttemptResult(self.result(number, **options), spooled) for number in numbers]
        return self.do(ev.AttemptsEnded(ComputationId(name), results))

    def reconcile(self, link: int = 1, **beliefs: list[int]) -> list[fx.Effect]:
        """Tell the engine of first attempts that a scheduler believes in, by computation."""
        told = [Belief(name, [(number, 1) for number in numbers]) for name, numbers in beliefs.items()]
        return self.send(Reconcile(told), link)

    def wait(self, seconds: float) -> list[fx.Effect]:
        """Let time pass, with TimePassed at each deadline."""
        effects = []
        end = self.now + seconds
        while (deadline := self.engine.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            effects += self.do(ev.TimePassed())
        self.now = end
        return effects


@pytest.fixture
def make_node() -> Callable[..., NodeScript]:
    """Make an engine with options of its own; nobody is connected."""
    return NodeScript


@pytest.fixture
def node() -> NodeScript:
    """Two slots, the client "c1" on link 1."""
    script = NodeScript()
    script.connect()
    return script
