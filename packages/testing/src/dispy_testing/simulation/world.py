"""A whole cluster in one deterministic run: clients, nodes, network, applications, faults.

A run has these parts: applications submit jobs while things go wrong; at the scenario's horizon faults stop and
all is mended that can be; jobs get their ends; clusters are closed; clients leave; and in the end nodes must have
nothing left of any of it.
"""

from __future__ import annotations

import random
import zlib
from time import perf_counter

from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Job
from dispy.interfaces import API_VERSION, FaultPolicy, LostAttempt, Verdict
from dispy.model import NodeId
from dispy_testing.simulation.client import SimulatedClient
from dispy_testing.simulation.faults import Faults, is_waiting
from dispy_testing.simulation.links import Connection, Network
from dispy_testing.simulation.node import SimulatedNode
from dispy_testing.simulation.scenario import LinkKind, Scenario, Size, draw_scenario
from dispy_testing.simulation.story import Broken, Outcome, SimulationFailure, Story
from dispy_testing.simulation.timeline import Timeline
from dispy_testing.simulation.truth import Truth
from dispy_testing.simulation.unreliable import UnreliableConnection
from dispy_testing.simulation.wire import WireConnection
from dispy_testing.simulation.workload import Application, Workload

DIAL_S = 5.0
"""How long a dial waits that nobody answers."""

PATIENCE_S = 20_000.0
"""Virtual time in which each job must end after faults have stopped."""

CLOSE_S = 15.0
"""Virtual time in which a cluster must be closed; the engine promises 10 s."""

SETTLE_S = 100.0
"""Virtual time after which nodes have forgotten clients that have said goodbye."""

KEPT_S = 3700.0
"""Virtual time after which nodes have forgotten clients that have died."""


class RerunPolicy(FaultPolicy):
    """Runs reentrant jobs again; the same as that of dispy-faults, which need not be installed."""

    NAME = "rerun"
    API_VERSION = API_VERSION
    HONOURS_REENTRANT = True

    def decide(self, lost: LostAttempt) -> Verdict:
        """Tell what becomes of the job."""
        return Verdict.RERUN if lost.reentrant and not lost.pinned else Verdict.ABANDON


class World:
    """One run.

    Args:
        seed: decides everything.
        size: what the caller has fixed.
    """

    def __init__(self, seed: int, size: Size) -> None:
        self.seed = seed
        self.size = size
        self.rng = random.Random(seed)
        self.scenario: Scenario = draw_scenario(self.rng, size)
        self.timeline = Timeline()
        self.story = Story()
        self.truth = Truth(reliable=self.scenario.reliable)
        self.network = Network(self.timeline, self.rng, self.scenario.delay_s)
        self.nodes: list[SimulatedNode] = []
        self.clients: list[SimulatedClient] = []
        for _ in range(self.scenario.nodes):
            self._add_node(self.rng.choice((1, 2, 2, 4)))
        names = [node.name for node in self.nodes]
        self._workload = Workload(self.timeline, self.rng, self.scenario, self.truth, names)
        self._faults = Faults(self, self.rng, self.scenario)
        self._applications: list[Application] = []
        for number in range(1, self.scenario.clients + 1):
            self._add_client(number)

    def _add_node(self, cpus: int) -> SimulatedNode:
        name = f"n{len(self.nodes) + 1}"
        node = SimulatedNode(name, cpus, self.timeline, self.rng, self.scenario, self.truth, self.story)
        self.nodes.append(node)
        return node

    def _add_client(self, number: int) -> None:
        policy: FaultPolicy = self.rng.choice((CancelPolicy, RerunPolicy))()
        client = SimulatedClient(
            number, policy, self._dial, self.timeline, self.rng, self.scenario, self.truth, self.story
        )
        self.clients.append(client)
        application = Application(client, policy.HONOURS_REENTRANT)
        self._applications.append(application)
        self._workload.plan(application)
        for node in self.nodes:
            self.timeline.at(self.rng.random() * 0.5, lambda node=node: client.want(node))  # type: ignore[misc]

    # -- connections

    def _dial(self, client: SimulatedClient, node: SimulatedNode, result: object) -> None:
        assert callable(result)
        pair = (client.name, node.name)
        if self.network.is_cut(pair):
            self.timeline.after(DIAL_S, lambda: result(False))
            return
        self.timeline.after(self.network.delay(), lambda: self._answer(client, node, result))

    def _answer(self, client: SimulatedClient, node: SimulatedNode, result: object) -> None:
        assert callable(result)
        if not client.up:
            return
        if not node.up:
            result(False)
            return
        pair = (client.name, node.name)
        client_side = (client.next_link(node, result), client, client.hello())
        node_side = (node.next_link(), node, node.hello())
        connection: Connection
        if self.scenario.kind is LinkKind.WIRE:
            connection = WireConnection(self.network, pair, client_side, node_side)
        elif self.scenario.kind is LinkKind.UNRELIABLE:
            loss = self.scenario.loss
            connection = UnreliableConnection(self.network, pair, client_side, node_side, loss=loss)
        else:
            connection = Connection(self.network, pair, client_side, node_side)
        client.ends[connection.client.number] = connection.client
        node.ends[connection.node.number] = connection.node
        connection.begin()

    # -- the run

    def run(self) -> Outcome:
        """Run to the end.

        Raises:
            SimulationFailure: something was not as it must be.
        """
        began = perf_counter()
        try:
            self._faults.begin()
            self.timeline.run_until(self.scenario.horizon_s)
            self._faults.end()
            if self.scenario.reliable:
                self._converge()
            else:
                self.timeline.run_until(self.timeline.now + SETTLE_S)
            self._check_engines()
        except Exception as error:
            problem = str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
            raise SimulationFailure(self.seed, problem, self.command(), self.story.lines()) from error
        return self._outcome(perf_counter() - began)

    def command(self) -> str:
        """Give the command that replays this run."""
        words = [f"python -m dispy_testing.simulation --seed {self.seed}"]
        if self.size.nodes:
            words.append(f"--nodes {self.size.nodes}")
        if self.size.jobs:
            words.append(f"--jobs {self.size.jobs}")
        if self.size.kind is not None:
            words.append(f"--links {self.size.kind.value}")
        if self.size.horizon_s:
            words.append(f"--horizon {self.size.horizon_s:g}")
        if self.size.job_s:
            words.append(f"--job-time {self.size.job_s:g}")
        if self.size.calm:
            words.append("--calm")
        return " ".join(words)

    def _converge(self) -> None:
        """Let all come to its end now that nothing goes wrong any more, and check each part of that."""
        alive = [client for client in self.clients if client.up]
        self._add_rescue(alive)
        end = self.timeline.now + PATIENCE_S
        while not self.timeline.run_until(min(end, self.timeline.now + 60), lambda: self._is_idle(alive)):
            self._add_rescue(alive)
            if self.timeline.now >= end:
                self._find_waiting(alive)
        self.timeline.run_until(self.timeline.now + SETTLE_S)
        self._forget_dead_clients()
        self.truth.check_ends()
        self._check_agreement(alive)
        for client in alive:
            for ident in list(client.engine.computations):
                client.close(ident, terminate=False)
        closed = self.timeline.run_until(self.timeline.now + CLOSE_S, lambda: _are_closed(alive))
        if not closed:
            raise Broken("a cluster is not closed in time")
        self.timeline.run_until(self.timeline.now + SETTLE_S)
        for client in alive:
            client.leave()
        self.timeline.run_until(self.timeline.now + SETTLE_S)
        if len(alive) < len(self.clients):
            self.timeline.run_until(self.timeline.now + KEPT_S)
        self._check_nothing_is_left()

    def _is_idle(self, alive: list[SimulatedClient]) -> bool:
        return not self._workload.waiting and not any(is_waiting(client) for client in alive)

    def _add_rescue(self, alive: list[SimulatedClient]) -> None:
        """Add a node if a computation has none left that can run its jobs, as its runner failed on all."""
        for application in self._applications:
            application.chosen = dict.fromkeys(application.chosen)
        waiting: list[Job] = [
            job for client in alive for job in client.engine.jobs.values() if job.pinned is None
        ]
        if waiting and self.timeline.now > self.scenario.horizon_s + 60:
            if len(self.nodes) > self.scenario.nodes:
                return
            node = self._add_node(2)
            node.load_failures = node.spool.failures = node.file_breaks = 0.0
            for client in alive:
                client.want(node)

    def _find_waiting(self, alive: list[SimulatedClient]) -> None:
        self._check_engines()  # a link that is closed again and again explains more
        for client in alive:
            for job in client.engine.jobs.values():
                where = f" at {job.node.name}" if job.node is not None else ""
                raise Broken(f"{job!r} of {client.name} waits for ever{where}")
        raise Broken("the run does not come to an end")

    def _forget_dead_clients(self) -> None:
        """Take out the jobs of clients that have died: nobody is left to be told of their ends."""
        dead = {client.number for client in self.clients if not client.up}
        for key in [key for key in self.truth.jobs if key[0] in dead]:
            del self.truth.jobs[key]

    def _outcome(self, real_s: float) -> Outcome:
        mark = f"{self.rng.getstate()!r} {self.timeline.steps} {self.timeline.now!r}"
        return Outcome(
            seed=self.seed,
            kind=self.scenario.kind.value,
            nodes=len(self.nodes),
            jobs=len(self.truth.jobs),
            steps=self.timeline.steps,
            messages=self.network.messages,
            virtual_s=self.timeline.now,
            real_s=real_s,
            mark=f"{zlib.crc32(mark.encode()):08x}",
            statuses=self.truth.statuses(),
            faults=self._faults.counts,
            starts=self.truth.starts,
            resumed=sum(node.resumed for node in self.nodes),
            recalled=sum(client.engine.counters.recalled_jobs for client in self.clients),
        )

    # -- what must be true in the end

    def _check_engines(self) -> None:
        for client in self.clients:
            client.engine.check_invariants()
            if self.scenario.reliable and client.violations:
                raise Broken(f"{client.name} has closed a link: {client.violations[0]}")
        for node in self.nodes:
            node.engine.check_invariants()
            if self.scenario.reliable and node.violations:
                raise Broken(f"{node.name} has closed a link: {node.violations[0]}")

    def _check_agreement(self, alive: list[SimulatedClient]) -> None:
        """Check that clients and nodes know the same about each other, now that all is quiet."""
        for client in alive:
            for node in self.nodes:
                known = client.engine.nodes.get(NodeId(node.id))
                if node.gone or not node.up or known is None:
                    continue
                if not client.uses(node.id):
                    raise Broken(f"{client.name} has no link to {node.name}, which runs")
                if known.reconciling:
                    raise Broken(f"{client.name} still waits for what {node.name} has")
                if (known.cpus, known.draining) != (node.engine.cpus, node.engine.draining):
                    raise Broken(
                        f"{client.name} believes {node.name} to have {known.cpus} slots, draining "
                        f"{known.draining}; it has {node.engine.cpus}, draining {node.engine.draining}"
                    )

    def _check_nothing_is_left(self) -> None:
        """Check that nodes remember nothing when all clients are gone."""
        for node in self.nodes:
            if node.gone or not node.up:
                continue
            node.parts.make_room()  # a client that was away too long has not said that it ends
            left: dict[str, object] = {
                "clients": list(node.engine.clients),
                "computations": list(node.engine.computations),
                "runners": list(node.runners),
                "folders": sorted(node.folders),
                "spool files": [] if node.spool_leaks else sorted(node.spool.files),
            }
            for what, items in left.items():
                if items:
                    raise Broken(f"{node.name} still has {what} when all clients have left: {items}")


def _are_closed(clients: list[SimulatedClient]) -> bool:
    return not any(client.engine.computations.keys() - client.closed for client in clients)


def simulate(seed: int, size: Size | None = None) -> Outcome:
    """Run a cluster.

    Args:
        seed: decides everything that *size* leaves open.
        size: what is fixed.

    Raises:
        SimulationFailure: something was not as it must be.
    """
    return World(seed, size or Size()).run()
