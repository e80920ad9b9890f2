"""A client without threads and network: the real scheduler engine, and around it what the driver does."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.records import Computation, Job, Node, NodeState
from dispy.engine.scheduler import SchedulerEngine
from dispy.errors import LocalProtocolError
from dispy.interfaces import FaultPolicy
from dispy.model import ClusterOrder, ComputationId, FilePart, JobId, JobStatus, LinkId, NodeId, Role
from dispy.runtime.inbox import NewsEnd, ResultInbox
from dispy.runtime.sources import open_source
from dispy.wire.messages import STDOUT, Hello, Message
from dispy.wire.owner import Owner
from dispy_testing.simulation.links import End
from dispy_testing.simulation.node import SimulatedNode, make_hello
from dispy_testing.simulation.printing import EVERY, Onlooker
from dispy_testing.simulation.scenario import Scenario
from dispy_testing.simulation.story import Broken, Story
from dispy_testing.simulation.timeline import Alarm, Timeline
from dispy_testing.simulation.truth import Excuse, Truth, client_ident

FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 3.0
USE_S = 0.1
"""Longest time until output is used up."""

Dial = Callable[["SimulatedClient", SimulatedNode, Callable[[bool], None]], None]
"""Tries to connect; tells whether that worked when it is known, and the client hears of the link."""

_EXPECTED = ("already connected to this node", "the node has started again")
"""Beginnings of the reasons for which a scheduler closes links of correct nodes."""


class SimulatedClient:
    """One client.

    Args:
        number: tells it from other clients.
        policy: its fault policy.
        dial: makes connections.
        timeline: the clock.
        rng: where all chances come from.
        scenario: what kind of run it is.
        truth: told what the application is told.
        story: told what happens.
    """

    def __init__(
        self,
        number: int,
        policy: FaultPolicy,
        dial: Dial,
        timeline: Timeline,
        rng: random.Random,
        scenario: Scenario,
        truth: Truth,
        story: Story,
    ) -> None:
        self.number = number
        self.name = f"c{number}"
        self.ident = client_ident(number)
        self.engine = SchedulerEngine(policy, order=rng.choice(list(ClusterOrder)))
        self.up = True
        self.links: dict[LinkId, End] = {}
        """Ends whose peers have greeted."""
        self.ends: dict[LinkId, End] = {}
        """All ends that are not over."""
        self.files: Mapping[str, bytes] = {}
        self.closed: set[ComputationId] = set()
        self.violations: list[str] = []
        self.targets: dict[str, float] = {}
        """Name of each node that it keeps a link to -> pause before the next attempt."""
        self._dial = dial
        self._timeline = timeline
        self._rng = rng
        self._scenario = scenario
        self._truth = truth
        self._story = story
        self.pieces = 0
        """Pieces of output that it was told of."""
        self._onlookers: dict[JobId, Onlooker] = {}
        self._inboxes: dict[LinkId, ResultInbox] = {}
        self._dialled: dict[LinkId, SimulatedNode] = {}
        self._redial: dict[LinkId, Callable[[bool], None]] = {}
        self._last_link = 0
        self._handled = 0
        self._alarm = Alarm(timeline, self.engine.next_deadline, partial(self.handle, ev.TimePassed()))
        self._carry_out: dict[type, Callable[[Any], None]] = {
            fx.SendMessage: self._send_message,
            fx.SendStream: self._send_stream,
            fx.CloseLink: self._close_link,
            fx.TellJobs: self._tell_jobs,
            fx.TellNode: self._tell_node,
            fx.TellClosed: self._tell_closed,
            fx.TellFile: self._tell_file,
            fx.TellOutput: self._tell_output,
            fx.TellLog: self._tell_log,
            fx.Report: self._report,
        }

    def handle(self, event: ev.Event) -> None:
        """Feed the engine and do what it says."""
        if not self.up:
            return
        self._story.tell(self._timeline.now, self.name, event)
        carry_out = self._carry_out
        for effect in self.engine.handle(event, self._timeline.now):
            carry_out[type(effect)](effect)
        self._alarm.renew()
        self._handled += 1
        if self._handled % self._scenario.check_every == 0:
            self.engine.check_invariants()

    # -- the application

    def add(self, computation: Computation) -> None:
        """Open a computation."""
        self.handle(ev.ComputationAdded(computation))

    def submit(self, jobs: list[Job]) -> None:
        """Submit jobs."""
        for job in jobs:
            if job.computation in self.closed or self._is_closing(job.computation):
                self._excuse(job.id, Excuse.CLOSED)
        self.handle(ev.JobsSubmitted(jobs))

    def cancel(self, jobs: list[JobId]) -> None:
        """End jobs."""
        for job in jobs:
            self._excuse(job, Excuse.CANCELLED)
        self.handle(ev.CancelRequested(jobs))

    def close(self, ident: ComputationId, *, terminate: bool) -> None:
        """Close a computation."""
        for job in self.engine.jobs.values():
            if job.computation == ident:
                self._excuse(job.id, Excuse.CLOSED)
        self.handle(ev.ComputationClosing(ident, terminate))

    def _is_closing(self, ident: ComputationId) -> bool:
        computation = self.engine.computations.get(ident)
        return computation is None or computation.closing

    def _excuse(self, job: JobId, excuse: Excuse) -> None:
        self._truth.jobs[self.number, job].excuse |= excuse

    def die(self) -> list[End]:
        """End without a word; give the ends of connections that nobody holds any more."""
        self.up = False
        self._alarm.stop()
        ends = list(self.ends.values())
        self.ends.clear()
        self.links.clear()
        return ends

    def leave(self) -> None:
        """End as a program does that is done."""
        for end in self.die():
            if end.open:
                end.connection.goodbye(end, "the other side has ended", final=True)
            end.vanish()

    # -- links

    def want(self, node: SimulatedNode) -> None:
        """Keep a link to a node from now on."""
        if node.name not in self.targets:
            self.targets[node.name] = FIRST_PAUSE_S
            self._try(node)

    def _try(self, node: SimulatedNode) -> None:
        if not self.up or node.gone:
            return
        known = self.engine.nodes.get(node.id)
        if known is not None and known.state is NodeState.CONNECTED:
            self._try_later(node, worked=False)
        else:
            self._dial(self, node, lambda worked: self._try_later(node, worked=worked))

    def _try_later(self, node: SimulatedNode, *, worked: bool) -> None:
        pause_s = FIRST_PAUSE_S if worked else self.targets[node.name]
        self.targets[node.name] = min(pause_s * 1.5, LAST_PAUSE_S)
        self._timeline.after(pause_s * self._rng.uniform(0.8, 1.2), lambda: self._try(node))

    def hello(self) -> Hello:
        """Make the greeting of a link that begins now."""
        return make_hello(Role.CLIENT, self.ident, self.name, 1, 0)

    def next_link(self, node: SimulatedNode, redial: Callable[[bool], None]) -> LinkId:
        """Number a link to *node*; *redial* is called when it is over."""
        self._last_link += 1
        number = LinkId(self._last_link)
        self._dialled[number] = node
        self._redial[number] = redial
        return number

    def greeted(self, end: End, hello: Hello) -> None:
        """Take in a node."""
        self.links[end.number] = end
        is_awaited = partial(self.engine.is_awaited, end.number)
        self._inboxes[end.number] = ResultInbox(lambda computation, news: _Sink(), is_awaited)
        name = self._dialled[end.number].name
        self.handle(ev.LinkOpened(end.number, hello, (name, 1), name, owner=Owner(proof=hello.proof)))

    def message_received(self, end: End, message: Message) -> None:
        """Take a message; what has a large body waits for that."""
        inbox = self._inboxes.get(end.number)
        if inbox is None:
            return
        for one in inbox.hold_back(message):
            self._pass_on(end.number, one)

    def chunk_received(self, end: End, stream: int, data: bytes | memoryview) -> None:
        """Take a piece of a result."""
        inbox = self._inboxes.get(end.number)
        if inbox is not None:
            inbox.add_chunk(stream, data)
            end.connection.consumed(end, stream, len(data))

    def stream_finished(self, end: End, stream: int, reason: str) -> None:
        """Take the end of a result."""
        inbox = self._inboxes.get(end.number)
        done = inbox.finish(stream, reason) if inbox is not None else None
        if done is not None:
            self._pass_on(end.number, done)

    def _pass_on(self, link: LinkId, what: Message | NewsEnd) -> None:
        if isinstance(what, NewsEnd):
            self.handle(ev.FileArrived(link, what.computation, what.news, what.taken))
        else:
            self.handle(ev.MessageReceived(link, what))

    def ended(self, end: End, reason: str, *, final: bool) -> None:
        """Take in that a link is over."""
        self.ends.pop(end.number, None)
        if not self.up:
            return
        redial = self._redial.pop(end.number)
        del self._dialled[end.number]
        if self.links.pop(end.number, None) is not None:
            del self._inboxes[end.number]
            self.handle(ev.LinkClosed(end.number, reason, final))
        redial(end.greeted)

    # -- effects

    def _send_message(self, effect: fx.SendMessage) -> None:
        end = self.links.get(effect.link)
        if end is not None:
            end.send(effect.message)

    def _send_stream(self, effect: fx.SendStream) -> None:
        end = self.links.get(effect.link)
        if end is not None:
            source = effect.source
            data = self.files[source.path][source.skip :] if isinstance(source, FilePart) else source
            end.send_stream(effect.stream, open_source(data), effect.size)

    def _close_link(self, effect: fx.CloseLink) -> None:
        if not effect.reason.startswith(_EXPECTED):
            self.violations.append(effect.reason)
        end = self.links.get(effect.link)
        if end is None:
            raise LocalProtocolError(f"the engine closes link {effect.link}, which is gone")
        end.close(effect.reason)

    def _tell_jobs(self, effect: fx.TellJobs) -> None:
        for change in effect.changes:
            self._story.tell(
                self._timeline.now, self.name, f"told: {change.job} is {change.status.name} {change.reason}"
            )
            self._truth.told(self.number, change)
            if change.status is JobStatus.RUNNING and change.job.id % EVERY == 0:
                self._look_at(change.job)

    def _look_at(self, job: Job) -> None:
        """Look at the output of a job that runs."""
        if job.id not in self._onlookers:
            looker = self._onlookers[job.id] = Onlooker(job.id)
            event = ev.WatchWanted(job.id, job.handle, job.id, STDOUT, looker)
            self._timeline.after(USE_S * self._rng.random(), lambda: self.handle(event))

    def _tell_output(self, effect: fx.TellOutput) -> None:
        looker: Onlooker = effect.viewer
        looker.take(effect)
        self.pieces += 1
        event = ev.OutputUsed(effect.number, looker.attempt, looker.at)
        self._timeline.after(USE_S * self._rng.random(), lambda: self.handle(event))

    def _tell_log(self, effect: fx.TellLog) -> None:
        raise Broken(f"{self.name} is told that {effect.job} has logged, which no job does")

    def _tell_node(self, effect: fx.TellNode) -> None:
        if not isinstance(effect.node, Node):
            raise Broken(f"{self.name} is told of {effect.node!r}, which is no node")

    def _tell_closed(self, effect: fx.TellClosed) -> None:
        if effect.computation.id in self.closed:
            raise Broken(f"{self.name} is told twice that {effect.computation.id} is closed")
        if effect.computation.pending:
            raise Broken(
                f"{effect.computation.id} is closed and {effect.computation.pending} jobs are pending"
            )
        self.closed.add(effect.computation.id)

    def _tell_file(self, effect: fx.TellFile) -> None:
        self._story.tell(self._timeline.now, self.name, f"told: a file was sent {effect.reason}")

    def _report(self, effect: fx.Report) -> None:
        self._story.tell(self._timeline.now, self.name, f"reports: {effect.text}")

    def uses(self, node: NodeId) -> bool:
        """Tell whether it has a link to a node."""
        known = self.engine.nodes.get(node)
        return known is not None and known.state is NodeState.CONNECTED


class _Sink:
    """Where files of jobs go."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Throw it away."""

    def finish(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""
