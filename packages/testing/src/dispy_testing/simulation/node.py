"""A node without processes, disk and network: the real engine, and around it what the daemon does.

It lives through crashes: each start is a new engine under a higher epoch, as after a restart on the same folder.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

from dispy.model import MAX_FRAME_BYTES, Avail, ComputationId, LinkId, NodeId, Role
from dispy.wire.messages import PROTOCOL_VERSION, Hello, Message
from dispy.wire.owner import Owner, make_proof
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.node import NodeEngine
from dispy_node.engine.records import HostedComputation, PartKey, Spooled
from dispy_node.parts import Parts
from dispy_node.spooling import Joined, StreamInbox
from dispy_node.storage import StateFolder
from dispy_testing.simulation.links import HEARTBEAT_S, End
from dispy_testing.simulation.runner import SimulatedRunner
from dispy_testing.simulation.scenario import Scenario
from dispy_testing.simulation.spool import SimulatedSpool, SpoolSource
from dispy_testing.simulation.story import Broken, Story
from dispy_testing.simulation.timeline import Alarm, Timeline
from dispy_testing.simulation.truth import Excuse, Truth

TASK_S = 0.005
"""Greatest time until a task of the daemon begins that starts a runner; commands before that are lost."""

RESOURCES = {"gpu": ("0", "1")}
"""What every node has besides slots."""

LOWERED_S = 10.0
"""How long after the number of slots was lowered more jobs than that may be running or starting."""


class SimulatedNode:
    """One node.

    Args:
        name: its name, also its host name.
        cpus: number of slots.
        timeline: the clock.
        rng: where all chances come from.
        scenario: rates of its own faults.
        truth: told what jobs do.
        story: told what happens.
    """

    def __init__(
        self,
        name: str,
        cpus: int,
        timeline: Timeline,
        rng: random.Random,
        scenario: Scenario,
        truth: Truth,
        story: Story,
    ) -> None:
        self.name = name
        self.id = NodeId(f"{int(name[1:]):032x}")
        self.cpus = cpus
        self.epoch = 0
        self.up = False
        self.resumed = 0
        """Files that went on where a link broke."""
        self.gone = False
        """It never starts again."""
        self.violations: list[str] = []
        self.spool_leaks = False
        """A runner died: spool files that were its own may stay until the node starts again."""
        self.load_failures = scenario.load_failures
        self.file_breaks = scenario.file_breaks
        self._breaking: set[tuple[LinkId, int]] = set()
        """Streams of links that break in their first piece."""
        self.engine: NodeEngine
        self.spool: SimulatedSpool
        self.parts: Parts
        self.runners: dict[ComputationId, SimulatedRunner] = {}
        self.started_runners: dict[SimulatedRunner, HostedComputation] = {}
        self.folders: set[ComputationId] = set()
        self.links: dict[LinkId, End] = {}
        """Ends whose peers have greeted."""
        self.ends: dict[LinkId, End] = {}
        """All ends that are not over."""
        self._inboxes: dict[LinkId, StreamInbox] = {}
        self._timeline = timeline
        self._rng = rng
        self._scenario = scenario
        self._truth = truth
        self._story = story
        self._last_link = 0
        self._handled = 0
        self._running = 0
        self._most = (cpus, 0.0)
        """Most slots of late, and until when that counts."""
        self._clock_offset = 1e9 + 1000 * rng.random()
        self._alarm: Alarm
        self._carry_out: dict[type, Callable[[Any], None]] = {
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
        self.boot()

    # -- life and death

    def boot(self) -> None:
        """Start, again or for the first time."""
        self.epoch += 1
        self.up = True
        self.spool_leaks = False
        self.engine = NodeEngine(cpus=self.cpus, resources=RESOURCES)
        self.spool = SimulatedSpool(self._rng, self._scenario.disk_failures)
        self.parts = Parts(self.spool.remove_spooled, lambda: self._timeline.now, least_bytes=1)
        self._alarm = Alarm(self._timeline, self.engine.next_deadline, partial(self.handle, ev.TimePassed()))
        self._story.tell(self._timeline.now, self.name, f"starts, epoch {self.epoch}, {self.cpus} slots")

    def fall(self) -> list[End]:
        """Die: jobs and all; give the ends of connections that nobody holds any more."""
        self.up = False
        self._alarm.stop()
        for runner in self.started_runners:
            runner.kill()
        self.started_runners.clear()
        self.runners.clear()
        self.folders.clear()
        self._inboxes.clear()
        self._breaking.clear()
        ends = list(self.ends.values())
        self.ends.clear()
        self.links.clear()
        return ends

    def crash(self) -> None:
        """Die without a word; the machine goes on and resets the connections."""
        for end in self.fall():
            end.vanish()
            end.connection.reset(lambda _: (0.01 * self._rng.random(), False))

    def stop(self, reason: str) -> None:
        """End as the operator wants it: clients are told."""
        for end in self.fall():
            if end.open:
                end.connection.goodbye(end, reason, final=True)
            end.vanish()

    def handle(self, event: ev.Event) -> None:
        """Feed the engine and do what it says."""
        if not self.up:
            return
        self._story.tell(self._timeline.now, self.name, event)
        engine = self.engine
        for effect in engine.handle(event, self._timeline.now):
            if engine is not self.engine or not self.up:
                return  # it has ended itself
            self._carry_out[type(effect)](effect)
        self._alarm.renew()
        self._handled += 1
        if self._handled % self._scenario.check_every == 0:
            engine.check_invariants()

    def change_cpus(self, cpus: int) -> None:
        """Have the operator change the number of slots."""
        self._most = (max(self.cpus, cpus, self._most[0]), self._timeline.now + LOWERED_S)
        self.cpus = cpus
        self.handle(ev.CpusChanged(cpus))

    def measure(self, avail: Avail) -> None:
        """Have the machine measured."""
        self.handle(ev.AvailMeasured(avail))

    # -- links

    def hello(self) -> Hello:
        """Make the greeting of a link that begins now."""
        resources = {name: len(items) for name, items in RESOURCES.items()}
        return make_hello(Role.NODE, self.id, self.name, self.epoch, self.engine.cpus, resources)

    def next_link(self) -> LinkId:
        """Number a link."""
        self._last_link += 1
        return LinkId(self._last_link)

    def greeted(self, end: End, hello: Hello) -> None:
        """Take in a client."""
        self.links[end.number] = end
        self._inboxes[end.number] = StreamInbox(end.number, cast(StateFolder, self.spool), self.parts)
        self.handle(ev.LinkOpened(end.number, hello, end.hello.cpus, Owner(proof=hello.proof)))

    def message_received(self, end: End, message: Message) -> None:
        """Take a message."""
        inbox = self._inboxes.get(end.number)
        if inbox is not None:
            inbox.announce(message)
            self.handle(ev.MessageReceived(end.number, message))

    def chunk_received(self, end: End, stream: int, data: bytes | memoryview) -> None:
        """Take a piece of a stream."""
        inbox = self._inboxes.get(end.number)
        if inbox is None:
            return
        if (end.number, stream) in self._breaking:
            self._breaking.remove((end.number, stream))
            inbox.add_chunk(stream, data[: self._rng.randint(1, len(data))])
            end.connection.reset(lambda _: (0.01 * self._rng.random(), False))
            end.finish("connection lost")
            return
        inbox.add_chunk(stream, data)
        end.connection.consumed(end, stream, len(data))

    def stream_finished(self, end: End, stream: int, reason: str) -> None:
        """Take the end of a stream."""
        inbox = self._inboxes.get(end.number)
        finished = inbox.finish(stream, reason) if inbox is not None else None
        if isinstance(finished, Joined):
            self._timeline.after(
                TASK_S * self._rng.random(), partial(self._check_joined, finished, self.epoch)
            )
            return
        if isinstance(finished, ev.StreamFailed):
            self._excuse_stream(end, stream)
        if finished is not None:
            self.handle(finished)

    def _check_joined(self, joined: Joined, epoch: int) -> None:
        """See that a file whose link broke is right in the end."""
        if epoch != self.epoch or not self.up:
            return
        if hashlib.sha256(self.spool.files[joined.spooled.path]).digest() != joined.key.digest:
            raise Broken(f"{self.name} has put together what was not offered: {joined}")
        self.resumed += 1
        inbox = self._inboxes.get(joined.link)
        if inbox is None or inbox.closed:
            self.parts.keep(joined.key, joined.spooled)
        else:
            self.handle(ev.StreamStored(joined.link, joined.stream, joined.spooled))

    def ended(self, end: End, reason: str, *, final: bool) -> None:
        """Take in that a link is over."""
        self.ends.pop(end.number, None)
        if self.links.pop(end.number, None) is not None:
            self._inboxes.pop(end.number).close()
            self.handle(ev.LinkClosed(end.number, reason, final))

    def _excuse_stream(self, end: End, stream: int) -> None:
        """Note whose body could not be stored."""
        for client in self.engine.clients.values():
            _, attempt = (
                client.awaited.get(stream, (None, None)) if client.link == end.number else (None, None)
            )
            if attempt is not None:
                self._excuse([attempt.key[0]], client.id, Excuse.NOT_STORED)
            if client.link == end.number and stream in client.sharing:
                computation, number = client.sharing[stream]
                lacking = [one.key[0] for one in computation.attempts.values() if number in one.needs]
                self._excuse(lacking, client.id, Excuse.NOT_STORED)

    def _excuse(self, jobs: list[int], client: str, excuse: Excuse) -> None:
        for number in jobs:
            job = self._truth.find(client, number)
            if job is not None:
                job.excuse |= excuse

    # -- runners

    def kill_runner(self, runner: SimulatedRunner, reason: str) -> None:
        """Have a runner die."""
        hosted = self.started_runners[runner]
        self._excuse([key[0] for key in hosted.attempts], hosted.client, Excuse.RUNNER_DIED)
        self.spool_leaks = True
        runner.die(reason)

    def _find_files(self, effect: fx.FindFiles) -> None:
        """Find some files that were offered by hash, others not, after a while."""
        computation, epoch = effect.computation, self.epoch
        offers = [offer for offer in computation.offer.files if not offer.stream]
        found = {offer.path: offer.path for offer in offers if self._rng.random() < 0.3}
        reason = "the disk is broken" if self._rng.random() < self.load_failures else ""

        def tell() -> None:
            if epoch == self.epoch and self.up:
                parts = {} if reason else self._take_parts(computation, found)
                self.handle(ev.FilesFound(computation, found, reason, parts))

        self._timeline.after(TASK_S * self._rng.random(), tell)

    def _take_parts(self, computation: HostedComputation, found: Mapping[str, str]) -> dict[str, Spooled]:
        parts: dict[str, Spooled] = {}
        client = self.engine.clients.get(computation.client)
        for offer in computation.offer.files:
            if client is None or offer.stream or offer.path in found:
                continue
            part = self.parts.take(PartKey(client.id, client.owner, offer.digest, offer.size))
            if part is not None:
                parts[offer.path] = part
        return parts

    def _start_runner(self, effect: fx.StartRunner) -> None:
        self._timeline.after(
            TASK_S * self._rng.random(), partial(self._serve_runner, effect.computation, self.epoch)
        )

    def _serve_runner(self, computation: HostedComputation, epoch: int) -> None:
        if epoch != self.epoch or not self.up:
            return
        if computation.id in self.runners:
            raise Broken(f"{self.name} starts a second runner for {computation.id} beside the first")
        self.folders.add(computation.id)
        _check_complete(computation)
        for spooled in computation.files.values():
            self.spool.take(spooled)
        runner = SimulatedRunner(
            computation.id,
            self._timeline,
            self._rng,
            self._truth,
            self.spool,
            clock=lambda: self._clock_offset + self._timeline.now,
            emit=lambda event: self._runner_told(runner, epoch, event),
            counts=self._count,
        )
        self.runners[computation.id] = runner
        self.started_runners[runner] = computation
        failure = "it cannot be loaded here" if self._rng.random() < self.load_failures else ""
        if failure:
            self.spool_leaks = True
            self._excuse([key[0] for key in computation.attempts], computation.client, Excuse.RUNNER_DIED)
        runner.start(self._scenario.load_s * self._rng.random(), failure)

    def _runner_told(self, runner: SimulatedRunner, epoch: int, event: ev.Event) -> None:
        if epoch != self.epoch or not self.up:
            return
        if isinstance(event, ev.RunnerEnded | ev.RunnerFailed):
            self.runners.pop(runner.computation, None)
            self.started_runners.pop(runner, None)
        self.handle(event)

    def _count(self, change: int) -> None:
        self._running += change
        most, until = self._most
        if self._timeline.now >= until:
            most = self.cpus
            self._most = (most, 0.0)
        if change > 0 and self._running > max(most, self.cpus):
            raise Broken(f"{self.name} has {self._running} slots in use, of {self.cpus}")

    def _check_grants(self) -> None:
        """Check that no two jobs have the same item, as the runners see it."""
        jobs = [job for runner in self.started_runners for job in runner.jobs.values()]
        held = [
            item for job in jobs if job.grant is not None for _, items in job.grant.items for item in items
        ]
        if len(set(held)) < len(held):
            raise Broken(f"{self.name} has given the items {held}, one of them twice")

    # -- effects

    def _send_message(self, effect: fx.SendMessage) -> None:
        end = self.links.get(effect.link)
        if end is not None:
            end.send(effect.message)

    def _send_stream(self, effect: fx.SendStream) -> None:
        end = self.links.get(effect.link)
        if end is not None:
            end.send_stream(effect.stream, SpoolSource(self.spool, effect.source), effect.source.size)

    def _close_link(self, effect: fx.CloseLink) -> None:
        if effect.reason != "replaced by a newer link":
            self.violations.append(effect.reason)
        end = self.links.get(effect.link)
        if end is not None:
            self._inboxes[effect.link].close()
            end.close(effect.reason)

    def _run_jobs(self, effect: fx.RunJobs) -> None:
        runner = self.runners.get(effect.computation)
        if runner is not None:
            self._check_grants()
            runner.run_jobs(list(effect.jobs), effect.granted)
        else:
            raise Broken(f"{self.name} has jobs for {effect.computation}, which has no runner")

    def _set_slots(self, effect: fx.SetSlots) -> None:
        runner = self.runners.get(effect.computation)
        if runner is not None:
            runner.set_slots(effect.slots)

    def _cancel_attempts(self, effect: fx.CancelAttempts) -> None:
        hosted = self.engine.computations.get(effect.computation)
        if hosted is not None and self.engine.clients[hosted.client].lapsed:
            self._excuse([key[0] for key in effect.attempts], hosted.client, Excuse.LAPSED)
        runner = self.runners.get(effect.computation)
        if runner is not None:
            runner.cancel(list(effect.attempts))

    def _recall_attempts(self, effect: fx.RecallAttempts) -> None:
        runner = self.runners.get(effect.computation)
        if runner is not None:
            runner.recall(list(effect.attempts))

    def _close_runner(self, effect: fx.CloseRunner) -> None:
        runner = self.runners.get(effect.computation)
        if runner is not None:
            runner.close(terminate=effect.terminate)

    def _remove_folder(self, effect: fx.RemoveFolder) -> None:
        self.folders.discard(effect.computation)

    def _remove_spooled(self, effect: fx.RemoveSpooled) -> None:
        for spooled in effect.files:
            self.spool.remove_spooled(spooled)

    def _drop_stream(self, effect: fx.DropStream) -> None:
        inbox = self._inboxes.get(effect.link)
        if inbox is not None:
            inbox.drop(effect.stream)

    def _receive_file(self, effect: fx.ReceiveFile) -> None:
        inbox = self._inboxes.get(effect.link)
        if inbox is not None:
            inbox.receive(effect.stream, effect.key, effect.part)
            if self._rng.random() < self.file_breaks:
                self._breaking.add((effect.link, effect.stream))

    def _keep_parts(self, effect: fx.KeepParts) -> None:
        for key, spooled in effect.parts:
            self.parts.keep(key, spooled)

    def _forget_parts(self, effect: fx.ForgetParts) -> None:
        self.parts.forget(effect.client, effect.owner)

    def _answer_news(self, effect: fx.AnswerNews) -> None:
        runner = self.runners.get(effect.computation)
        if runner is not None:
            runner.answer(effect.attempt, effect.number, taken=effect.taken)

    def _watch_attempt(self, effect: fx.WatchAttempt) -> None:
        runner = self.runners.get(effect.computation)
        if runner is not None:
            runner.watch(effect.message)

    def _place_file(self, effect: fx.PlaceFile) -> None:
        self.spool.take(effect.spooled)
        self.handle(ev.FilePlaced(effect.client, effect.message))

    def _keep_data(self, effect: fx.KeepData) -> None:
        content = self.spool.take(effect.spooled)
        runner = self.runners.get(effect.computation)
        if runner is None:
            raise Broken(f"{self.name} has data for {effect.computation}, which has no runner")
        runner.data[effect.data] = content

    def _forget_data(self, effect: fx.ForgetData) -> None:
        for number in effect.data:
            del self.runners[effect.computation].data[number]

    def _report(self, effect: fx.Report) -> None:
        self._story.tell(self._timeline.now, self.name, f"reports: {effect.text}")

    def _end(self, effect: fx.EndDaemon) -> None:
        if any(runner.busy for runner in self.started_runners):
            raise Broken(f"{self.name} ends with jobs that run")
        self.stop("the node was drained")


def _check_complete(computation: HostedComputation) -> None:
    """See that the content of each file has come, or was found, before its runner starts."""
    offers = computation.offer.files
    came = {offer.digest for offer in offers if offer.path in computation.files}
    found = {offer.digest for offer in offers if offer.path in computation.found}
    for offer in offers:
        if offer.path not in computation.files and offer.digest not in came | found:
            raise Broken(f"{computation.id} starts without file {offer.path!r}")


def make_hello(
    role: Role, ident: str, name: str, epoch: int, cpus: int, resources: dict[str, int] | None = None
) -> Hello:
    """Make a greeting that is the same on every machine."""
    return Hello(
        protocol_min=PROTOCOL_VERSION,
        protocol_max=PROTOCOL_VERSION,
        role=role.value,
        ident=ident,
        epoch=epoch,
        name=name,
        version="0",
        python="3.11.0",
        platform="simulated",
        resources=resources or {},
        max_frame_bytes=MAX_FRAME_BYTES,
        heartbeat_s=HEARTBEAT_S,
        cpus=cpus,
        proof=make_proof(ident.encode(), ""),
    )
