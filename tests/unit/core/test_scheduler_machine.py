"""The scheduler against a small model: nodes that do what nodes do, links that lose what is on its way.

Each model node keeps what it really has. What the scheduler sends waits in an inbox, what the node sends in an
outbox; a link that breaks loses what is left in both. So the model knows what the scheduler cannot: what has
started. Safety and liveness are checked apart.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.placing import SPOOLED_BYTES_MAX
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job, JobState, NodeState, PlacementState
from dispy.engine.scheduler import SchedulerEngine
from dispy.interfaces import API_VERSION, FaultPolicy, LostAttempt, Verdict
from dispy.model import (
    AttemptKey,
    ComputationId,
    Isolation,
    JobId,
    JobStatus,
    LinkId,
    NodeId,
    Outcome,
    SharedData,
)
from dispy.wire import messages as msg

NODES = 3
LAST = (JobStatus.FINISHED, JobStatus.TERMINATED, JobStatus.CANCELLED)


class RerunPolicy(FaultPolicy):
    NAME: ClassVar[str] = "rerun"
    API_VERSION: ClassVar[int] = API_VERSION
    HONOURS_REENTRANT: ClassVar[bool] = True

    def decide(self, lost: LostAttempt) -> Verdict:
        return Verdict.RERUN if lost.reentrant and not lost.pinned else Verdict.ABANDON


@dataclass
class Attempt:
    """What a node has of one attempt."""

    computation: str
    state: str = "queued"  # then "running", then "ended"
    cancelled: bool = False
    result: msg.JobResult | None = None
    needs: tuple[int, ...] = ()


@dataclass
class ModelNode:
    """A node as it really is."""

    number: int
    epoch: int = 1
    link: LinkId | None = None
    cpus: int = 2
    draining: bool = False
    inbox: deque[msg.Message] = field(default_factory=deque)
    outbox: deque[msg.Message] = field(default_factory=deque)
    computations: dict[str, str] = field(default_factory=dict)
    attempts: dict[AttemptKey, Attempt] = field(default_factory=dict)
    full: bool = False
    """Its disk is: it keeps no shared data."""
    data: dict[str, set[int]] = field(default_factory=dict)
    """Computation -> shared data that it has."""
    lost: set[tuple[str, int]] = field(default_factory=set)
    """Shared data that it could not keep."""

    @property
    def ident(self) -> NodeId:
        return NodeId(f"{self.number:032x}")

    def say(self, message: msg.Message) -> None:
        if self.link is not None:
            self.outbox.append(message)

    def of(self, computation: str) -> dict[AttemptKey, Attempt]:
        return {key: item for key, item in self.attempts.items() if item.computation == computation}

    def forget_all(self) -> None:
        self.computations.clear()
        self.attempts.clear()
        self.data.clear()

    def take(self, message: msg.Message) -> None:
        """Do what the scheduler says."""
        match message:
            case msg.Reconcile(beliefs):
                self._reconcile(beliefs)
            case msg.OpenComputation():
                self.computations[message.computation] = "preparing"
                self.data[message.computation] = set()
            case msg.ShareData(computation, number):
                if self.full or self.computations.get(computation) != "ready":
                    self.lost.add((computation, number))
                    self.say(msg.DataLost(computation, number, "disk full"))
                else:
                    self.data[computation].add(number)
            case msg.DropData(computation, numbers):
                self.data.get(computation, set()).difference_update(numbers)
            case msg.AssignJobs(computation, jobs):
                refused = []
                for job in jobs:
                    key = (job.job, job.attempt)
                    assert key not in self.attempts, "the same attempt was assigned twice"
                    if self.draining or self.computations.get(computation) != "ready":
                        refused.append(key)
                        continue
                    lacking = set(job.needs) - self.data[computation]
                    for number in lacking:
                        assert (computation, number) in self.lost, "a job was sent without its data"
                        self.say(msg.DataLost(computation, number, "it is not there"))
                    if lacking:
                        refused.append(key)
                    else:
                        self.attempts[key] = Attempt(computation, needs=job.needs)
                if refused:
                    self.say(msg.JobsRejected(computation, refused, "no"))
            case msg.CancelJobs(_, attempts):
                for key in attempts:
                    attempt = self.attempts.get((key[0], key[1]))
                    if attempt is not None and attempt.state != "ended":
                        attempt.cancelled = True
            case msg.RecallJobs(computation, attempts):
                back = []
                for key in attempts:
                    attempt = self.attempts.get((key[0], key[1]))
                    if attempt is not None and attempt.state == "queued" and not attempt.cancelled:
                        del self.attempts[key[0], key[1]]
                        back.append(key)
                if back:
                    self.say(msg.JobsRejected(computation, back, "recalled"))
            case msg.AckResults(_, attempts):
                for key in attempts:
                    attempt = self.attempts.get((key[0], key[1]))
                    if attempt is not None and attempt.state == "ended":
                        del self.attempts[key[0], key[1]]
            case msg.LimitSlots():
                pass
            case msg.CloseComputation(computation, terminate):
                self._close(computation, terminate)
            case _:
                raise AssertionError(f"a scheduler does not send {message}")

    def _close(self, computation: str, terminate: bool) -> None:
        if computation not in self.computations:
            self.say(msg.ComputationClosed(computation))
            return
        self.computations[computation] = "closing"
        for attempt in self.of(computation).values():
            attempt.cancelled |= terminate

    def _reconcile(self, beliefs: list[msg.Belief]) -> None:
        named = {belief.computation: {(key[0], key[1]) for key in belief.attempts} for belief in beliefs}
        for key, attempt in list(self.attempts.items()):
            if key not in named.get(attempt.computation, ()):
                del self.attempts[key]
        findings = []
        for computation, keys in named.items():
            missing = sorted(key for key in keys if key not in self.attempts)
            state = self.computations.get(computation, "unknown")
            data = sorted(self.data.get(computation, ()) if state != "unknown" else ())
            findings.append(msg.Finding(computation, state, missing, data))
        for computation in list(self.computations):
            if computation not in named:
                del self.computations[computation]
        self.say(msg.Reconciled(findings))
        for key, attempt in self.attempts.items():
            if attempt.state == "running":
                self.say(msg.JobsStarted(attempt.computation, [msg.JobStart(*key, 5.0)]))
            elif attempt.result is not None:
                self.say(msg.JobResults(attempt.computation, [attempt.result]))

    def end(self, key: AttemptKey, outcome: int, *, told_start: bool = True) -> None:
        """End an attempt that runs, or one that waits and is cancelled."""
        attempt = self.attempts[key]
        started = 5.0 if attempt.state == "running" else 0.0
        attempt.result = msg.JobResult(
            *key, outcome, 0, "", started, started and (5.01 if key[0] % 3 else 5.5), b""
        )
        attempt.state = "ended"
        self.say(msg.JobResults(attempt.computation, [attempt.result]))

    def settle_down(self) -> None:
        """Tell of computations that are closed by now."""
        for computation, state in list(self.computations.items()):
            if state == "closing" and all(item.state == "ended" for item in self.of(computation).values()):
                del self.computations[computation]
                self.say(msg.ComputationClosed(computation))


class SchedulerMachine(RuleBasedStateMachine):
    """Random life of a cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.last_link = 0
        self.last_job = 0
        self.engine: SchedulerEngine
        self.nodes = [ModelNode(number) for number in range(1, NODES + 1)]
        self.by_link: dict[LinkId, ModelNode] = {}
        self.computations: dict[ComputationId, Computation] = {}
        self.told: dict[int, list[JobStatus]] = {}
        self.jobs: dict[int, Job] = {}
        self.starts: Counter[int] = Counter()
        self.closed: set[ComputationId] = set()
        self.ended_for_good: set[int] = set()

    @initialize(
        rerun=st.booleans(),
        reentrant=st.booleans(),
        observed=st.booleans(),
        nodes=st.integers(0, NODES),
        jobs=st.integers(0, 12),
    )
    def begin(self, rerun: bool, reentrant: bool, observed: bool, nodes: int, jobs: int) -> None:
        self.may_rerun = rerun and reentrant
        self.engine = SchedulerEngine(RerunPolicy() if rerun else CancelPolicy(), lease_s=15.0)
        for number in (1, 2):
            computation = Computation(
                ComputationId(f"c{number}"),
                f"compute{number}",
                "function",
                Isolation.PROCESS,
                reentrant,
                lambda node: node.usable_cpus,
                lambda python: b"code",
                observed=observed,
            )
            self.computations[computation.id] = computation
            self.do(ev.ComputationAdded(computation))
        for node in self.nodes[:nodes]:
            self.open_link(node)
            self.exchange(node)
            self.load(node)
            self.exchange(node)
        if jobs:
            self.submit(1, jobs, None)

    # -- plumbing

    def do(self, event: ev.Event) -> None:
        for effect in self.engine.handle(event, self.now):
            self.carry_out(effect)

    def carry_out(self, effect: fx.Effect) -> None:
        match effect:
            case fx.SendMessage(link, message):
                node = self.by_link.get(link)
                assert node is not None, "sent on a link that is closed"
                if isinstance(message, msg.AssignJobs):
                    self.check_assignment(node, message)
                node.inbox.append(message)
            case fx.SendStream(link):
                assert link in self.by_link
            case fx.CloseLink(link):
                self.drop_link(self.by_link[link])
            case fx.TellJobs(changes):
                for change in changes:
                    self.hear(change)
            case fx.TellClosed(computation):
                assert computation.id not in self.closed, "closed twice"
                self.closed.add(computation.id)
                assert not computation.pending
            case fx.TellNode() | fx.Report():
                pass

    def check_assignment(self, node: ModelNode, message: msg.AssignJobs) -> None:
        placement = self.computations[ComputationId(message.computation)].placements[node.ident]
        assert placement.state is PlacementState.READY
        assert len(placement.inflight) <= placement.window, "more in flight than the window"
        assert placement.inflight_bytes <= SPOOLED_BYTES_MAX or len(placement.inflight) <= placement.slots
        for item in message.jobs:
            job = self.jobs[item.job]
            assert self.may_rerun or not self.starts[item.job], "sent out again after it has started"
            assert job.pinned in (None, node.ident), "a pinned job went elsewhere"
            assert JobStatus.CANCELLED not in self.told[item.job]

    def hear(self, change: fx.JobChange) -> None:
        told = self.told[change.job.id]
        assert not any(status in LAST for status in told), "settled twice"
        assert not (told and told[-1] is JobStatus.ABANDONED and change.status is JobStatus.RUNNING)
        told.append(change.status)

    def drop_link(self, node: ModelNode) -> None:
        if node.link is not None:
            del self.by_link[node.link]
        node.link = None
        node.inbox.clear()
        node.outbox.clear()

    def connected(self) -> list[ModelNode]:
        return [node for node in self.nodes if node.link is not None]

    # -- the application

    @rule(
        number=st.sampled_from([1, 1, 2]),
        count=st.integers(1, 6),
        pinned=st.one_of(st.none(), st.integers(1, NODES)),
        needs=st.sets(st.integers(1, 4)),
    )
    def submit(self, number: int, count: int, pinned: int | None, needs: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        jobs = []
        data = tuple(SharedData(one, b"x" * one, automatic=one > 2) for one in sorted(needs))
        for _ in range(count):
            self.last_job += 1
            job = Job(
                JobId(self.last_job),
                ComputationId(f"c{number}"),
                b"x" * (self.last_job % 7),
                pinned=None if pinned is None else NodeId(f"{pinned:032x}"),
                needs=data if self.last_job % 2 else (),
            )
            self.jobs[job.id] = job
            self.told[job.id] = []
            jobs.append(job)
        self.do(ev.JobsSubmitted(jobs))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        numbers = data.draw(st.lists(st.integers(1, self.last_job), min_size=1, max_size=4))
        self.do(ev.CancelRequested([JobId(number) for number in numbers]))

    @rule(number=st.sampled_from([1, 2]), data=st.integers(1, 2))
    def release(self, number: int, data: int) -> None:
        self.do(ev.DataReleased(ComputationId(f"c{number}"), data))

    @rule(number=st.integers(0, NODES - 1), full=st.booleans())
    def disk_fills(self, number: int, full: bool) -> None:
        self.nodes[number].full = full

    @rule(terminate=st.booleans(), luck=st.integers(0, 3))
    def close(self, terminate: bool, luck: int) -> None:
        """Close the second computation; the first goes on."""
        computation = self.computations[ComputationId("c2")]
        if luck == 0 and (terminate or not computation.pending):
            self.do(ev.ComputationClosing(computation.id, terminate))

    @rule(number=st.sampled_from([1, 2]))
    def widen(self, number: int) -> None:
        self.do(ev.NodesWidened(ComputationId(f"c{number}")))

    @rule(number=st.sampled_from([1, 2]), node=st.integers(0, NODES - 1), what=st.integers(0, 5))
    def manage(self, number: int, node: int, what: int) -> None:
        """Say something about one node."""
        computation, ident = ComputationId(f"c{number}"), self.nodes[node].ident
        event: ev.Event
        match what:
            case 0:
                event = ev.NodeRested(computation, ident)
            case 1 | 2:
                event = ev.NodeTaken(computation, ident)
            case 3:
                event = ev.NodeCpusLimited(ident, number - 1)
            case _:
                event = ev.NodeLeft(computation, ident, terminate=number == 2, again=what == 4)
        self.do(event)

    # -- nodes and links

    @rule(number=st.integers(0, NODES - 1))
    def connect(self, number: int) -> None:
        node = self.nodes[number]
        if node.link is None:
            self.open_link(node)

    def open_link(self, node: ModelNode) -> None:
        self.last_link += 1
        node.link = LinkId(self.last_link)
        self.by_link[node.link] = node
        hello = msg.Hello(
            1,
            1,
            "node",
            node.ident,
            node.epoch,
            f"n{node.number}",
            "1",
            "3.11",
            "linux",
            4 << 20,
            5.0,
            node.cpus,
        )
        self.do(ev.LinkOpened(node.link, hello, None, "10.0.0.1"))
        assert isinstance(node.inbox[0], msg.Reconcile), "the first message is not Reconcile"
        if node.draining:
            node.say(msg.NodeChanged(node.cpus, draining=True))

    @rule(number=st.integers(0, NODES - 1))
    def connect_again(self, number: int) -> None:
        """The node is found under another address."""
        node = self.nodes[number]
        if node.link is None:
            return
        self.last_link += 1
        second = LinkId(self.last_link)
        hello = msg.Hello(
            1,
            1,
            "node",
            node.ident,
            node.epoch,
            f"n{node.number}",
            "1",
            "3.11",
            "linux",
            4 << 20,
            5.0,
            node.cpus,
        )
        effects = self.engine.handle(ev.LinkOpened(second, hello, ("other", 1), "10.0.0.2"), self.now)
        assert effects[0] == fx.CloseLink(second, "already connected to this node by 10.0.0.1")
        for effect in effects[1:]:
            self.carry_out(effect)
        self.do(ev.LinkClosed(second, "closed"))

    @precondition(lambda self: self.connected())
    @rule(data=st.data(), final=st.integers(0, 5))
    def lose_link(self, data: st.DataObject, final: int) -> None:
        node = data.draw(st.sampled_from(self.connected()))
        link = node.link
        assert link is not None
        self.drop_link(node)
        if final == 0:
            node.forget_all()
            node.epoch += 1
        self.do(ev.LinkClosed(link, "reset", final=final == 0))

    @rule(number=st.integers(0, NODES - 1))
    def restart(self, number: int) -> None:
        """The node starts anew; whether the scheduler has noticed the end of the old link is left to chance."""
        node = self.nodes[number]
        node.forget_all()
        node.epoch += 1
        node.draining = False
        node.inbox.clear()
        node.outbox.clear()
        if node.link is None:
            return
        old = node.link
        node.link = None
        self.last_link += 1
        node.link = LinkId(self.last_link)
        self.by_link[node.link] = node
        hello = msg.Hello(
            1,
            1,
            "node",
            node.ident,
            node.epoch,
            f"n{node.number}",
            "1",
            "3.11",
            "linux",
            4 << 20,
            5.0,
            node.cpus,
        )
        effects = self.engine.handle(ev.LinkOpened(node.link, hello, None, "10.0.0.1"), self.now)
        assert effects[0] == fx.CloseLink(old, "the node has started again")
        del self.by_link[old]
        for effect in effects[1:]:
            self.carry_out(effect)

    def exchange(self, node: ModelNode) -> None:
        """Let all that is on its way arrive."""
        while node.inbox:
            node.take(node.inbox.popleft())
        while node.outbox and node.link is not None:
            self.do(ev.MessageReceived(node.link, node.outbox.popleft()))

    def load(self, node: ModelNode) -> None:
        for key, state in node.computations.items():
            if state == "preparing":
                node.computations[key] = "ready"
                node.say(msg.ComputationReady(key))

    @precondition(lambda self: any(node.inbox for node in self.nodes))
    @rule(data=st.data(), count=st.sampled_from([1, 2, 100]))
    def node_reads(self, data: st.DataObject, count: int) -> None:
        node = data.draw(st.sampled_from([node for node in self.nodes if node.inbox]))
        for _ in range(min(count, len(node.inbox))):
            node.take(node.inbox.popleft())

    @precondition(lambda self: any(node.outbox for node in self.nodes))
    @rule(data=st.data(), count=st.sampled_from([1, 2, 100]))
    def scheduler_reads(self, data: st.DataObject, count: int) -> None:
        node = data.draw(st.sampled_from([node for node in self.nodes if node.outbox]))
        for _ in range(min(count, len(node.outbox))):
            if node.outbox and node.link is not None:
                self.do(ev.MessageReceived(node.link, node.outbox.popleft()))

    @rule(number=st.integers(0, NODES - 1), outcome=st.integers(0, 4))
    def all_goes_well(self, number: int, outcome: int) -> None:
        """Come, load, run what there is; so that jobs get far enough to see what goes wrong then."""
        node = self.nodes[number]
        if node.link is None:
            self.open_link(node)
        self.exchange(node)
        self.load(node)
        self.exchange(node)
        for key, attempt in list(node.attempts.items()):
            if attempt.state == "running" and (key[0] + outcome) % 3:
                node.end(key, outcome)
        for key, attempt in list(node.attempts.items())[::2]:
            if attempt.state == "queued" and not attempt.cancelled:
                self.start(node, key, tell=bool(key[0] % 2))

    @rule(data=st.data(), good=st.integers(0, 9))
    def computation_loads(self, data: st.DataObject, good: int) -> None:
        loading = [
            (node, key)
            for node in self.nodes
            for key, state in node.computations.items()
            if state == "preparing"
        ]
        if not loading:
            return
        node, key = data.draw(st.sampled_from(loading))
        if good:
            node.computations[key] = "ready"
            node.say(msg.ComputationReady(key))
        else:
            del node.computations[key]
            node.say(msg.ComputationFailed(key, "no such module"))

    @rule(data=st.data(), tell=st.booleans())
    def job_starts(self, data: st.DataObject, tell: bool) -> None:
        waiting = [
            (node, key)
            for node in self.nodes
            for key, item in node.attempts.items()
            if item.state == "queued" and not item.cancelled
        ]
        if waiting:
            node, key = data.draw(st.sampled_from(waiting))
            self.start(node, key, tell=tell)

    def start(self, node: ModelNode, key: AttemptKey, *, tell: bool) -> None:
        attempt = node.attempts[key]
        attempt.state = "running"
        over = self.jobs[key[0]].state is JobState.SETTLED
        assert over or node.data[attempt.computation].issuperset(attempt.needs), "it runs without its data"
        self.starts[key[0]] += 1
        assert self.may_rerun or self.starts[key[0]] == 1, "a job started twice"
        if tell:
            node.say(msg.JobsStarted(attempt.computation, [msg.JobStart(*key, 5.0)]))

    @rule(data=st.data(), outcome=st.sampled_from([0, 0, 0, 1, 2, 3, 4]))
    def job_ends(self, data: st.DataObject, outcome: int) -> None:
        active = [
            (node, key)
            for node in self.nodes
            for key, item in node.attempts.items()
            if item.state == "running" or (item.state == "queued" and item.cancelled)
        ]
        if active:
            node, key = data.draw(st.sampled_from(active))
            if node.attempts[key].state == "queued":
                outcome = int(Outcome.CANCELLED)
            node.end(key, outcome)
            node.settle_down()

    @rule(data=st.data())
    def runner_dies(self, data: st.DataObject) -> None:
        ready = [
            (node, key) for node in self.nodes for key, state in node.computations.items() if state == "ready"
        ]
        if not ready:
            return
        node, computation = data.draw(st.sampled_from(ready))
        rejected = []
        for key, attempt in node.of(computation).items():
            if attempt.state == "running":
                node.end(key, int(Outcome.DIED))
            elif attempt.state == "queued":
                rejected.append(key)
                del node.attempts[key]
        if rejected:
            node.say(msg.JobsRejected(computation, rejected, "the runner has died"))
        del node.computations[computation]
        node.say(msg.ComputationFailed(computation, "the runner has died"))

    @rule(number=st.integers(0, NODES - 1), cpus=st.integers(0, 4), draining=st.booleans())
    def node_changes(self, number: int, cpus: int, draining: bool) -> None:
        node = self.nodes[number]
        if node.link is not None:
            node.cpus, node.draining = cpus, draining
            node.say(msg.NodeChanged(cpus, (1.0, cpus, 3, 4.0), draining))

    # -- what no correct node does

    @precondition(lambda self: self.connected() and self.jobs)
    @rule(data=st.data(), outcome=st.integers(2, 5))
    def stray_result(self, data: st.DataObject, outcome: int) -> None:
        """A result that was told before, or of an attempt that does not exist."""
        node = data.draw(st.sampled_from(self.connected()))
        number = data.draw(st.integers(1, self.last_job + 2))
        job = self.jobs.get(number)
        attempt = 0 if job is None else job.attempt + data.draw(st.sampled_from([-2, -1, 1, 2]))
        assert node.link is not None
        key = f"c{data.draw(st.integers(1, 3))}"
        results = [msg.JobResult(number, attempt, outcome, 0, "", 1.0, 2.0, b"")]
        before = {number: list(told) for number, told in self.told.items()}
        self.do(ev.MessageReceived(node.link, msg.JobResults(key, results)))
        assert self.told == before, "a result of another attempt counted"

    # -- time

    @rule(seconds=st.sampled_from([0.5, 3.0, 8.0, 16.0]))
    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.engine.next_deadline()) is not None and due <= end:
            self.now = max(due, self.now)
            self.do(ev.TimePassed())
        self.now = end

    # -- safety

    @invariant()
    def engine_is_consistent(self) -> None:
        if hasattr(self, "engine"):
            self.engine.check_invariants()

    @invariant()
    def no_job_is_lost(self) -> None:
        for number, told in self.told.items():
            over = bool(told) and (told[-1] in LAST or told[-1] is JobStatus.ABANDONED)
            assert over or number in self.engine.jobs, "a job is neither told to be over nor known"

    # -- liveness

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        for node in self.nodes:
            # Whatever state it was left in, each node comes back, fit, as a new epoch.
            if node.link is not None:
                link = node.link
                self.drop_link(node)
                self.do(ev.LinkClosed(link, "reset"))
            node.draining, node.cpus, node.full = False, 2, False
        self.open_link(self.nodes[0])  # the same epoch
        for node in self.nodes[1:]:
            node.epoch += 1
            node.forget_all()
            self.open_link(node)
        for node in self.nodes:  # and the application wants them all
            self.do(ev.NodeCpusLimited(node.ident, None))
            for ident in self.computations:
                self.do(ev.NodeTaken(ident, node.ident))
        for _ in range(400):
            if not self.run_once():
                break
        self.engine.check_invariants()
        failed = {
            computation.id: bool(computation.placements)
            and all(placement.state is PlacementState.FAILED for placement in computation.placements.values())
            for computation in self.computations.values()
        }
        for number, told in self.told.items():
            job = self.jobs[number]
            if not told or (told[-1] not in LAST and told[-1] is not JobStatus.ABANDONED):
                assert failed[job.computation], f"{job} never ended: {told}"

    def run_once(self) -> bool:
        """Let everything happen that is due; tell whether anything was."""
        busy = False
        for node in self.nodes:
            while node.inbox:
                busy = True
                node.take(node.inbox.popleft())
            self.load(node)
            for key, attempt in list(node.attempts.items()):
                if attempt.state == "queued" and attempt.cancelled:
                    node.end(key, int(Outcome.CANCELLED))
                elif attempt.state == "queued":
                    self.start(node, key, tell=False)
                elif attempt.state == "running":
                    node.end(key, 0)
            node.settle_down()
            while node.outbox and node.link is not None:
                busy = True
                self.do(ev.MessageReceived(node.link, node.outbox.popleft()))
        due = self.engine.next_deadline()
        if due is not None:
            self.now = max(due, self.now)
            self.do(ev.TimePassed())
            busy = True
        return busy


TestSchedulerMachine = SchedulerMachine.TestCase


def random_message(rng: random.Random, jobs: int) -> Any:
    computation = f"c{rng.randint(1, 3)}"
    keys = [(rng.randint(-1, jobs), rng.randint(-1, 4)) for _ in range(rng.randint(0, 3))]
    odd = rng.choice([0.0, -1.0, 5.0, 1e300, float("nan"), float("inf")])
    match rng.randint(0, 12):
        case 0 | 1 | 2:
            results = [
                msg.JobResult(*key, rng.randint(0, 5), rng.randint(-9, 9), "", odd, rng.random() * 9, b"")
                for key in keys
            ]
            return msg.JobResults(computation, results)
        case 3 | 4:
            return msg.JobsStarted(computation, [msg.JobStart(*key, odd) for key in keys])
        case 5:
            return msg.JobsRejected(computation, keys, "no")
        case 6 | 7:
            return msg.ComputationReady(computation)
        case 8:
            return rng.choice([msg.ComputationFailed, msg.CloseComputation])(computation, False)
        case 9:
            state = rng.choice(["unknown", "preparing", "ready", "closing", "nonsense"])
            return msg.Reconciled([msg.Finding(computation, state, keys, [rng.randint(-1, 4)])])
        case 12:
            return msg.DataLost(computation, rng.randint(-1, 4), "no")
        case 10:
            return msg.NodeChanged(rng.randint(-1, 4), (odd, 1, 2, 3.0), rng.random() < 0.2)
        case _:
            return msg.ComputationClosed(computation)


@pytest.mark.parametrize("seed", range(5))
def test_no_message_ever_raises(seed: int) -> None:
    """20 000 messages each, late, repeated, out of order, or plain wrong: never an exception."""
    rng = random.Random(seed)
    engine = SchedulerEngine(RerunPolicy() if seed % 2 else CancelPolicy())
    for number in (1, 2):
        computation = Computation(
            ComputationId(f"c{number}"),
            "compute",
            "function",
            Isolation.PROCESS,
            number == 1,
            lambda node: node.cpus,
            lambda python: b"code",
            observed=number == 2,
        )
        engine.handle(ev.ComputationAdded(computation), 0.0)
    last_job = last_link = 0
    epochs = [1] * NODES
    links: list[LinkId] = []
    told: Counter[int] = Counter()
    for step in range(20_000):
        now = step / 100
        luck = rng.random()
        if luck < 0.05 or not links:
            which = rng.randrange(NODES)
            epochs[which] += rng.random() < 0.2
            last_link += 1
            links.append(LinkId(last_link))
            hello = msg.Hello(
                1, 1, "node", f"{which:032x}", epochs[which], "n", "1", "3.11", "linux", 1 << 22, 5.0, 2
            )
            event: ev.Event = ev.LinkOpened(links[-1], hello, None, "10.0.0.1")
        elif luck < 0.06:
            event = ev.LinkClosed(rng.choice(links), "reset", rng.random() < 0.2)
        elif luck < 0.2:
            last_job += 2
            numbers = (last_job - 1, last_job)
            event = ev.JobsSubmitted(
                [Job(JobId(n), ComputationId(f"c{rng.randint(1, 2)}"), b"x") for n in numbers]
            )
        elif luck < 0.22:
            event = ev.CancelRequested([JobId(rng.randint(1, last_job + 1))])
        elif luck < 0.25:
            event = ev.TimePassed()
        else:
            event = ev.MessageReceived(rng.choice(links[-6:]), random_message(rng, last_job))
        for effect in engine.handle(event, now):
            if isinstance(effect, fx.TellJobs):
                told.update(change.job.id for change in effect.changes if change.status in LAST)
        if step % 500 == 0:
            engine.check_invariants()
    engine.check_invariants()
    assert max(told.values()) == 1
    assert len(told) > 100
    assert {job.state for job in engine.jobs.values()} <= set(JobState) - {JobState.SETTLED}
    assert {node.state for node in engine.nodes.values()} <= set(NodeState)
