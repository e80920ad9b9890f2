"""Watches jobs that have limits, and tells when one goes beyond.

Time is looked at when it is over. For everything else the processes of the job's tree are counted and measured now and
then: so often that a job cannot go far beyond its limit even if it grows as fast as machines allow, and so seldom that
looking takes at most a twentieth of a processor, all jobs of the runner together.

Memory is what is resident. As long as the sum over the tree is within the limit, that is all; beyond it, pages that
several processes share are counted by share, which takes longer: else each job would be charged for everything
that `setup` has read.
"""

from __future__ import annotations

import os
from time import monotonic

from dispy_node.runner import explain
from dispy_node.runner.census import measure_share
from dispy_node.runner.escalation import MEMORY, NEVER
from dispy_node.runner.tree import MANY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dispy_node.runner.census import Process
    from dispy_node.runner.jobs import Job
    from dispy_node.runner.tree import Strangers

TIMEOUT = 1
"""The limits, numbered as in `dispy.model.Limit`, which would import ``enum`` (a test compares them)."""
CPU_TIME = 2
PROCESSES = 4

SHORTEST_S = 0.01
LONGEST_S = 0.5
"""From one look to the next."""
COST_SHARE = 20
"""So many times what it took is waited at least after a look at all jobs that are due."""
GROWTH_BYTES_S = 4e9
"""How fast the memory of a job may grow: a few processors that fill pages."""
FORKS_S = 5000
"""How many processes come in a second, about."""
MUCH_TOO_MUCH = 1.25
"""Beyond so many times its memory a job is killed without being asked."""


class Watched:
    """A job that is watched.

    Attributes:
        leader: process of the job.
        deadline: when its time is over (monotonic).
        look_at: when to look at its tree.
        spent_s: what is not in the processors' time of its tree: of earlier jobs (then negative), or of processes
            for which nobody but the runner has waited.
        seen: processes of its tree at the last look that are children of the runner, with their times.
    """

    __slots__ = ("cpu_s", "deadline", "job", "leader", "look_at", "memory", "processes", "seen", "spent_s")

    def __init__(self, job: Job, leader: int) -> None:
        assert job.limits is not None
        timeout_s, self.cpu_s, self.memory, self.processes = job.limits
        now = monotonic()
        self.job = job
        self.leader = leader
        self.deadline = now + timeout_s if timeout_s else NEVER
        self.look_at = now + self.pause_s(0.0, 0, 1) if self.cpu_s or self.memory or self.processes else NEVER
        self.spent_s = 0.0
        self.seen: dict[int, float] = {}

    def pause_s(self, cpu_s: float, memory: int, processes: int) -> float:
        """Tell how long nothing can go far beyond a limit, with so much of each in use."""
        pause_s = LONGEST_S
        if self.cpu_s:
            pause_s = min(pause_s, (self.cpu_s - cpu_s) / (os.cpu_count() or 1))
        if self.memory:
            pause_s = min(pause_s, (self.memory - memory) / GROWTH_BYTES_S)
        if self.processes:
            pause_s = min(pause_s, (self.processes - processes) / FORKS_S)
        return max(pause_s, SHORTEST_S)


class Watch:
    """Watches all jobs of a runner that have limits.

    Args:
        strangers: knows which processes belong to a job.
        place: the node, for messages.
        exceeded: called with a job, the number of the limit, a text for people, and whether the job must end at once.
            It is called again as long as a job is beyond its memory or number of processes.
    """

    def __init__(
        self, strangers: Strangers, place: str, exceeded: Callable[[Job, int, str, bool], None]
    ) -> None:
        self._strangers = strangers
        self._place = place
        self._exceeded = exceeded
        self._watched: dict[bytes, Watched] = {}
        self._due_at = NEVER
        self._rests_until = 0.0
        """Nothing is looked at before, though time may be over."""

    def begin(self, job: Job, leader: int) -> None:
        """Watch a job that is about to start in this process."""
        entry = self._watched[job.key] = Watched(job, leader)
        if entry.cpu_s:
            entry.spent_s = -sum([process.cpu_s for process in self._strangers.tree(leader).values()])
        self._due_at = min(self._due_at, entry.deadline, max(entry.look_at, self._rests_until))

    def end(self, job: Job) -> None:
        """Watch a job no longer."""
        self._watched.pop(job.key, None)

    def due_at(self) -> float:
        """Tell when `tick` has something to do; `NEVER` if nothing is watched."""
        return self._due_at if self._watched else NEVER

    def tick(self, now: float) -> None:
        """Look at what is due."""
        if now < self._due_at:
            return
        due = []
        for entry in list(self._watched.values()):
            if now >= entry.deadline:
                entry.deadline = NEVER
                timeout_s = entry.job.limits[0] if entry.job.limits is not None else 0.0
                self._tell(entry, TIMEOUT, f"{timeout_s:g} s", "", at_once=False)
            if now >= max(entry.look_at, self._rests_until):
                due.append(entry)
        if due:
            self._look_at(due)
        rests = self._rests_until
        self._due_at = min(
            [min(entry.deadline, max(entry.look_at, rests)) for entry in self._watched.values()],
            default=NEVER,
        )

    def _look_at(self, entries: list[Watched]) -> None:
        """Look at jobs, with one walk through the children of the runner for all of them."""
        began = monotonic()
        families = self._strangers.families()
        for entry in entries:
            self._look(entry, families)
        now = monotonic()
        self._rests_until = now + COST_SHARE * (now - began)

    def _look(self, entry: Watched, families: dict[int, set[int]]) -> None:
        found = self._strangers.tree(entry.leader, entry.processes or MANY, families)
        if entry.processes and len(found) > entry.processes:
            self._tell(entry, PROCESSES, str(entry.processes), "", at_once=True)
        cpu_s = _spent_s(entry, found)
        if entry.cpu_s and cpu_s > entry.cpu_s:
            self._tell(entry, CPU_TIME, f"{entry.cpu_s:g} s", f"{cpu_s:.3g} s", at_once=False)
            entry.cpu_s = 0.0
        memory = sum([process.resident_bytes for process in found.values()])
        if entry.memory and memory > entry.memory:
            memory = _share(found)
            if memory > entry.memory:
                at_once = memory > MUCH_TOO_MUCH * entry.memory
                self._tell(
                    entry, MEMORY, explain.amount(entry.memory), explain.amount(memory), at_once=at_once
                )
        entry.look_at = monotonic() + entry.pause_s(cpu_s, memory, len(found))

    def _tell(self, entry: Watched, limit: int, allowed: str, used: str, *, at_once: bool) -> None:
        self._exceeded(entry.job, limit, explain.excess(limit, allowed, used, self._place), at_once)


def _spent_s(entry: Watched, found: dict[int, Process]) -> float:
    """Sum up the processors' time of a tree, including that of processes which the runner has waited for."""
    entry.spent_s += sum([cpu_s for pid, cpu_s in entry.seen.items() if pid not in found])
    own = os.getpid()
    entry.seen = {
        pid: process.cpu_s for pid, process in found.items() if process.parent == own and pid != entry.leader
    }
    return entry.spent_s + sum([process.cpu_s for process in found.values()])


def _share(found: dict[int, Process]) -> int:
    total = 0
    for pid, process in found.items():
        share = measure_share(pid)
        total += process.resident_bytes if share is None else share
    return total
