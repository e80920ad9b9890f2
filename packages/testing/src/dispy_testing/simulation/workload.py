"""What applications do in a run: computations, and when which jobs are submitted to them."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field, replace
from typing import ClassVar

from dispy.engine.events import DataReleased, NodesWidened
from dispy.engine.records import Computation, Job, LimitedJob, Node, SourceFile
from dispy.interfaces import API_VERSION, Allocator
from dispy.model import INLINE_BODY_BYTES, ComputationId, Isolation, JobId, NodeId, SharedData
from dispy.wire.messages import JobDemand
from dispy_testing.simulation.client import SimulatedClient
from dispy_testing.simulation.scenario import Scenario
from dispy_testing.simulation.timeline import Timeline
from dispy_testing.simulation.truth import JobTruth, Manner, Truth, make_body, make_data

LARGE_BYTES = (INLINE_BODY_BYTES + 1, 3 * INLINE_BODY_BYTES, 9 * INLINE_BODY_BYTES)
HUGE_BYTES = 5 * 1024 * 1024
"""More than the window of a stream."""

DATA_EVERY = 6
"""One job of so many reads shared data."""

DATA_BYTES = (100, LARGE_BYTES[0], LARGE_BYTES[2], HUGE_BYTES)
"""Sizes of the shared data of each computation; the second half of it is automatic."""

DEMAND_EVERY = 5
"""One job of so many must have something for itself."""

DEMANDS = (
    JobDemand(resources=(("gpu", 1),)),
    JobDemand(exclusive=True),
    JobDemand(resources=(("gpu", 2),)),
    JobDemand(2),
)
"""In turns; any node that is used at all can meet them, but for the last, which must have two slots."""

PINNED = 0.1
"""Share of jobs that are bound to a node."""

PRIORITIES = (0, 0, 1, 0, -1)
"""Of jobs, in turns."""


class LeastFreeAllocator(Allocator):
    """Fills one node after the other; about the same as that of dispy-allocation, which need not be installed."""

    NAME: ClassVar[str] = "least-free"
    API_VERSION: ClassVar[int] = API_VERSION

    def rank(self, busy: int, slots: int) -> float:
        """Count free slots."""
        return float(slots - busy)


@dataclass(slots=True)
class Application:
    """One client's program.

    Attributes:
        chosen: computation -> names of the nodes that it accepts, None for all.
    """

    client: SimulatedClient
    honours_reentrant: bool
    chosen: dict[ComputationId, set[str] | None] = field(default_factory=dict)
    reentrant: dict[ComputationId, bool] = field(default_factory=dict)
    last_job: int = 0
    most: dict[ComputationId, int] = field(default_factory=dict)
    """Computation -> how many slots of a node it uses at most, 0 for all."""
    shared: dict[ComputationId, list[SharedData]] = field(default_factory=dict)


class Workload:
    """Draws computations and jobs, and has them submitted in time.

    Args:
        timeline: the clock.
        rng: where all chances come from.
        scenario: how many, how long, how large.
        truth: told of each job.
        nodes: names of the nodes there are.
    """

    def __init__(
        self, timeline: Timeline, rng: random.Random, scenario: Scenario, truth: Truth, nodes: list[str]
    ) -> None:
        self._timeline = timeline
        self._rng = rng
        self._scenario = scenario
        self._truth = truth
        self._nodes = nodes
        self.waiting = 0
        """Batches of jobs that are still to be submitted."""

    def plan(self, application: Application) -> None:
        """Decide what an application does."""
        rng, scenario = self._rng, self._scenario
        share = max(1, scenario.jobs // (scenario.clients * scenario.computations))
        for index in range(scenario.computations):
            computation = self._make_computation(application, index)
            opened_at = 0.0 if index == 0 else rng.random() * scenario.horizon_s * 0.3
            self._timeline.at(opened_at, lambda made=computation: application.client.add(made))  # type: ignore[misc]
            left = share
            while left > 0:
                count = min(left, rng.choice((1, 3, 20, 1000)))
                left -= count
                when = opened_at + 0.001 + rng.random() * scenario.horizon_s * 0.7
                self.waiting += 1
                self._timeline.at(
                    when,
                    lambda made=computation, count=count: self._submit(application, made, count),  # type: ignore[misc]
                )
            self._timeline.at(
                opened_at + scenario.horizon_s * 0.4,
                lambda made=computation: application.client.handle(DataReleased(made.id, 1)),  # type: ignore[misc]
            )
            if application.chosen[computation.id] is not None:
                self._timeline.at(
                    opened_at + scenario.horizon_s * 0.5,
                    lambda made=computation: self._widen(application, made.id),  # type: ignore[misc]
                )

    def _make_computation(self, application: Application, index: int) -> Computation:
        rng = self._rng
        ident = ComputationId(f"{application.client.number:016x}{index:016x}")
        some = {name for name in self._nodes if rng.random() < 0.7}
        application.chosen[ident] = some if some and rng.random() < 0.3 else None
        sizes = DATA_BYTES if self._scenario.large else DATA_BYTES[:1]
        application.shared[ident] = [
            SharedData(number, make_data(ident, number, size), automatic=number > len(DATA_BYTES) // 2)
            for number, size in enumerate(sizes, 1)
        ]
        application.reentrant[ident] = reentrant = rng.random() < 0.5
        application.most[ident] = most = rng.choice((0, 0, 0, 1, 2))

        def accepts(node: Node) -> int:
            chosen = application.chosen[ident]
            if chosen is not None and node.name not in chosen:
                return 0
            return min(most, node.cpus) if most else node.cpus

        code = bytes(rng.choice((100, 100, LARGE_BYTES[0])))
        files: list[SourceFile] = []
        if self._scenario.large and rng.random() < 0.7:
            files = self._make_files(application, ident)
        # There files are offered by their hash, and go on where a link broke.
        dest_path = "shared" if rng.random() < (0.8 if files else 0.3) else ""
        return Computation(
            ident,
            f"work{index}",
            "function",
            Isolation.PROCESS,
            reentrant,
            accepts,
            lambda python: code,
            files,
            observed=rng.random() < 0.3,
            dest_path=dest_path,
            allocator=LeastFreeAllocator() if index % 2 else None,
        )

    def _make_files(self, application: Application, ident: ComputationId) -> list[SourceFile]:
        """Make files of a computation, one of them under two names; mostly with hashes."""
        rng = self._rng
        files = []
        for name in ("data.txt", "more.txt"):
            source = f"{name} of {ident}"
            size = rng.choice((0, 10, *LARGE_BYTES))
            pattern = b"".join(hashlib.sha256(f"{source} {turn}".encode()).digest() for turn in range(999))
            content = (pattern * (size // len(pattern) + 1))[:size]
            application.client.files = {**application.client.files, source: content}
            digest = hashlib.sha256(content).digest() if rng.random() < 0.7 else b""
            files.append(SourceFile(source, name, size, 0o644, 0.0, digest))
        if files[0].digest:
            files.append(replace(files[0], path="again.txt"))
        return files

    def _widen(self, application: Application, ident: ComputationId) -> None:
        application.chosen[ident] = None
        application.client.handle(NodesWidened(ident))

    def _submit(self, application: Application, computation: Computation, count: int) -> None:
        self.waiting -= 1
        if not application.client.up:
            return
        jobs: list[Job] = []
        for _ in range(count):
            application.last_job += 1
            truth = self._draw_job(application, computation.id, application.last_job)
            self._truth.add(truth)
            needs = tuple(data for data in application.shared[computation.id] if data.id in truth.needs)
            job = LimitedJob(
                truth.job,
                truth.computation,
                truth.body,
                None,
                priority=PRIORITIES[truth.job % len(PRIORITIES)],
                demand=self._choose_demand(application, computation.id, truth.job),
                pinned=truth.pinned,
                needs=needs,
            )
            jobs.append(job)
        application.client.submit(jobs)

    def _draw_job(self, application: Application, ident: ComputationId, number: int) -> JobTruth:
        rng, scenario = self._rng, self._scenario
        least, greatest = scenario.job_s
        pinned: NodeId | None = None
        if rng.random() < PINNED and application.client.engine.nodes:
            pinned = rng.choice(list(application.client.engine.nodes))
        manner = Manner.RETURNS
        if rng.random() < scenario.failing:
            manner = rng.choice(list(Manner))
        return JobTruth(
            client=application.client.number,
            job=JobId(number),
            computation=ident,
            body=make_body(application.client.number, number, self._draw_size()),
            manner=manner,
            duration_s=least + (greatest - least) * rng.random() ** 2,
            result_bytes=self._draw_size(),
            stubborn=rng.random() < 0.2,
            repeatable=application.honours_reentrant and application.reentrant[ident] and pinned is None,
            pinned=pinned,
            needs=self._choose_data(application.shared[ident], number),
        )

    def _choose_data(self, shared: list[SharedData], number: int) -> dict[int, bytes]:
        """Choose what a job reads: nothing, or one, or two of them."""
        turn, rest = divmod(number, DATA_EVERY)
        if rest:
            return {}
        chosen = {shared[turn % len(shared)], shared[turn // 2 % len(shared)]}
        return {data.id: data.source for data in chosen if isinstance(data.source, bytes)}

    def _choose_demand(self, application: Application, ident: ComputationId, number: int) -> JobDemand | None:
        turn, rest = divmod(number, DEMAND_EVERY)
        demands = DEMANDS[:-1] if application.most[ident] == 1 else DEMANDS
        return None if rest else demands[turn % len(demands)]

    def _draw_size(self) -> int:
        rng = self._rng
        if rng.random() >= self._scenario.large:
            return rng.choice((0, 30, 500))
        return HUGE_BYTES if rng.random() < 0.02 else rng.choice(LARGE_BYTES)
