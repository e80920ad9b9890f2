"""The node at run time: links to clients, runners, spool files, around the node engine."""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from dispy.errors import DispyError, UsageError
from dispy.interfaces import Executor, ExecutorRequest, Peer
from dispy.model import Avail, ComputationId, LinkId, Role
from dispy.runtime.door import Door, Visit
from dispy.runtime.greeting import make_hello
from dispy.runtime.link import Link
from dispy.runtime.sources import FileSource
from dispy.runtime.sparing import SparingLog, SparingLogs
from dispy.runtime.trust import owner_of, proof_to, roles_of
from dispy.wire.messages import FileOffer
from dispy.wire.session import (
    ChunkReceived,
    Greeted,
    MessagesReceived,
    PeerSilent,
    Session,
    SessionEvent,
    StreamFinished,
)
from dispy_node.addresses import local_address, own_addresses
from dispy_node.avail import choose_memory, measure_avail
from dispy_node.confine.accounts import Account, find_account
from dispy_node.confine.confinement import Confinement, refuse_as_job_executor
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.node import NodeEngine
from dispy_node.engine.records import HostedComputation, PartKey, Spooled
from dispy_node.furnishing import furnish, needs_copies
from dispy_node.keeping import find_files, has_digest
from dispy_node.parts import Parts
from dispy_node.resources import plain_variables
from dispy_node.rules import FREELY, OwnerRules, keep_hours
from dispy_node.runners import RunnerProcess
from dispy_node.spooling import Joined, StreamInbox
from dispy_node.storage import StateFolder, explain_os_error

log = logging.getLogger("dispy.node")

CLIENT_LINES = 40
"""Different warnings about clients of one key or certificate that are logged in a minute; the others are counted."""

VISIT_LINES = 1024
"""The same for lines about their coming and going: more than there are when all come at once, and go."""

AVAIL_S = 30.0
"""How often it is measured what the machine has free."""

EXPIRE_S = 60.0
"""How often it is looked whether parts of files have waited too long."""


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """What the node tells about itself."""

    name: str
    cpus: int
    addresses: tuple[str, ...] = ()
    """Under which others reach it; empty: those that the machine has at the moment."""
    resources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Name -> items that jobs can have, each for itself."""


class NodeDaemon:
    """A node in one trio task tree. `serve_link` may be called for as many connections as come.

    Args:
        executor: gives the executor plugin of a name, or raises PluginNotInstalled.
        confinement: what the node's owner wants jobs to be confined by; None: nothing.
        max_file_bytes: largest file that is taken from clients or sent by jobs; 0 for no limit.
        force_cleanup: let no files stay, whatever clients want.
        rules: when and for whom the owner wants jobs to be run.
    """

    def __init__(
        self,
        identity: NodeIdentity,
        state: StateFolder,
        executor: Callable[[str], Executor],
        confinement: Confinement | None = None,
        *,
        rules: OwnerRules = FREELY,
        max_file_bytes: int = 0,
        force_cleanup: bool = False,
    ) -> None:
        self.engine = NodeEngine(
            cpus=identity.cpus,
            memory_bytes=choose_memory(),
            keep_results_s=rules.keep_results_s,
            max_file_bytes=max_file_bytes,
            serve=rules.serve,
            client_shutdown=rules.client_shutdown,
            resources=identity.resources,
        )
        self.rules = rules
        self._max_file_bytes = max_file_bytes
        self._force_cleanup = force_cleanup
        self.identity = identity
        self._state = state
        self._parts = Parts(state.remove_spooled, trio.current_time)
        self._executor = executor
        self._confinement = confinement or Confinement()
        self._links: dict[LinkId, Link] = {}
        self._inboxes: dict[LinkId, StreamInbox] = {}
        self._runners: dict[ComputationId, RunnerProcess] = {}
        self._last_link = 0
        self._client_log = SparingLogs(
            log, "%d more warnings about clients with %s were left out", lines=CLIENT_LINES
        )
        self._visit_log = SparingLogs(
            log, "%d more lines about coming and going with %s were left out", lines=VISIT_LINES, repeats=True
        )
        self._report_log = SparingLog(log, "%d more warnings about clients were left out", lines=CLIENT_LINES)
        self._nursery: trio.Nursery | None = None
        self._timer = trio.Event()
        self._trash = trio.Event()
        """Set when folders were put away that are to be removed."""
        self.drain_begun = trio.Event()
        """Set when the node takes no more jobs, whoever wanted that: its owner, or his rules."""
        self.drained = trio.Event()
        """Set when a drain is complete."""
        self._carry_out: dict[type, Callable[..., None]] = {
            fx.SendMessage: self._send_message,
            fx.SendStream: self._send_stream,
            fx.CloseLink: self._close_link,
            fx.FindFiles: self._find_files,
            fx.StartRunner: self._start_runner,
            fx.RunJobs: self._run_jobs,
            fx.SetSlots: self._set_slots,
            fx.CancelAttempts: self._cancel_attempts,
            fx.RecallAttempts: self._recall_attempts,
            fx.CloseRunner: self._close_runner,
            fx.RemoveFolder: self._remove_folder,
            fx.RemoveSpooled: self._remove_spooled,
            fx.DropStream: self._drop_stream,
            fx.ReceiveFile: self._receive_file,
            fx.KeepParts: self._keep_parts,
            fx.ForgetParts: self._forget_parts,
            fx.AnswerNews: self._answer_news,
            fx.WatchAttempt: self._watch_attempt,
            fx.PlaceFile: self._place_file,
            fx.KeepData: self._keep_data,
            fx.ForgetData: self._forget_data,
            fx.Report: self._report,
            fx.EndDaemon: self._end,
        }

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled; then end all runners with their jobs."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._keep_time)
            nursery.start_soon(self._watch_avail)
            nursery.start_soon(self._expire_parts)
            nursery.start_soon(self._empty_trash)
            if self.rules.hours is not None:
                await nursery.start(keep_hours, self.rules.hours, self.handle)
            task_status.started()

    def handle(self, event: ev.Event) -> None:
        """Feed the engine and do what it says."""
        carry_out = self._carry_out
        for effect in self.engine.handle(event, trio.current_time()):
            carry_out[type(effect)](effect)
        if self.engine.draining:
            self.drain_begun.set()
        self._timer.set()

    def drain(self) -> None:
        """Take no more jobs; `drained` is set when the last has ended."""
        self.handle(ev.DrainRequested())

    async def _keep_time(self) -> None:
        while True:
            self._timer = trio.Event()
            deadline = self.engine.next_deadline()
            with trio.move_on_at(float("inf") if deadline is None else deadline) as scope:
                await self._timer.wait()
            if scope.cancelled_caught:
                self.handle(ev.TimePassed())
            else:
                await trio.sleep(0.02)  # deadlines are seconds away; see dispy.runtime.driver

    async def _empty_trash(self) -> None:
        while True:
            await self._trash.wait()
            self._trash = trio.Event()
            await trio.to_thread.run_sync(self._state.empty_trash)

    async def _expire_parts(self) -> None:
        while True:
            await trio.sleep(EXPIRE_S)
            self._parts.expire()

    async def _watch_avail(self) -> None:
        while True:
            await trio.sleep(AVAIL_S)
            avail = self._measure_avail()
            if avail is not None:
                self.handle(ev.AvailMeasured(avail))

    def _measure_avail(self) -> Avail | None:
        try:
            return measure_avail(self._state.path)
        except OSError as error:
            log.warning("%s", explain_os_error(error, "it cannot be measured what is free here"))
            return None

    # ---- links

    async def serve_link(
        self, stream: trio.abc.Stream, peer: Peer, *, visit: Visit | None = None, door: Door | None = None
    ) -> str:
        """Serve one connection until it ends; return why. The stream is closed in any case.

        What one link raises is logged, and ends that link only.

        Args:
            visit: admitted when the client has greeted.
            door: tells, within bounds, of those that never do.
        """
        reason = "internal error at the node"

        async def serve() -> None:
            nonlocal reason
            reason = await self._serve_link(stream, peer, visit, door)

        try:
            await self._contain(f"the link to {peer.host}", serve)
        finally:
            await trio.aclose_forcefully(stream)
        return reason

    async def _contain(self, what: str, task: Callable[[], Awaitable[None]]) -> bool:
        """Run *task*; return False if it raised, which is logged. This is the place that catches everything."""
        done = True
        try:
            await task()
        except* Exception:
            done = False
            log.exception("a bug in dispy, or in a plugin, has ended %s; the node goes on", what)
        return done

    async def _serve_link(
        self, stream: trio.abc.Stream, peer: Peer, visit: Visit | None, door: Door | None
    ) -> str:
        self._last_link += 1
        number = LinkId(self._last_link)
        avail = self._measure_avail()
        free = None
        if avail is not None:
            free = (avail.cpu_percent, avail.memory_bytes, avail.disk_bytes, avail.swap_percent)
        hello = make_hello(
            Role.NODE,
            self._state.node,
            name=self.identity.name,
            epoch=self._state.epoch,
            cpus=self.engine.cpus,
            addresses=self.identity.addresses or own_addresses(),
            avail=free,
            proof=proof_to(peer, self._state.secret),
            refusal=self.engine.refusal,
            resources={name: len(items) for name, items in self.engine.resources.items()},
        )
        session = Session(
            hello, now=trio.current_time(), accepts=frozenset({Role.CLIENT}), roles=roles_of(peer)
        )
        link = Link(number, stream, peer, session)
        self._links[number] = link
        inbox = self._inboxes[number] = StreamInbox(number, self._state, self._parts)
        reason = ""
        try:
            reason = await link.run(partial(self._received, visit))
        finally:
            del self._links[number]
            del self._inboxes[number]
            inbox.close()
            if session.peer is not None:
                reason = reason or "cancelled"
                self._visit_log.tell(
                    _account(peer),
                    logging.INFO,
                    "client %s at %s left: %s",
                    session.peer.name,
                    peer.host,
                    reason,
                )
                self.handle(ev.LinkClosed(number, reason, final=link.final))
            elif reason:  # else whoever has cancelled this says why
                # Who connects and leaves without a word looked whether the port is open, or has changed its mind.
                level = logging.WARNING if link.bytes_received else logging.INFO
                text = "connection from %s refused: %s"
                if peer.identity is None and door is not None:
                    door.tell_refusal(level, text, peer.host, reason)
                else:
                    self._client_log.tell(_account(peer), level, text, peer.host, reason)
        return reason

    def _received(self, visit: Visit | None, link: Link, events: Sequence[SessionEvent]) -> None:
        inbox = self._inboxes[link.number]
        for event in events:
            match event:
                case MessagesReceived(messages):
                    for message in messages:
                        inbox.announce(message)
                        self.handle(ev.MessageReceived(link.number, message))
                case ChunkReceived(stream, data):
                    inbox.add_chunk(stream, data)
                    link.consumed(stream, len(data))
                case StreamFinished(stream, reason):
                    finished = inbox.finish(stream, reason)
                    if isinstance(finished, Joined):
                        assert self._nursery is not None
                        self._nursery.start_soon(self._check_joined, finished)
                    elif finished is not None:
                        self.handle(finished)
                case Greeted(hello):
                    who = _account(link.peer)
                    refusal = "" if visit is None else visit.admit(who)
                    if refusal:
                        text = "client %s at %s is not taken: %s"
                        self._client_log.tell(who, logging.WARNING, text, hello.name, link.peer.host, refusal)
                        link.close_soon(refusal)
                        return
                    self._visit_log.tell(
                        who,
                        logging.INFO,
                        "client %s at %s connected (%s; dispy %s)",
                        hello.name,
                        link.peer.host,
                        who,
                        hello.version,
                    )
                    owner = owner_of(link.peer, hello)
                    told = link.session.hello
                    self.handle(ev.LinkOpened(link.number, hello, told.cpus, owner, told.refusal))
                case PeerSilent():
                    pass  # the link ends; the client has its lease to return

    async def _check_joined(self, joined: Joined) -> None:
        """See, in a thread, whether parts of a file make the file that was offered, and tell the engine."""
        reason = "internal error at the node, whose log tells more"

        async def check() -> None:
            nonlocal reason
            try:
                same = await trio.to_thread.run_sync(has_digest, joined.spooled.path, joined.key.digest)
            except OSError as error:
                reason = explain_os_error(error, "what has come could not be read")
            else:
                reason = "" if same else "what came in parts is not what was offered: make the cluster again"

        await self._contain("the look at a file that came in parts", check)
        if reason:
            self._state.remove_spooled(joined.spooled)
            self.handle(ev.StreamFailed(joined.link, joined.stream, reason))
            return
        inbox = self._inboxes.get(joined.link)
        if inbox is None or inbox.closed:  # lost meanwhile
            self._parts.keep(joined.key, joined.spooled)
        else:
            self.handle(ev.StreamStored(joined.link, joined.stream, joined.spooled))

    # ---- runners

    def _find_files(self, effect: fx.FindFiles) -> None:
        assert self._nursery is not None
        computation = effect.computation
        try:
            folder = self._folder_of(computation)
        except UsageError as error:
            self.handle(ev.FilesFound(computation, {}, str(error)))
        else:
            self._nursery.start_soon(self._find_files_in, computation, folder)

    async def _find_files_in(self, computation: HostedComputation, folder: Path) -> None:
        """Look for files in a thread, as there may be much to read."""
        found: dict[str, str] = {}
        offers = [offer for offer in computation.offer.files if not offer.stream]
        reason = "internal error at the node, whose log tells more"

        async def find() -> None:
            nonlocal found, reason
            try:
                if self._is_shared(computation):  # else what is there is about to be removed
                    found = await trio.to_thread.run_sync(find_files, folder, offers)
                reason = ""
            except OSError as error:
                reason = explain_os_error(error, "it cannot be seen which files are there")
            except UsageError as error:
                reason = str(error)

        await self._contain(f"the search for files of {computation.offer.name!r}", find)
        parts = (
            {} if reason else self._take_parts(computation, [one for one in offers if one.path not in found])
        )
        self.handle(ev.FilesFound(computation, found, reason, parts))

    def _take_parts(self, computation: HostedComputation, offers: Sequence[FileOffer]) -> dict[str, Spooled]:
        """Give the parts of files that are kept for a computation's client: path -> the beginning of the file."""
        client = self.engine.clients.get(computation.client)
        parts: dict[str, Spooled] = {}
        if client is None:
            return parts
        for offer in offers:
            part = self._parts.take(PartKey(client.id, client.owner, offer.digest, offer.size))
            if part is not None:
                parts[offer.path] = part
        return parts

    def _start_runner(self, effect: fx.StartRunner) -> None:
        assert self._nursery is not None
        computation = effect.computation
        # It is known from now on: what it is told before it is up, such as to close, waits in it.
        try:
            folder = self._folder_of(computation)
            spool = self._state.make_runner_spool()
        except OSError as error:
            reason = explain_os_error(error, "its runner could not be started")
            self.handle(ev.RunnerFailed(computation.id, reason))
            return
        except UsageError as error:
            self.handle(ev.RunnerFailed(computation.id, str(error)))
            return
        runner = self._runners[computation.id] = RunnerProcess(computation.id, spool, self.handle)
        offer = computation.offer
        # The client is here now; a little later it may be gone, and with it what tells who it is.
        owner = self._owner_of(computation)
        request = ExecutorRequest(offer.name, folder, offer.isolation, spool, self._state.path)
        self._nursery.start_soon(self._serve_runner, computation, runner, request, owner)

    async def _serve_runner(
        self, computation: HostedComputation, runner: RunnerProcess, request: ExecutorRequest, owner: str
    ) -> None:
        """See a runner through; what that raises is logged, and ends its computation only."""
        what, spool = f"the runner of {computation.offer.name!r}", request.spool
        try:
            done = await self._contain(what, partial(self._run_runner, computation, runner, request, owner))
        finally:
            await self._clear_confinement(request)
        self._state.remove_runner_spool(spool)
        self._trash.set()
        if (
            self._runners.get(computation.id) is runner
        ):  # else the next one of this computation is there already
            del self._runners[computation.id]
        if not done:
            self.handle(ev.RunnerFailed(computation.id, "internal error at the node, whose log tells more"))

    async def _clear_confinement(self, request: ExecutorRequest) -> None:
        if self._confinement.layers:
            with trio.CancelScope(shield=True):
                clear = partial(trio.to_thread.run_sync, self._confinement.finished, request)
                await self._contain(f"what confined {request.name!r}", clear)

    async def _run_runner(
        self, computation: HostedComputation, runner: RunnerProcess, request: ExecutorRequest, owner: str
    ) -> None:
        offer = computation.offer
        try:
            executor = self._executor(offer.executor)
            refuse_as_job_executor(executor)
            folder = await self._furnish(computation, request, owner)
            plan = self._confinement.wrap(request, executor.plan(request))
            is_shared = folder != self._state.computations / computation.id
            self._state.hand_over(plan.user, *([] if is_shared else [folder]), request.spool)
            runner.start(
                plan,
                folder,
                setup_timeout_s=offer.setup_timeout_s,
                let_through=self._confinement.let_through,
                variables=plain_variables(self.engine.resources),
            )
        except OSError as error:
            self.handle(
                ev.RunnerFailed(computation.id, explain_os_error(error, "its runner could not be started"))
            )
            return
        except DispyError as error:
            self.handle(ev.RunnerFailed(computation.id, str(error)))
            return
        runner.configure(
            {
                "isolation": offer.isolation,
                "start_method": offer.start_method,
                "folder": str(folder),
                "spool": str(request.spool),
                "program": plan.program,
                "node": self.identity.name,
                "address": self._address_for(computation),
                "computation": offer.name,
                "max_file_bytes": self._max_file_bytes,
                "live": offer.live,
                "log_level": offer.log_level,
            },
            computation.code,
            computation.setup_args,
        )
        await runner.serve()

    async def _furnish(self, computation: HostedComputation, request: ExecutorRequest, owner: str) -> Path:
        """Make the folder of a computation, with its files in it.

        Raises:
            OSError, DispyError: that cannot be done.
        """
        folder, account = request.folder, None
        if self._is_shared(computation):
            user = self._confinement.user
            account = find_account(user) if user else None
            await trio.to_thread.run_sync(self._enter, computation, owner, account)
        else:
            self._state.make_folder(computation.id)
            self._trash.set()  # it may have been there
        furnishing = partial(furnish, self._state, computation, folder, account)
        try:
            if needs_copies(computation):
                await trio.to_thread.run_sync(furnishing)
            else:
                furnishing()
        except OSError as error:
            raise DispyError(explain_os_error(error, "its files could not be put in their places")) from error
        return folder

    def _is_shared(self, computation: HostedComputation) -> bool:
        return bool(computation.offer.dest_path or computation.offer.keep_files)

    def _folder_of(self, computation: HostedComputation) -> Path:
        """Tell the folder of a computation.

        Raises:
            UsageError: the client's ``dest_path`` leads elsewhere.
        """
        if not self._is_shared(computation):
            return self._state.computations / computation.id
        return self._state.kept.folder(
            self._owner_of(computation), computation.offer.dest_path or computation.id
        )

    def _owner_of(self, computation: HostedComputation) -> str:
        """Tell whose shared folders a computation uses: those of whoever comes from one address with one credential."""
        client = self.engine.clients.get(computation.client)
        link = self._links.get(client.link) if client is not None and client.link is not None else None
        if link is None:
            return ""
        identity = link.peer.identity
        return f"{identity.account if identity else ''} at {link.peer.host}"

    def _enter(self, computation: HostedComputation, owner: str, account: Account | None) -> None:
        def give(descriptor: int) -> None:
            if account is not None:
                os.fchown(descriptor, account.uid, account.gid)

        offer = computation.offer
        folder = self._state.kept.enter(
            computation.id,
            owner,
            offer.dest_path or computation.id,
            keep=offer.keep_files and not self._force_cleanup,
            made=give,
        )
        if offer.keep_files:
            log.info("files of %r stay in %s", offer.name, folder)

    def _address_for(self, computation: HostedComputation) -> str:
        """Tell the address by which the computation's client reaches this node."""
        client = self.engine.clients.get(computation.client)
        link = self._links.get(client.link) if client is not None and client.link is not None else None
        return local_address("" if link is None else link.peer.host)

    def _run_jobs(self, effect: fx.RunJobs) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            if effect.limits:
                runner.limit_jobs(effect.limits)
            if effect.granted:
                runner.grant_jobs(effect.granted)
            runner.run_jobs(list(effect.jobs), effect.carrying)

    def _set_slots(self, effect: fx.SetSlots) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.set_slots(effect.slots)

    def _cancel_attempts(self, effect: fx.CancelAttempts) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.cancel(list(effect.attempts))

    def _recall_attempts(self, effect: fx.RecallAttempts) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.recall(list(effect.attempts))

    def _answer_news(self, effect: fx.AnswerNews) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.answer(effect.attempt, effect.number, taken=effect.taken)

    def _watch_attempt(self, effect: fx.WatchAttempt) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.watch(effect.message)

    def _place_file(self, effect: fx.PlaceFile) -> None:
        runner, file = self._runners.get(effect.computation), effect.message.file
        reason = ""
        try:
            if runner is None:
                raise DispyError("the computation is gone")
            self._state.place_file(
                runner.folder,
                file.path,
                effect.spooled,
                file.mode,
                file.modified_at,
                account=runner.account,
            )
        except OSError as error:
            reason = explain_os_error(error, "it could not be put in its place")
        except DispyError as error:
            reason = str(error)
        if reason:
            self._state.remove_spooled(effect.spooled)
        self.handle(ev.FilePlaced(effect.client, effect.message, reason))

    def _keep_data(self, effect: fx.KeepData) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.keep_data(effect.data, effect.spooled)
        else:
            self._state.remove_spooled(effect.spooled)

    def _forget_data(self, effect: fx.ForgetData) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.forget_data(effect.data)

    def _close_runner(self, effect: fx.CloseRunner) -> None:
        runner = self._runners.get(effect.computation)
        if runner is not None:
            runner.close(terminate=effect.terminate)

    # ---- other effects

    def _send_message(self, effect: fx.SendMessage) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            link.send(effect.message)

    def _send_stream(self, effect: fx.SendStream) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            link.send_stream(effect.stream, FileSource(effect.source.path), effect.source.size)

    def _close_link(self, effect: fx.CloseLink) -> None:
        link = self._links.get(effect.link)
        if link is not None:
            text = "closing the link to %s: %s"
            self._client_log.tell(_account(link.peer), logging.WARNING, text, link.peer.host, effect.reason)
            link.close_soon(effect.reason)
            # The client may be back on another link, and offer again what has half arrived on this one.
            self._inboxes[effect.link].close()

    def _remove_folder(self, effect: fx.RemoveFolder) -> None:
        self._state.remove_folder(effect.computation)
        self._trash.set()

    def _remove_spooled(self, effect: fx.RemoveSpooled) -> None:
        for spooled in effect.files:
            self._state.remove_spooled(spooled)

    def _drop_stream(self, effect: fx.DropStream) -> None:
        inbox = self._inboxes.get(effect.link)
        if inbox is not None:
            inbox.drop(effect.stream)

    def _receive_file(self, effect: fx.ReceiveFile) -> None:
        inbox = self._inboxes.get(effect.link)
        if inbox is not None:
            inbox.receive(effect.stream, effect.key, effect.part)

    def _keep_parts(self, effect: fx.KeepParts) -> None:
        for key, spooled in effect.parts:
            self._parts.keep(key, spooled)

    def _forget_parts(self, effect: fx.ForgetParts) -> None:
        self._parts.forget(effect.client, effect.owner)

    def _report(self, effect: fx.Report) -> None:
        if effect.warning:
            self._report_log.tell(logging.WARNING, "%s", effect.text)
        else:
            log.info("%s", effect.text)

    def _end(self, effect: fx.EndDaemon) -> None:
        self.drained.set()


def _account(peer: Peer) -> str:
    """Say on whose account a client counts: certificates of one key can be made at will."""
    if peer.identity is None:
        return "unknown"
    return peer.identity.account or peer.identity.name
