"""Carries out what the scheduler engine decides: links, streams, timers, and news for the application."""

from __future__ import annotations

import logging
import os
import platform
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import trio

from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.records import Computation, Job, JobState, Node, NodeState, Placement
from dispy.engine.scheduler import SchedulerEngine
from dispy.errors import UsageError
from dispy.interfaces import FaultPolicy, Peer, Transport
from dispy.logger import logger
from dispy.model import ClusterOrder, ComputationId, FilePart, JobId, LinkId, NodeId, NodeStatus, Role
from dispy.printable import printable
from dispy.runtime.dialer import LOCAL_TARGET, Dialer, Target
from dispy.runtime.greeting import make_hello
from dispy.runtime.holding import ResultMemory
from dispy.runtime.inbox import NewsEnd, ResultInbox
from dispy.runtime.landing import Landing
from dispy.runtime.link import Link
from dispy.runtime.progress import ToldSource
from dispy.runtime.resolver import Resolver
from dispy.runtime.sources import open_source
from dispy.runtime.sparing import SparingLogs
from dispy.runtime.trust import owner_of, proof_to, roles_of
from dispy.runtime.waking import Waker
from dispy.sizes import too_large
from dispy.wire.messages import Hello, JobNews, JobResults, Message, News
from dispy.wire.owner import SECRET_BYTES
from dispy.wire.session import (
    ChunkReceived,
    Greeted,
    MessagesReceived,
    PeerLeft,
    PeerSilent,
    Session,
    SessionEvent,
    StreamFinished,
    StreamSource,
)

WARNINGS = 40
"""So many different ones in a minute about what a node sends."""

HELD_BACK = (JobResults, JobNews)
"""Messages that may have to wait for streams."""


class Application(Protocol):
    """Whom the driver tells the news; called in the engine's thread, must not block."""

    def jobs_changed(self, changes: list[fx.JobChange]) -> None:
        """Jobs have a new status."""

    def node_changed(self, node: Node, status: NodeStatus, computation: Computation) -> None:
        """A node became usable for a computation, or was lost to it."""

    def closed(self, computation: Computation) -> None:
        """A computation is closed everywhere."""

    def file_sent(self, handle: Any, reason: str) -> None:
        """A node has a file, or, with a reason, it has not."""

    def output_came(self, piece: fx.TellOutput) -> None:
        """A job that is watched has printed something."""

    def job_logged(self, log: fx.TellLog) -> None:
        """A job has logged something."""

    def report(self, text: str, computation: Computation | None) -> None:
        """Something that the user should know."""


class SchedulerDriver:
    """The scheduler engine with its links. All methods but `submit` and `post` belong to the trio thread.

    Args:
        policy: decides about jobs that may have started on a node that is lost.
        transport: gives the transport of a name.
        application: is told what happens.
        memory: what nodes may fill with results.
        order: whose jobs go first where several computations want the same slots.
    """

    def __init__(
        self,
        policy: FaultPolicy,
        transport: Callable[[str], Transport],
        application: Application,
        memory: ResultMemory,
        order: ClusterOrder = ClusterOrder.FIRST,
    ) -> None:
        self._memory = memory
        self.engine = SchedulerEngine(policy, order=order)
        self.dialer: Dialer
        self._transport = transport
        self._application = application
        self._client_id = uuid.uuid4().hex
        self._secret = secrets.token_bytes(SECRET_BYTES)
        self._links: dict[LinkId, Link] = {}
        self._inboxes: dict[LinkId, ResultInbox] = {}
        self._warnings = SparingLogs(
            logger, "%d more warnings about what %s sends were left out", lines=WARNINGS
        )
        self._aliases: dict[Target, NodeId] = {}
        self._last_link = 0
        self._counted: dict[LinkId, tuple[int, int]] = {}
        self._waiting: deque[Job | Callable[[], None]] = deque()
        self._waker: Waker
        self._timer = trio.Event()
        self._carry_out: dict[type, Callable[..., None]] = {
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

    async def run(self, resolver: Resolver, started: Callable[[], None]) -> None:
        """Run until cancelled; *started* is called when everything else may be called."""
        self._waker = Waker(trio.lowlevel.current_trio_token(), self._drain)
        async with trio.open_nursery() as nursery:
            self.dialer = Dialer(
                nursery,
                resolver,
                transport=self._transport,
                serve=self._serve,
                may_dial=self._may_dial,
                report=lambda text: self._application.report(text, None),
            )
            nursery.start_soon(self._keep_time)
            started()

    # ---- from any thread

    # Jobs and functions wait in one queue. With two, a job could overtake the function that adds its computation.

    def submit(self, job: Job) -> None:
        """Hand a job over; safe from any thread, costs one wake-up for however many jobs.

        Raises:
            trio.RunFinishedError: the engine's thread has ended.
        """
        self._waiting.append(job)
        self._waker.wake()

    def post(self, function: Callable[[], None]) -> None:
        """Have *function* called soon in the engine's thread, after what was submitted and posted before.

        It must not raise: that would end the engine.

        Raises:
            trio.RunFinishedError: the engine's thread has ended.
        """
        self._waiting.append(function)
        self._waker.wake()

    def take_leftovers(self) -> list[Job]:
        """After the end of `run`: return the jobs that will never be settled."""
        leftovers = [job for job in self.engine.jobs.values() if job.state is not JobState.ABANDONED]
        leftovers += [job for job in self._waiting if isinstance(job, Job)]
        return leftovers

    # ---- in the engine's thread

    def handle(self, event: ev.Event) -> None:
        """Feed the engine and do what it says."""
        carry_out = self._carry_out
        for effect in self.engine.handle(event, trio.current_time()):
            carry_out[type(effect)](effect)
        self._timer.set()

    def cancel(self, jobs: Sequence[JobId]) -> None:
        """End these jobs."""
        self.handle(ev.CancelRequested(jobs))

    def count_bytes(self) -> None:
        """Bring ``bytes_sent`` and ``bytes_received`` of all nodes up to date."""
        for link in self._links.values():
            self._count_bytes_of(link)

    def unsent_bytes(self, placement: Placement) -> int:
        """Tell how much of the files that a node has asked for is still to be sent to it."""
        link = None if placement.node.link is None else self._links.get(placement.node.link)
        return 0 if link is None else sum(map(link.session.unsent_bytes, placement.coming))

    def _count_bytes_of(self, link: Link) -> None:
        peer = link.session.peer
        node = None if peer is None else self.engine.nodes.get(NodeId(peer.ident))
        if peer is not None and node is not None and node.owner.is_same(owner_of(link.peer, peer)):
            sent, received = self._counted.get(link.number, (0, 0))
            node.bytes_sent += link.bytes_sent - sent
            node.bytes_received += link.bytes_received - received
            self._counted[link.number] = (link.bytes_sent, link.bytes_received)

    def _drain(self) -> None:
        """Take what has waited so far; what comes meanwhile has asked for another call."""
        waiting = self._waiting
        jobs: list[Job] = []
        for _ in range(len(waiting)):
            item = waiting.popleft()
            if isinstance(item, Job):
                jobs.append(item)
                continue
            if jobs:
                self.handle(ev.JobsSubmitted(jobs))
                jobs = []
            item()
        if jobs:
            self.handle(ev.JobsSubmitted(jobs))

    async def _keep_time(self) -> None:
        while True:
            self._timer = trio.Event()
            deadline = self.engine.next_deadline()
            with trio.move_on_at(float("inf") if deadline is None else deadline) as scope:
                await self._timer.wait()
            if scope.cancelled_caught:
                self.handle(ev.TimePassed())
            else:
                # Deadlines are seconds away: looking again after each of thousands of events a second is waste.
                await trio.sleep(0.02)

    # ---- links

    def expect(self, target: Target, node: NodeId) -> None:
        """Take it that *target* leads to *node*, which has proved what the target asks for: one link is enough."""
        known = self.engine.nodes.get(node)
        if known is not None and (target.trust is None or target.trust.realm in known.realms):
            self._aliases.setdefault(target, node)

    def _may_dial(self, target: Target) -> bool:
        node = self.engine.nodes.get(self._aliases.get(target, NodeId("")))
        return node is None or node.state is not NodeState.CONNECTED

    async def _serve(self, stream: trio.abc.Stream, peer: Peer, target: Target) -> str:
        self._last_link += 1
        number = LinkId(self._last_link)
        name = f"{platform.node()}:{os.getpid()}"
        hello = make_hello(Role.CLIENT, self._client_id, name=name, proof=proof_to(peer, self._secret))
        session = Session(
            hello, now=trio.current_time(), accepts=frozenset({Role.NODE}), roles=roles_of(peer)
        )
        link = Link(number, stream, peer, session)
        self._links[number] = link
        # The embedded node is this program's own child: it may fill all that there is.
        account = self._memory.account(target, trusted=target == LOCAL_TARGET)
        is_awaited = partial(self.engine.is_awaited, number)
        warn = partial(self._warnings.tell, str(target), logging.WARNING)
        self._inboxes[number] = ResultInbox(partial(self._land, number), is_awaited, account, warn)
        reason = "cancelled"
        try:
            reason = await link.run(lambda link, events: self._received(link, events, target))
        finally:
            self._count_bytes_of(link)
            self._counted.pop(number, None)
            del self._links[number]
            self._inboxes.pop(number).close()
            if session.peer is not None:
                # The embedded node has no other link: without it, it ends, whatever it had.
                final = link.final or target == LOCAL_TARGET
                self.handle(ev.LinkClosed(number, reason, final=final))
        return reason

    def _received(self, link: Link, events: Sequence[SessionEvent], target: Target) -> None:
        for event in events:
            match event:
                case MessagesReceived(messages):
                    inbox = self._inboxes[link.number]
                    for message in messages:
                        if type(message) not in HELD_BACK:
                            self.handle(ev.MessageReceived(link.number, message))
                            continue
                        for one in inbox.hold_back(message):
                            self._pass_on(link.number, one)
                case ChunkReceived(stream, data):
                    self._inboxes[link.number].add_chunk(stream, data)
                    link.consumed(stream, len(data))
                case StreamFinished(stream, reason):
                    self._pass_on(link.number, self._inboxes[link.number].finish(stream, reason))
                case Greeted(hello):
                    self._greeted(link, hello, target)
                case PeerSilent():
                    # Nothing was heard for the whole lease: what runs there may not be waited for any longer.
                    link.final = True
                case PeerLeft():
                    pass  # the link ends, and tells so

    def _greeted(self, link: Link, hello: Hello, target: Target) -> None:
        realm = "" if target.trust is None else target.trust.realm
        owner = owner_of(link.peer, hello)
        self.handle(ev.LinkOpened(link.number, hello, target.place, link.peer.host, realm=realm, owner=owner))
        node = self.engine.nodes.get(NodeId(hello.ident))
        if node is not None and node.owner.is_same(owner):  # else somebody else says its ident
            self._aliases[target] = node.id

    def _pass_on(self, link: LinkId, what: Message | NewsEnd) -> None:
        if isinstance(what, NewsEnd):
            self.handle(ev.FileArrived(link, what.computation, what.news, what.taken))
        else:
            self.handle(ev.MessageReceived(link, what))

    def _land(self, link: LinkId, computation: str, news: News) -> Landing:
        """Begin to receive a file, if it is of a job that runs at that node.

        Raises:
            UsageError: it is refused.
            OSError: it cannot be stored.
        """
        known = self.engine.computations.get(ComputationId(computation))
        if known is None or not self.engine.is_running(link, computation, news.job, news.attempt):
            raise UsageError("the node runs no such job")
        if not known.folder:
            raise UsageError(
                'the client takes no files: its cluster has results="safe", or its working directory was removed'
            )
        problem = too_large(news.path, news.size, known.max_file_bytes, "max_file_size of the client")
        if problem:
            raise UsageError(problem)
        return Landing(known.folder, news)

    # ---- effects

    def _send_message(self, effect: fx.SendMessage) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            link.send(effect.message)

    def _send_stream(self, effect: fx.SendStream) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            source: StreamSource
            if isinstance(effect.source, FilePart):
                peer = link.session.peer
                source = ToldSource(effect.source, link.peer.host if peer is None else printable(peer.name))
            else:
                source = open_source(effect.source)
            link.send_stream(effect.stream, source, effect.size)

    def _close_link(self, effect: fx.CloseLink) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            link.close_soon(effect.reason)

    def _tell_jobs(self, effect: fx.TellJobs) -> None:
        self._application.jobs_changed(effect.changes)

    def _tell_node(self, effect: fx.TellNode) -> None:
        computation = self.engine.computations.get(effect.computation)
        if computation is not None:
            self._application.node_changed(effect.node, effect.status, computation)

    def _tell_closed(self, effect: fx.TellClosed) -> None:
        self.dialer.unwant(effect.computation.id)
        self._application.closed(effect.computation)

    def _tell_file(self, effect: fx.TellFile) -> None:
        self._application.file_sent(effect.handle, effect.reason)

    def _tell_output(self, effect: fx.TellOutput) -> None:
        self._application.output_came(effect)

    def _tell_log(self, effect: fx.TellLog) -> None:
        self._application.job_logged(effect)

    def _report(self, effect: fx.Report) -> None:
        computation = self.engine.computations.get(effect.computation or ComputationId(""))
        self._application.report(effect.text, computation)
