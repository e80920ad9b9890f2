"""How well the scheduler shares out work: the real engine, model nodes, a network that takes its time.

A model node runs jobs in the order in which they come, as many at once as it has slots, each as long as the job is by
its speed; it tells starts and results of `TURN_S` together, and gives back what has not started. Nothing goes wrong
here. What comes out is to be compared with `list_makespan`: what a scheduler would reach that knows at once, and
without a message, when a slot is free, and gives it the next job.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heapreplace

from dispy.engine import effects as fx
from dispy.engine import events as ev
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job
from dispy.engine.scheduler import SchedulerEngine
from dispy.model import AttemptKey, ComputationId, Isolation, JobId, LinkId, NodeId, Outcome, Role
from dispy.wire import messages as msg
from dispy_testing.simulation.node import make_hello
from dispy_testing.simulation.timeline import Alarm, Timeline

WARM_S = 0.3
"""After so long the first results should have come, and jobs be ahead."""

TURN_S = 0.001
"""What happens at a node within this time is told together."""

NAME = "c1"
END_S = 1e6


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as it is: slots, how much faster than usual, and how long a message takes, in seconds."""

    slots: int
    speed: float
    latency_s: float


@dataclass(slots=True)
class Outcomes:
    """What a run was like.

    Attributes:
        makespan_s: from the submission of all jobs to the last result at the scheduler.
        busy_share: share of the time of all slots in which they ran jobs, from `WARM_S` after the submission to the
            moment when half of the jobs were started; 1.0 if that comes earlier.
        engine_s: what the engine has taken by the clock that it was given, without connecting nodes.
        recalled: attempts that were given back.
        messages: that the engine has handled or sent.
    """

    makespan_s: float = 0.0
    busy_share: float = 0.0
    engine_s: float = 0.0
    recalled: int = 0
    messages: int = 0


@dataclass(slots=True, eq=False)
class _Node:
    number: int
    machine: Machine
    link: LinkId
    running: dict[AttemptKey, float] = field(default_factory=dict)
    queue: deque[AttemptKey] = field(default_factory=deque)
    starts: list[msg.JobStart] = field(default_factory=list)
    results: list[msg.JobResult] = field(default_factory=list)
    turning: bool = False


def make_machines(count: int, rng: random.Random) -> list[Machine]:
    """Make unequal nodes: 1 to 64 slots, as fast as usual to four times that, 1 to 50 ms away."""
    return [
        Machine(rng.choice((1, 2, 4, 8, 16, 32, 64)), rng.uniform(1.0, 4.0), rng.uniform(0.001, 0.05))
        for _ in range(count)
    ]


def list_makespan(machines: Sequence[Machine], durations: Sequence[float]) -> float:
    """Give the time that list scheduling takes: the next job to the slot that is free first, at once."""
    slots = [(0.0, -machine.speed) for machine in machines for _ in range(machine.slots)]
    heapify(slots)
    end = 0.0
    for duration in durations:
        free_at, speed = slots[0]
        ends_at = free_at - duration / speed
        end = max(end, ends_at)
        heapreplace(slots, (ends_at, speed))
    return end


class Balance:
    """One run.

    Args:
        machines: the nodes.
        durations: how long the jobs take at usual speed, in seconds, in the order of their submission.
        clock: what the engine takes is measured by this.
    """

    def __init__(
        self,
        machines: Sequence[Machine],
        durations: Sequence[float],
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._durations = durations
        self._clock = clock
        self._timeline = Timeline()
        self._engine = SchedulerEngine(CancelPolicy())
        self._alarm = Alarm(self._timeline, self._engine.next_deadline, lambda: self._do(ev.TimePassed()))
        self._nodes = {
            LinkId(number): _Node(number, machine, LinkId(number))
            for number, machine in enumerate(machines, 1)
        }
        self._begun: set[int] = set()
        self._busy_s = 0.0
        self._warm_at = 0.0
        self._half_at = 0.0
        self._told = 0
        self._outcomes = Outcomes()

    def run(self) -> Outcomes:
        """Run all jobs.

        Raises:
            RuntimeError: some have never ended, or one has started twice.
        """
        self._connect()
        began, out = self._timeline.now, self._outcomes
        self._warm_at = began + WARM_S
        out.engine_s, out.messages = 0.0, 0
        jobs = [Job(JobId(number), ComputationId(NAME), b"") for number in range(1, len(self._durations) + 1)]
        self._do(ev.JobsSubmitted(jobs))
        if not self._timeline.run_until(END_S, lambda: self._told == len(self._durations)):
            raise RuntimeError(
                f"{len(self._durations) - self._told} jobs have never ended; look for lost messages"
            )
        out.makespan_s = self._timeline.now - began
        slots = sum(node.machine.slots for node in self._nodes.values())
        full_s = self._half_at - self._warm_at
        out.busy_share = self._busy_s / (slots * full_s) if full_s > 0 else 1.0
        out.recalled = self._engine.counters.recalled_jobs
        return out

    def _connect(self) -> None:
        computation = Computation(
            ComputationId(NAME),
            "compute",
            "function",
            Isolation.PROCESS,
            False,
            lambda node: node.cpus,
            lambda python: b"code",
        )
        self._do(ev.ComputationAdded(computation))
        for node in self._nodes.values():
            name = f"n{node.number}"
            hello = make_hello(Role.NODE, NodeId(f"{node.number:032x}"), name, 1, node.machine.slots)
            self._do(ev.LinkOpened(node.link, hello, None, name))
        self._timeline.run_until(1.0)

    # -- the scheduler's driver

    def _do(self, event: ev.Event) -> None:
        began = self._clock()
        effects = self._engine.handle(event, self._timeline.now)
        self._outcomes.engine_s += self._clock() - began
        for effect in effects:
            if isinstance(effect, fx.SendMessage):
                self._outcomes.messages += 1
                self._send(self._nodes[effect.link], effect.message)
            elif isinstance(effect, fx.TellJobs):
                self._told += sum(change.result is not None for change in effect.changes)
        self._alarm.renew()

    def _send(self, node: _Node, message: msg.Message) -> None:
        if not isinstance(message, msg.AckResults):
            self._timeline.after(node.machine.latency_s, lambda: self._take(node, message))

    # -- the nodes

    def _say(self, node: _Node, message: msg.Message) -> None:
        self._outcomes.messages += 1
        self._timeline.after(node.machine.latency_s, lambda: self._do(ev.MessageReceived(node.link, message)))

    def _take(self, node: _Node, message: msg.Message) -> None:
        match message:
            case msg.Reconcile():
                self._say(node, msg.Reconciled([msg.Finding(NAME, "preparing", []) for _ in message.beliefs]))
            case msg.OpenComputation():
                self._say(node, msg.ComputationReady(NAME))
            case msg.AssignJobs():
                node.queue.extend((job.job, job.attempt) for job in message.jobs)
                self._start(node)
            case msg.RecallJobs():
                waiting = set(node.queue)
                back = [(key[0], key[1]) for key in message.attempts if (key[0], key[1]) in waiting]
                gone = set(back)
                node.queue = deque(key for key in node.queue if key not in gone)
                if back:
                    self._say(node, msg.JobsRejected(NAME, back, "recalled"))

    def _start(self, node: _Node) -> None:
        while node.queue and len(node.running) < node.machine.slots:
            key = node.queue.popleft()
            if key[0] in self._begun:
                raise RuntimeError(f"job {key[0]} has started twice; look at what was given back")
            self._begun.add(key[0])
            now = self._timeline.now
            if not self._half_at and 2 * len(self._begun) > len(self._durations):
                self._half_at = now
            node.running[key] = now
            node.starts.append(msg.JobStart(*key, now))
            took_s = self._durations[key[0] - 1] / node.machine.speed
            self._timeline.after(took_s, lambda key=key: self._end(node, key))  # type: ignore[misc]
            self._tell_soon(node)

    def _end(self, node: _Node, key: AttemptKey) -> None:
        started_at, now = node.running.pop(key), self._timeline.now
        until = self._half_at or now
        self._busy_s += max(0.0, until - max(started_at, self._warm_at))
        node.results.append(msg.JobResult(*key, int(Outcome.RETURNED), 0, "", started_at, now, b""))
        self._tell_soon(node)
        self._start(node)

    def _tell_soon(self, node: _Node) -> None:
        if not node.turning:
            node.turning = True
            self._timeline.after(TURN_S, lambda: self._tell(node))

    def _tell(self, node: _Node) -> None:
        node.turning = False
        starts = [start for start in node.starts if (start.job, start.attempt) in node.running]
        results, node.starts, node.results = node.results, [], []
        if starts:
            self._say(node, msg.JobsStarted(NAME, starts))
        if results:
            self._say(node, msg.JobResults(NAME, results))
