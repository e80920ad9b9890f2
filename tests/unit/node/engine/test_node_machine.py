"""The node engine against a small model: schedulers, runners, a spool folder and links that lose messages."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dispy.model import Avail, ComputationId, LinkId, Outcome
from dispy.wire import messages as ms
from dispy_node.engine import effects as fx
from dispy_node.engine import events as ev
from dispy_node.engine.hours import Phase
from dispy_node.engine.node import NodeEngine
from dispy_node.engine.records import Grant, HostedComputation, Spooled

LEASE_S = 10.0
KEEP_S = 100.0
CLIENTS = ("c0", "c1", "c2")
GPUS = ("0", "1")
DEMANDS = (
    ms.JobDemand(2),
    ms.JobDemand(1, resources=(("gpu", 1),)),
    ms.JobDemand(1, exclusive=True),
    ms.JobDemand(2, resources=(("gpu", 2),)),
    ms.JobDemand(1, resources=(("gpu", 3),)),
)
"""The last one can never be met."""

Key = tuple[int, int]


def make_hello(ident: str) -> ms.Hello:
    return ms.Hello(1, 1, "client", ident, 1, ident, "1.0", "3.11.1", "linux", 4 << 20, 5.0)


@dataclass
class Scheduler:
    """One client: what it believes, what it has heard, and messages on their way to it."""

    ident: str
    link: LinkId | None = None
    inbox: deque[tuple[ms.Message, int]] = field(default_factory=deque)
    """Messages on their way, each with the last job that was assigned when it was sent."""
    stream: int = 1
    sending: dict[int, bool] = field(default_factory=dict)
    """Streams that have not ended -> the node still wants them."""
    announced: set[int] = field(default_factory=set)
    """Streams of the node."""
    open: dict[str, bool] = field(default_factory=dict)
    """Computations that it believes to be there -> they are ready."""
    believed: dict[Key, str] = field(default_factory=dict)
    """Attempts without an end -> their computation."""
    data: dict[str, set[int]] = field(default_factory=dict)
    """Computation -> shared data that it has announced on this link."""
    ends: dict[Key, object] = field(default_factory=dict)
    unacknowledged: dict[Key, str] = field(default_factory=dict)
    left_at: float = 0.0
    lost_messages: bool = False
    """What it heard may have gaps, as a link broke with messages on it."""


@dataclass
class Runner:
    """One runner, as `StartRunner` and the effects after it have it."""

    owner: str
    files: set[str] = field(default_factory=set)
    """Spool files that are moved to its folder before it is ready."""
    ready: bool = False
    slots: int = 0
    owes_confirmation: bool = False
    closing: bool = False
    terminate: bool = False
    queued: deque[Key] = field(default_factory=deque)
    running: list[Key] = field(default_factory=list)
    cancelled: set[Key] = field(default_factory=set)
    recalled: set[Key] = field(default_factory=set)
    granted: dict[Key, Grant] = field(default_factory=dict)
    """Of jobs that it has."""
    data: set[int] = field(default_factory=set)


class NodeMachine(RuleBasedStateMachine):
    """Rules are what schedulers, runners, links and the operator do; effects are carried out by the model."""

    @initialize(cpus=st.integers(1, 4))
    def begin(self, cpus: int) -> None:
        self.engine = NodeEngine(cpus=cpus, lease_s=LEASE_S, keep_results_s=KEEP_S, resources={"gpu": GPUS})
        self.now = 0.0
        self.schedulers = {ident: Scheduler(ident) for ident in CLIENTS}
        self.links: dict[LinkId, Scheduler] = {}
        self.last_link = 0
        self.runners: dict[str, Runner] = {}
        self.spool: set[str] = set()
        self.placed: set[str] = set()
        """Files that have been moved from the spool to a runner's folder."""
        self.last_file = 0
        self.last_job = 0
        self.last_computation = 0
        self.ever_run: set[tuple[str, Key]] = set()
        """(client, attempt) that a runner was given."""
        self.ever_started: set[tuple[str, Key]] = set()
        self.ceiling = cpus
        self.reopened: set[str] = set()
        self.needs: dict[int, tuple[int, ...]] = {}
        """Job -> shared data that it needs."""
        self.daemon_ends = 0

    # -- carrying out effects

    def feed(self, event: ev.Event) -> None:
        for effect in self.engine.handle(event, self.now):
            getattr(self, type(effect).__name__)(effect)

    def SendMessage(self, effect: fx.SendMessage) -> None:
        scheduler = self.links[effect.link]
        scheduler.inbox.append((effect.message, self.last_job))
        if isinstance(effect.message, ms.JobResults):
            assert sum(len(result.body) for result in effect.message.results) <= 1 << 20
            scheduler.announced |= {result.stream for result in effect.message.results if result.stream}

    def SendStream(self, effect: fx.SendStream) -> None:
        self.links[effect.link].announced.remove(effect.stream)
        assert effect.source.path in self.spool

    def CloseLink(self, effect: fx.CloseLink) -> None:
        assert effect.reason == "replaced by a newer link"
        scheduler = self.links.pop(effect.link)
        assert scheduler.link != effect.link, "a link is closed that the client uses"

    def StartRunner(self, effect: fx.StartRunner) -> None:
        hosted: HostedComputation = effect.computation
        assert hosted.id not in self.runners, "two runners in one folder"
        assert {part.path for part in hosted.files.values()} <= self.spool
        assert not isinstance(hosted.code, Spooled) or hosted.code.path in self.spool
        self.runners[hosted.id] = Runner(hosted.client, {part.path for part in hosted.files.values()})

    def RunJobs(self, effect: fx.RunJobs) -> None:
        runner = self.runners[effect.computation]
        assert runner.ready
        assert not runner.closing
        for key, body in effect.jobs:
            assert (runner.owner, key) not in self.ever_run, "an attempt is run twice"
            self.ever_run.add((runner.owner, key))
            assert runner.data.issuperset(self.needs.get(key[0], ())), "a job runs without its data"
            runner.queued.append(key)
            if isinstance(body, Spooled):
                self.spool.remove(body.path)
        assert effect.granted.keys() <= dict(effect.jobs).keys()
        runner.granted.update(effect.granted)
        items = [item for grant in self.grants() for _, held in grant.items for item in held]
        assert len(set(items)) == len(items) <= len(GPUS), "an item is given twice"
        assert self.cpus_used() <= self.ceiling

    def grants(self) -> list[Grant]:
        return [grant for runner in self.runners.values() for grant in runner.granted.values()]

    def cpus_used(self) -> int:
        plain = [
            key for runner in self.runners.values() for key in runner.running if key not in runner.granted
        ]
        alone = any(grant.alone for grant in self.grants())
        assert not alone or (len(self.grants()) == 1 and not plain), (
            "something runs beside a job that is alone"
        )
        return len(plain) + sum(grant.cpus for grant in self.grants())

    def KeepData(self, effect: fx.KeepData) -> None:
        runner = self.runners[effect.computation]
        assert effect.data not in runner.data
        runner.data.add(effect.data)
        self.spool.remove(effect.spooled.path)

    def ForgetData(self, effect: fx.ForgetData) -> None:
        runner = self.runners[effect.computation]
        assert runner.data.issuperset(effect.data)
        runner.data.difference_update(effect.data)

    def SetSlots(self, effect: fx.SetSlots) -> None:
        runner = self.runners[effect.computation]
        assert effect.slots != runner.slots
        if effect.slots < runner.slots:
            runner.owes_confirmation = True
        else:
            assert not runner.owes_confirmation
        runner.slots = effect.slots

    def CancelAttempts(self, effect: fx.CancelAttempts) -> None:
        runner = self.runners[effect.computation]
        assert not runner.cancelled.intersection(effect.attempts)
        runner.cancelled.update(effect.attempts)

    def RecallAttempts(self, effect: fx.RecallAttempts) -> None:
        runner = self.runners[effect.computation]
        assert not runner.cancelled.intersection(effect.attempts)
        assert not runner.recalled.intersection(effect.attempts)
        runner.recalled.update(effect.attempts)

    def CloseRunner(self, effect: fx.CloseRunner) -> None:
        runner = self.runners[effect.computation]
        assert effect.terminate or not (runner.queued or runner.running)
        assert not runner.terminate
        runner.closing, runner.terminate = True, effect.terminate

    def RemoveFolder(self, effect: fx.RemoveFolder) -> None:
        assert effect.computation not in self.runners

    def RemoveSpooled(self, effect: fx.RemoveSpooled) -> None:
        for spooled in effect.files:
            if spooled.path in self.placed:
                self.placed.remove(spooled.path)
            else:
                self.spool.remove(spooled.path)

    def DropStream(self, effect: fx.DropStream) -> None:
        sending = self.links[effect.link].sending
        assert sending[effect.stream]
        sending[effect.stream] = False

    def ForgetParts(self, effect: fx.ForgetParts) -> None:
        assert self.schedulers[effect.client].link not in self.links

    def Report(self, effect: fx.Report) -> None:
        assert "broke the protocol" not in effect.text

    def EndDaemon(self, effect: fx.EndDaemon) -> None:
        self.daemon_ends += 1
        assert not any(runner.queued or runner.running for runner in self.runners.values())

    # -- the schedulers

    def send(self, scheduler: Scheduler, message: ms.Message) -> None:
        assert scheduler.link is not None
        self.feed(ev.MessageReceived(scheduler.link, message))

    def cut(self, scheduler: Scheduler) -> None:
        scheduler.link = None
        scheduler.lost_messages |= bool(scheduler.inbox)
        scheduler.inbox.clear()
        scheduler.sending.clear()
        scheduler.data.clear()
        scheduler.announced.clear()
        scheduler.stream = 1
        scheduler.left_at = self.now

    def take_message(self, scheduler: Scheduler) -> None:
        message, last_job = scheduler.inbox.popleft()
        match message:
            case ms.ComputationReady(name):
                if name in scheduler.open:
                    scheduler.open[name] = True
            case ms.ComputationFailed(name) | ms.ComputationClosed(name):
                # One that was opened again while it closed may fail before its old runner has ended.
                early = isinstance(message, ms.ComputationFailed) and name in self.reopened
                mine = [
                    key for key, home in scheduler.believed.items() if home == name and key[0] <= last_job
                ]
                assert early or not mine, "closed before its attempts have ended"
                scheduler.open.pop(name, None)
            case ms.JobResults(name, results):
                for result in results:
                    self.take_end(scheduler, (result.job, result.attempt), result.outcome)
                    scheduler.unacknowledged[result.job, result.attempt] = name
            case ms.JobsRejected(name, attempts):
                for key in attempts:
                    assert key not in scheduler.ends, "rejected after an end"
                    assert (scheduler.ident, key) not in self.ever_started, "rejected though it has started"
                    self.take_end(scheduler, key, "rejected")
            case ms.Reconciled(findings):
                for finding in findings:
                    self.take_finding(scheduler, finding)
            case ms.JobsStarted(_, starts):
                assert all(
                    (scheduler.ident, (start.job, start.attempt)) in self.ever_started for start in starts
                )
            case ms.DataLost(name, number):
                scheduler.data.get(name, set()).discard(number)
            case ms.NodeChanged():
                pass
            case _:
                raise AssertionError(message)

    def take_end(self, scheduler: Scheduler, key: Key, end: object) -> None:
        assert scheduler.ends.setdefault(key, end) == end, "two ends"
        scheduler.believed.pop(key, None)

    def take_finding(self, scheduler: Scheduler, finding: ms.Finding) -> None:
        away = self.now - scheduler.left_at
        for key in finding.missing:
            if scheduler.believed.pop(key, None) is None:
                continue
            assert scheduler.lost_messages or away >= 0
            scheduler.ends[key] = "missing"
            ran = (scheduler.ident, key) in self.ever_started
            excused = scheduler.lost_messages or away >= LEASE_S
            assert not ran or excused, "an attempt was lost"
        if finding.state == "unknown":
            scheduler.open.pop(finding.computation, None)

    def connected(self, number: int) -> Scheduler | None:
        found = [scheduler for scheduler in self.schedulers.values() if scheduler.link is not None]
        return found[number % len(found)] if found else None

    @rule(ident=st.sampled_from(CLIENTS), keeps_old=st.booleans())
    def connects(self, ident: str, keeps_old: bool = False) -> None:
        scheduler = self.schedulers[ident]
        self.last_link += 1
        link = LinkId(self.last_link)
        self.links[link] = scheduler
        self.feed(ev.LinkOpened(link, make_hello(ident)))
        if keeps_old and scheduler.link is not None:  # it has reached the node under two addresses at once
            del self.links[link]
            self.feed(ev.LinkClosed(link, "already connected"))
            return
        if scheduler.link is not None:  # it has lost the old link, and the node does not know yet
            self.cut(scheduler)
        scheduler.link = link
        beliefs = {name: [] for name in scheduler.open}
        for key, name in (scheduler.believed | scheduler.unacknowledged).items():
            beliefs.setdefault(name, []).append(key)
        self.send(scheduler, ms.Reconcile([ms.Belief(name, keys) for name, keys in beliefs.items()]))

    @rule(number=st.integers(0, 2), final=st.integers(0, 9))
    def link_breaks(self, number: int, final: int) -> None:
        scheduler = self.connected(number)
        if scheduler is None:
            return
        link = scheduler.link
        assert link is not None
        del self.links[link]
        self.cut(scheduler)
        if final:
            self.feed(ev.LinkClosed(link, "connection reset"))
        else:
            self.schedulers[scheduler.ident] = Scheduler(scheduler.ident)
            self.last_job += 1000  # what comes late for the old one is none of the new one's
            self.feed(ev.LinkClosed(link, "goodbye", final=True))

    @rule(number=st.integers(0, 2), streams=st.integers(0, 2), cpus=st.sampled_from([0, 0, 1, 2]))
    def opens(self, number: int, streams: int, cpus: int) -> None:
        scheduler = self.connected(number)
        if scheduler is None or len(scheduler.open) > 2:
            return
        self.last_computation += 1
        name = f"k{self.last_computation}"
        self.open_named(scheduler, name, streams, cpus)

    def open_named(self, scheduler: Scheduler, name: str, streams: int, cpus: int) -> None:
        code_stream = self.announce(scheduler) if streams > 0 else 0
        files = [ms.FileOffer("data/file", 5, 0o644, 0.0, self.announce(scheduler))] if streams > 1 else []
        offer = ms.OpenComputation(
            name, "compute", "function", "process", b"", code_stream, 9, files=files, cpus=cpus
        )
        scheduler.open[name] = False
        self.send(scheduler, offer)

    def announce(self, scheduler: Scheduler) -> int:
        stream = scheduler.stream
        scheduler.stream += 1
        scheduler.sending[stream] = True
        return stream

    @rule(number=st.integers(0, 2), pick=st.integers(0, 9), streams=st.integers(0, 1))
    def opens_again(self, number: int, pick: int, streams: int) -> None:
        scheduler = self.connected(number)
        if scheduler is None or not self.last_computation:
            return
        mine = [name for name, hosted in self.engine.computations.items() if hosted.client == scheduler.ident]
        if mine:
            self.reopened.add(mine[pick % len(mine)])
            self.open_named(scheduler, mine[pick % len(mine)], streams, 0)

    @rule(
        number=st.integers(0, 2),
        pick=st.integers(0, 9),
        kinds=st.lists(st.booleans(), min_size=1, max_size=6),
        needs=st.sets(st.integers(1, 3)),
    )
    def assigns(self, number: int, pick: int, kinds: list[bool], needs: set[int]) -> None:
        scheduler = self.connected(number)
        if scheduler is None or not scheduler.open:
            return
        name = sorted(scheduler.open)[pick % len(scheduler.open)]
        jobs = []
        for data in needs - scheduler.data.get(name, set()):
            scheduler.data.setdefault(name, set()).add(data)
            self.send(scheduler, ms.ShareData(name, data, self.announce(scheduler), 9))
        for large in kinds:
            self.last_job += 1
            stream = self.announce(scheduler) if large else 0
            needed = self.needs[self.last_job] = tuple(sorted(needs)) if self.last_job % 2 else ()
            size = 9 if large else 0
            jobs.append(
                ms.JobAssignment(
                    self.last_job,
                    1,
                    b"" if large else b"args",
                    stream,
                    size,
                    needs=needed,
                    demand=DEMANDS[self.last_job // 3 % len(DEMANDS)] if self.last_job % 3 == 0 else None,
                )
            )
            scheduler.believed[self.last_job, 1] = name
        self.send(scheduler, ms.AssignJobs(name, jobs))

    @rule(number=st.integers(0, 2), pick=st.integers(0, 9), data=st.integers(1, 4))
    def drops_data(self, number: int, pick: int, data: int) -> None:
        """A scheduler drops data, whether or not jobs still need it."""
        scheduler = self.connected(number)
        if scheduler is not None and scheduler.open:
            name = sorted(scheduler.open)[pick % len(scheduler.open)]
            for key in [key for key, home in scheduler.believed.items() if home == name]:
                if data in self.needs.get(key[0], ()):
                    return  # it does not do that
            scheduler.data.get(name, set()).discard(data)
            self.send(scheduler, ms.DropData(name, [data]))

    @rule(number=st.integers(0, 2), pick=st.integers(0, 99))
    def assigns_once_more(self, number: int, pick: int) -> None:
        """A duplicate of an assignment whose end is not acknowledged changes nothing."""
        scheduler = self.connected(number)
        if (
            scheduler is not None
            and scheduler.believed
            and not scheduler.lost_messages
            and not scheduler.inbox
        ):
            key = sorted(scheduler.believed)[pick % len(scheduler.believed)]
            name = scheduler.believed[key]
            if name in self.engine.computations:
                needs = self.needs.get(key[0], ())
                self.send(scheduler, ms.AssignJobs(name, [ms.JobAssignment(*key, b"args", needs=needs)]))

    @rule(
        number=st.integers(0, 2), pick=st.integers(0, 9), failure=st.sampled_from(["", "", "", "disk full"])
    )
    def stream_ends(self, number: int, pick: int, failure: str) -> None:
        scheduler = self.connected(number)
        if scheduler is None or scheduler.link is None or not scheduler.sending:
            return
        stream = sorted(scheduler.sending)[pick % len(scheduler.sending)]
        wanted = scheduler.sending.pop(stream)
        if failure and wanted:
            self.feed(ev.StreamFailed(scheduler.link, stream, failure))
        elif wanted:
            self.feed(ev.StreamStored(scheduler.link, stream, self.new_file()))

    def new_file(self) -> Spooled:
        self.last_file += 1
        self.spool.add(f"file-{self.last_file}")
        return Spooled(f"file-{self.last_file}", 9)

    @rule(number=st.integers(0, 2), count=st.integers(1, 20))
    def messages_arrive(self, number: int, count: int) -> None:
        scheduler = self.connected(number)
        while scheduler is not None and scheduler.inbox and count:
            self.take_message(scheduler)
            count -= 1

    @rule(number=st.integers(0, 2), count=st.integers(1, 9))
    def acknowledges(self, number: int, count: int) -> None:
        scheduler = self.connected(number)
        if scheduler is not None:
            for key in sorted(scheduler.unacknowledged)[:count]:
                self.send(scheduler, ms.AckResults(scheduler.unacknowledged.pop(key), [key]))

    @rule(number=st.integers(0, 2), pick=st.integers(0, 99))
    def cancels(self, number: int, pick: int) -> None:
        scheduler = self.connected(number)
        if scheduler is not None and scheduler.believed:
            key = sorted(scheduler.believed)[pick % len(scheduler.believed)]
            self.send(scheduler, ms.CancelJobs(scheduler.believed[key], [key, (10**6, 1)]))

    @rule(number=st.integers(0, 2), pick=st.integers(0, 99))
    def recalls(self, number: int, pick: int) -> None:
        scheduler = self.connected(number)
        if scheduler is not None and scheduler.believed:
            key = sorted(scheduler.believed)[pick % len(scheduler.believed)]
            self.send(scheduler, ms.RecallJobs(scheduler.believed[key], [key, (10**6, 1)]))

    @rule(number=st.integers(0, 2), pick=st.integers(0, 9), cpus=st.integers(0, 3))
    def limits(self, number: int, pick: int, cpus: int) -> None:
        scheduler = self.connected(number)
        if scheduler is not None and scheduler.open:
            name = sorted(scheduler.open)[pick % len(scheduler.open)]
            self.send(scheduler, ms.LimitSlots(name, cpus))

    @rule(number=st.integers(0, 2), pick=st.integers(0, 9), terminate=st.booleans())
    def closes(self, number: int, pick: int, terminate: bool) -> None:
        scheduler = self.connected(number)
        if scheduler is not None and scheduler.open:
            name = sorted(scheduler.open)[pick % len(scheduler.open)]
            self.send(scheduler, ms.CloseComputation(name, terminate))

    @rule(number=st.integers(0, 2), pick=st.integers(0, 99), name=st.booleans())
    def forgets(self, number: int, pick: int, name: bool) -> None:
        """A scheduler gives up attempts, or a whole computation, and tells so by Reconcile."""
        scheduler = self.connected(number)
        if scheduler is None or not scheduler.open or scheduler.inbox:
            return
        given_up = sorted(scheduler.open)[pick % len(scheduler.open)]
        if name:
            del scheduler.open[given_up]
        for table in (scheduler.believed, scheduler.unacknowledged):
            for key in [key for key, home in table.items() if home == given_up and (name or key[0] % 2)]:
                del table[key]
        beliefs = {other: [] for other in scheduler.open}
        for key, home in (scheduler.believed | scheduler.unacknowledged).items():
            beliefs.setdefault(home, []).append(key)
        self.send(scheduler, ms.Reconcile([ms.Belief(home, keys) for home, keys in beliefs.items()]))

    # -- the runners

    def runner(self, pick: int, *, ready: bool) -> tuple[ComputationId, Runner] | None:
        found = sorted(name for name, runner in self.runners.items() if runner.ready is ready)
        if not found:
            return None
        name = found[pick % len(found)]
        return ComputationId(name), self.runners[name]

    @rule(pick=st.integers(0, 9), fails=st.sampled_from([False, False, False, True]))
    def runner_loads(self, pick: int, fails: bool) -> None:
        found = self.runner(pick, ready=False)
        if found is not None and fails:
            del self.runners[found[0]]
            self.feed(ev.RunnerFailed(found[0], "no such module"))
        elif found is not None:
            found[1].ready = True
            self.spool -= found[1].files
            self.placed |= found[1].files
            # The engine tells a runner to end once more if it could not hear before.
            found[1].closing = found[1].terminate = False
            self.feed(ev.RunnerReady(found[0]))

    @rule(pick=st.integers(0, 9))
    def runner_starts_jobs(self, pick: int) -> None:
        found = self.runner(pick, ready=True)
        if found is None:
            return
        name, runner = found
        starts = []
        for key in list(runner.queued):
            plain = sum(other not in runner.granted for other in runner.running)
            if key not in runner.granted and plain >= runner.slots:
                continue
            runner.queued.remove(key)
            runner.running.append(key)
            assert (runner.owner, key) not in self.ever_started, "an attempt starts twice"
            self.ever_started.add((runner.owner, key))
            starts.append(ms.JobStart(*key, self.now))
        assert self.cpus_used() <= self.ceiling, "more jobs run than there are slots"
        if starts:
            self.feed(ev.AttemptsStarted(name, starts))

    @rule(pick=st.integers(0, 9), which=st.integers(0, 9), large=st.booleans())
    def job_ends(self, pick: int, which: int, large: bool) -> None:
        found = self.runner(pick, ready=True)
        if found is None or not found[1].running:
            return
        name, runner = found
        key = runner.running.pop(which % len(runner.running))
        runner.granted.pop(key, None)
        outcome = Outcome.CANCELLED if key in runner.cancelled else Outcome.RETURNED
        result = ms.JobResult(*key, int(outcome), 0, "", 1.0, 2.0, b"" if large else b"value")
        self.feed(ev.AttemptsEnded(name, [ev.AttemptResult(result, self.new_file() if large else None)]))

    @rule(pick=st.integers(0, 9))
    def runner_drops_cancelled_jobs(self, pick: int) -> None:
        found = self.runner(pick, ready=True)
        if found is not None:
            keys = [key for key in found[1].queued if key in found[1].cancelled | found[1].recalled]
            self.end_cancelled(*found, keys)

    def end_cancelled(self, name: ComputationId, runner: Runner, keys: list[Key]) -> None:
        results = []
        for key in keys:
            runner.queued.remove(key)
            runner.granted.pop(key, None)
            result = ms.JobResult(*key, int(Outcome.CANCELLED), 0, "", 0.0, 0.0, b"")
            results.append(ev.AttemptResult(result))
        if results:
            self.feed(ev.AttemptsEnded(name, results))

    @rule(pick=st.integers(0, 9))
    def runner_confirms(self, pick: int) -> None:
        found = self.runner(pick, ready=True)
        if found is None or not found[1].owes_confirmation:
            return
        if sum(key not in found[1].granted for key in found[1].running) <= found[1].slots:
            found[1].owes_confirmation = False
            self.feed(ev.SlotsGivenUp(found[0], found[1].slots))

    @rule(pick=st.integers(0, 9), tells=st.booleans())
    def runner_closes(self, pick: int, tells: bool) -> None:
        closing = sorted(name for name, runner in self.runners.items() if runner.closing)
        if not closing:
            return
        name = ComputationId(closing[pick % len(closing)])
        runner = self.runners[name]
        if tells and runner.ready:
            self.end_cancelled(name, runner, list(runner.queued))
        del self.runners[name]
        self.feed(ev.RunnerEnded(name) if runner.ready else ev.RunnerFailed(name, "told to end"))

    @rule(pick=st.integers(0, 9))
    def runner_dies(self, pick: int) -> None:
        found = self.runner(pick, ready=True)
        if found is not None:
            del self.runners[found[0]]
            self.feed(ev.RunnerEnded(found[0], "its runner was killed by signal 9"))

    # -- the operator and time

    @rule(cpus=st.integers(0, 5))
    def cpus_change(self, cpus: int) -> None:
        self.ceiling = max(self.ceiling, cpus)
        self.feed(ev.CpusChanged(cpus))

    @rule(phase=st.sampled_from(Phase))
    def hours_change(self, phase: Phase) -> None:
        self.feed(ev.HoursChanged(phase, "08:00 to 18:00"))
        for runner in self.runners.values():
            ends = runner.terminate or runner.cancelled.issuperset(runner.running)
            assert phase is not Phase.SHUT or ends, "a job runs on outside service hours"

    @rule()
    def avail_is_measured(self) -> None:
        self.feed(ev.AvailMeasured(Avail(50.0, 1, 2, 0.0)))

    @rule(seconds=st.sampled_from([0.1, 0.3, 1.5, 11.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.engine.next_deadline()) is not None and deadline <= end:
            assert deadline > self.now or deadline <= end
            before = self.engine.next_deadline()
            self.now = max(self.now, deadline)
            self.feed(ev.TimePassed())
            assert self.engine.next_deadline() != before, "a deadline that does not move"
        self.now = end

    @precondition(lambda self: self.last_job > 20)
    @rule(chance=st.integers(0, 9))
    def drains(self, chance: int) -> None:
        if not chance:
            self.feed(ev.DrainRequested())

    # -- what must hold

    @invariant()
    def engine_is_consistent(self) -> None:
        self.engine.check_invariants()
        hosted = [*self.engine.computations.values(), *self.engine._ledger.outgoing.values()]
        if sum(item.held + item.apart_cpus for item in hosted) <= self.engine.cpus:
            self.ceiling = self.engine.cpus
        assert self.daemon_ends <= 1
        with_runner = {item.id for item in hosted if item.state.value in ("preparing", "ready", "closing")}
        assert with_runner == set(self.runners)

    @invariant()
    def spool_holds_no_orphans(self) -> None:
        kept = set()
        hosted = [*self.engine.computations.values(), *self.engine._ledger.outgoing.values()]
        holders = [computation.attempts for computation in hosted]
        for client in self.engine.clients.values():
            holders += client.leftovers.values()
        for attempts in holders:
            for attempt in attempts.values():
                kept |= {part.path for part in (attempt.spooled, attempt.body) if isinstance(part, Spooled)}
        for computation in hosted:
            kept |= {part.path for part in computation.files.values()} - self.placed
            kept |= {computation.code.path} if isinstance(computation.code, Spooled) else set()
        assert kept == self.spool

    def teardown(self) -> None:
        """Let all come to rest: each attempt of a client that is here must then have its end."""
        if not hasattr(self, "engine"):
            return
        if not self.engine.cpus:
            self.cpus_change(1)
        for ident, scheduler in self.schedulers.items():
            if scheduler.link is None and scheduler.believed:
                self.connects(ident)
        for _ in range(400):
            self.settle_a_little()
            if not any(s.believed for s in self.schedulers.values() if s.link is not None):
                break
        for scheduler in self.schedulers.values():
            assert scheduler.link is None or not scheduler.believed, "attempts without an end"
        self.leave_for_good()

    def settle_a_little(self) -> None:
        for number in range(3):
            self.stream_ends(number, 0, "")
            self.messages_arrive(number, 1000)
        for pick in range(len(self.runners)):
            self.runner_loads(0, False)
            self.runner_drops_cancelled_jobs(pick)
            self.runner_starts_jobs(pick)
            self.job_ends(pick, 0, False)
            self.runner_confirms(pick)
        self.runner_closes(0, True)
        self.time_passes(0.3)
        self.engine_is_consistent()

    def leave_for_good(self) -> None:
        """When all clients have ended, nothing is left of them."""
        for scheduler in list(self.schedulers.values()):
            if scheduler.link is not None:
                link = scheduler.link
                del self.links[link]
                self.cut(scheduler)
                self.feed(ev.LinkClosed(link, "goodbye", final=True))
        # Those that are away have what the lease and the time for results give them.
        for _ in range(400):
            self.settle_a_little()
            if not self.engine.clients:
                break
            self.time_passes(11.0)
        assert not self.engine.clients
        assert not self.engine.computations
        assert not self.runners
        assert not self.spool


TestNodeMachine = NodeMachine.TestCase
TestNodeMachine.settings = settings(stateful_step_count=60)


def play(seed: int, steps: int) -> NodeMachine:
    """Run the machine with rules drawn by *seed*: longer runs than Hypothesis has time for, and more of the usual."""
    chance = random.Random(seed)
    machine = NodeMachine()
    machine.begin(chance.randint(1, 4))
    pick, roll, choice = chance.randrange, chance.random, chance.choice

    def kinds() -> list[bool]:
        return [roll() < 0.3 for _ in range(chance.randint(1, 6))]

    rules: list[tuple[float, Callable[[], None]]] = [
        (0.7, lambda: machine.connects(choice(CLIENTS))),
        (0.3, lambda: machine.link_breaks(pick(3), pick(10))),
        (3, lambda: machine.opens(pick(3), pick(3), choice([0, 0, 1, 2]))),
        (0.3, lambda: machine.opens_again(pick(3), pick(10), pick(2))),
        (6, lambda: machine.assigns(pick(3), pick(10), kinds(), set(chance.choices((1, 2, 3), k=pick(3))))),
        (1, lambda: machine.drops_data(pick(3), pick(10), 1 + pick(4))),
        (1, lambda: machine.assigns_once_more(pick(3), pick(99))),
        (6, lambda: machine.stream_ends(pick(3), pick(10), choice(["", "", "", "", "disk full"]))),
        (8, lambda: machine.messages_arrive(pick(3), chance.randint(1, 20))),
        (5, lambda: machine.acknowledges(pick(3), chance.randint(1, 9))),
        (2, lambda: machine.cancels(pick(3), pick(100))),
        (2, lambda: machine.recalls(pick(3), pick(100))),
        (0.7, lambda: machine.closes(pick(3), pick(10), roll() < 0.5)),
        (0.3, lambda: machine.forgets(pick(3), pick(99), roll() < 0.4)),
        (5, lambda: machine.runner_loads(pick(10), roll() < 0.15)),
        (10, lambda: machine.runner_starts_jobs(pick(10))),
        (6, lambda: machine.job_ends(pick(10), pick(10), roll() < 0.3)),
        (2, lambda: machine.runner_drops_cancelled_jobs(pick(10))),
        (5, lambda: machine.runner_confirms(pick(10))),
        (2, lambda: machine.runner_closes(pick(10), roll() < 0.5)),
        (0.6, lambda: machine.runner_dies(pick(10))),
        (0.3, lambda: machine.cpus_change(pick(6))),
        (0.2, machine.avail_is_measured),
        (2, lambda: machine.time_passes(choice([0.1, 0.3, 0.3, 1.5, 11.0]))),
        (0.02, lambda: machine.drains(0)),
    ]
    for number, ident in enumerate(CLIENTS):
        machine.connects(ident)
        machine.opens(number, 0, 0)
    weights, acts = [weight for weight, _ in rules], [act for _, act in rules]
    for _ in range(steps):
        chance.choices(acts, weights)[0]()
        machine.engine_is_consistent()
        machine.spool_holds_no_orphans()
    machine.teardown()
    return machine


@pytest.mark.parametrize("seed", range(40))
def test_long_runs_drawn_by_a_seed(seed: int) -> None:
    play(seed, steps=300)


class Noise:
    """Events with small numbers, so that they often hit something, and as often do not fit."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.last_stream = 0

    def rarely(self) -> bool:
        return self.random.random() < 0.01

    def key(self) -> Key:
        if self.rarely():
            return self.random.choice([(-1, 1), (0, 1), (2**63, 1), (1, 0), (1, 2**32)])
        return (self.random.randrange(1, 9), self.random.randrange(1, 4))

    def name(self, link: int) -> str:
        """Give mostly a computation of the client that uses this link."""
        if self.rarely():
            return self.random.choice(["", "../x", "z" * 99, "a0", "a1"])
        return self.random.choice(["a", "b"]) + str(link % 2)

    def stream(self) -> int:
        """Give mostly a number that is new."""
        self.last_stream += 1
        return self.random.choice([0, -1, 1, 5]) if self.rarely() else self.last_stream

    def old_stream(self) -> int:
        return self.last_stream - self.random.randrange(9)

    def message(self, link: int) -> ms.Message:
        keys = [self.key() for _ in range(self.random.randrange(5))]
        name, number = self.name(link), self.random.randrange(6)
        jobs = [ms.JobAssignment(*key, b"args") for key in keys]
        kind = self.random.choice(
            [
                "open",
                "large",
                "assign",
                "assign",
                "stream",
                "needs",
                "share",
                "drop",
                "cancel",
                "recall",
                "ack",
                "close",
                "reconcile",
                "limit",
                "session",
                "odd",
            ]
        )
        match kind:
            case "open":
                return ms.OpenComputation(name, "n", "e", "i", b"P", cpus=number - 2)
            case "large":
                offers = [ms.FileOffer("" if self.rarely() else "f", 5, 0o644, 0.0, self.stream())]
                return ms.OpenComputation(name, "n", "e", "i", b"", self.stream(), 9, offers)
            case "assign":
                return ms.AssignJobs(name, jobs)
            case "stream":
                return ms.AssignJobs(name, [ms.JobAssignment(*key, b"", self.stream(), 9) for key in keys])
            case "needs":
                return ms.AssignJobs(name, [ms.JobAssignment(*key, b"args", needs=(number,)) for key in keys])
            case "share":
                return ms.ShareData(name, number, self.stream(), 9)
            case "drop":
                return ms.DropData(name, [number, 2])
            case "cancel":
                return ms.CancelJobs(name, keys)
            case "recall":
                return ms.RecallJobs(name, keys)
            case "limit":
                return ms.LimitSlots(name, number - 1 if self.rarely() else number)
            case "ack":
                return ms.AckResults(name, keys)
            case "close" if number == 0:
                return ms.CloseComputation(name, terminate=self.random.random() < 0.5)
            case "reconcile" if number == 0:
                return ms.Reconcile([ms.Belief(self.name(link), keys) for _ in range(number)])
            case "odd" if self.rarely():
                odd = [
                    ms.ComputationReady(name),
                    ms.JobResults(name, []),
                    make_hello("c0"),
                    ms.NodeChanged(1),
                ]
                return self.random.choice(odd)
            case _:
                return self.random.choice(
                    [ms.Heartbeat(), ms.Goodbye("bye"), ms.StreamEnded(number), ms.StreamCredit(number, 9)]
                )

    def event(self, engine: NodeEngine) -> ev.Event:
        link = LinkId(self.random.randrange(1, 5))
        roll = self.random.random()
        if roll < 0.5:
            return ev.MessageReceived(link, self.message(link))
        if link not in engine._ledger.links and link not in engine._ledger.newcomers:
            role = "node" if self.rarely() else "client"
            hello = ms.Hello(1, 1, role, f"c{link % 2}", 1, "c", "1", "3", "x", 1 << 20, 5.0)
            return ev.LinkOpened(link, hello)
        if roll < 0.52:
            return ev.LinkClosed(link, "gone", final=self.random.random() < 0.2)
        name, number = ComputationId(self.name(link)), self.random.randrange(6)
        result = ms.JobResult(*self.key(), number, 0, "", float(number), 2.0, b"")
        stored = Spooled("file", 9) if number > 4 else None
        return self.random.choice(
            [
                ev.StreamStored(link, self.old_stream(), Spooled("file", 9)),
                ev.StreamFailed(link, self.old_stream(), "disk full"),
                ev.RunnerReady(name),
                ev.RunnerReady(name),
                ev.RunnerFailed(name, "failed") if number == 0 else ev.RunnerReady(name),
                ev.RunnerEnded(name, "died" if number > 2 else "") if number in (0, 5) else ev.TimePassed(),
                ev.AttemptsStarted(name, [ms.JobStart(*self.key(), 1.0)]),
                ev.AttemptsEnded(name, [ev.AttemptResult(result, stored)]),
                ev.AttemptsEnded(name, [ev.AttemptResult(result, stored)]),
                ev.SlotsGivenUp(name, number),
                ev.CpusChanged(number),
                ev.TimePassed(),
            ]
        )


def test_a_hundred_thousand_random_messages_raise_nothing() -> None:
    """Late, duplicate, out of order, from strangers: guarantee R7."""
    engine = NodeEngine(cpus=2, lease_s=5.0, keep_results_s=50.0)
    noise = Noise(20)
    for step in range(100_000):
        noise.now += noise.random.choice([0.0, 0.001, 0.1, 1.0])
        engine.handle(noise.event(engine), noise.now)
        if step % 20 == 0:
            engine.check_invariants()
    counters = engine.counters
    assert counters.assigned > 1000
    assert counters.ended > 100
    assert counters.acknowledged > 10
    assert counters.duplicates > 100
    assert counters.stale > 1000
    assert counters.violations > 100
