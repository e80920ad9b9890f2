"""What goes wrong in a run, and what operators and impatient users do meanwhile."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from dispy.engine.records import JobState
from dispy.model import Avail
from dispy_node.engine.events import DrainRequested
from dispy_testing.simulation.client import SimulatedClient
from dispy_testing.simulation.links import HEARTBEAT_S, SILENT_S, Connection, End, Network
from dispy_testing.simulation.node import SimulatedNode
from dispy_testing.simulation.scenario import Scenario
from dispy_testing.simulation.story import Story
from dispy_testing.simulation.timeline import Timeline

LEAST_CPUS = 2
"""Slots that each node has in the end, at least: so many do jobs demand."""

RESTART_S = 25.0
"""Greatest time until a node that has ended is started again: shorter and longer than a lease."""

CUT_S = 40.0
"""Greatest length of a partition."""


class Stage(Protocol):
    """What faults can be applied to."""

    timeline: Timeline
    network: Network
    nodes: list[SimulatedNode]
    clients: list[SimulatedClient]
    story: Story


class Faults:
    """Has things happen until the scenario's horizon.

    Args:
        stage: what they happen to.
        rng: where all chances come from.
        scenario: which kinds, and how often.
    """

    def __init__(self, stage: Stage, rng: random.Random, scenario: Scenario) -> None:
        self.counts: Counter[str] = Counter()
        self._stage = stage
        self._rng = rng
        self._scenario = scenario
        self._kinds: dict[str, Callable[[], bool]] = {
            "crash": self._crash,
            "stop": self._stop,
            "vanish": self._vanish,
            "reset": self._reset,
            "half reset": self._half_reset,
            "partition": self._partition,
            "isolate": self._isolate,
            "runner death": self._runner_death,
            "cpus": self._cpus,
            "drain": self._drain,
            "cancel": self._cancel,
            "close": self._close,
            "terminate": self._terminate,
            "client death": self._client_death,
        }

    def begin(self) -> None:
        """Let the first fault come."""
        if self._scenario.faults:
            self._wait()

    def _wait(self) -> None:
        self._stage.timeline.after(self._rng.expovariate(1 / self._scenario.fault_every_s), self._strike)

    def _strike(self) -> None:
        if self._stage.timeline.now >= self._scenario.horizon_s:
            return
        name = self._rng.choice(self._scenario.faults)
        self._stage.story.tell(self._stage.timeline.now, "world", f"fault: {name}")
        if self._kinds[name]():
            self.counts[name] += 1
        self._wait()

    def end(self) -> None:
        """Mend everything that can be mended."""
        for node in self._stage.nodes:
            node.load_failures = node.file_breaks = 0.0
            node.spool.failures = 0.0
            if not node.gone:
                for client in self._stage.clients:
                    self._stage.network.heal((client.name, node.name))
                if node.cpus < LEAST_CPUS:
                    node.change_cpus(LEAST_CPUS)
                self._start(node)

    def _start(self, node: SimulatedNode) -> None:
        if not node.up and not node.gone:
            node.boot()

    def _start_later(self, node: SimulatedNode) -> None:
        self._stage.timeline.after(RESTART_S * self._rng.random() ** 2, lambda: self._start(node))

    # -- nodes

    def _pick(self) -> SimulatedNode | None:
        nodes = [node for node in self._stage.nodes if node.up]
        return self._rng.choice(nodes) if nodes else None

    def _crash(self) -> bool:
        node = self._pick()
        if node is not None:
            node.crash()
            self._start_later(node)
        return node is not None

    def _stop(self) -> bool:
        node = self._pick()
        if node is not None:
            node.stop("the operator has stopped it")
            self._start_later(node)
        return node is not None

    def _vanish(self) -> bool:
        node = self._pick()
        if node is None or sum(not other.gone for other in self._stage.nodes) == 1:
            return False
        node.gone = True
        for client in self._stage.clients:
            self._stage.network.cut((client.name, node.name))
        for end in node.fall():
            end.vanish()
        return True

    def _cpus(self) -> bool:
        node = self._pick()
        if node is not None:
            node.change_cpus(self._rng.choice((0, 1, 2, 4, 8)))
            node.measure(Avail(self._rng.random() * 100, 1, 1, 1.0))
        return node is not None

    def _drain(self) -> bool:
        node = self._pick()
        if node is None:
            return False
        node.handle(DrainRequested())
        epoch = node.epoch
        # One that has slow jobs is ended in the end, as by a second signal.
        self._stage.timeline.after(RESTART_S, lambda: self._end_drain(node, epoch))
        return True

    def _end_drain(self, node: SimulatedNode, epoch: int) -> None:
        if node.up and node.epoch == epoch:
            node.stop("the operator is impatient")
        self._start(node)

    def _runner_death(self) -> bool:
        runners = [(node, runner) for node in self._stage.nodes for runner in node.started_runners]
        if not runners:
            return False
        node, runner = self._rng.choice(runners)

        def kill() -> None:
            if runner in node.started_runners:
                node.kill_runner(runner, "its runner was killed by signal 9 (SIGKILL)")

        if self._rng.random() < 0.5:
            runner.doom = kill  # as by a job that kills its parent, before anybody has heard of its start
        else:
            kill()
        return True

    # -- network

    def _pick_connection(self) -> Connection | None:
        connections = list(self._stage.network.connections)
        return self._rng.choice(connections) if connections else None

    def _reset(self) -> bool:
        connection = self._pick_connection()
        if connection is not None:
            connection.reset(lambda _: (self._stage.network.delay(), False))
        return connection is not None

    def _half_reset(self) -> bool:
        """Reset a connection so that one end, or both, learn of it by silence only."""
        connection = self._pick_connection()
        if connection is None:
            return False
        deaf = self._rng.choice(
            ((connection.client,), (connection.node,), (connection.client, connection.node))
        )

        def notice(end: End) -> tuple[float, bool]:
            if end in deaf:
                return SILENT_S - HEARTBEAT_S * self._rng.random(), True
            return self._stage.network.delay(), False

        connection.reset(notice)
        return True

    def _cut(self, pairs: list[tuple[str, str]]) -> None:
        network = self._stage.network
        for pair in pairs:
            network.cut(pair)

        def heal() -> None:
            for pair in pairs:
                if not any(node.gone and node.name == pair[1] for node in self._stage.nodes):
                    network.heal(pair)

        self._stage.timeline.after(CUT_S * self._rng.random() ** 2, heal)

    def _partition(self) -> bool:
        """Cut between one client and one node."""
        self._cut([(self._rng.choice(self._stage.clients).name, self._rng.choice(self._stage.nodes).name)])
        return True

    def _isolate(self) -> bool:
        """Cut off some nodes from all clients, or one client from all nodes."""
        nodes, clients = self._stage.nodes, self._stage.clients
        if self._rng.random() < 0.5:
            clients = [self._rng.choice(clients)]
        else:
            nodes = self._rng.sample(nodes, self._rng.randint(1, len(nodes)))
        self._cut([(client.name, node.name) for client in clients for node in nodes])
        return True

    # -- applications

    def _application(self) -> SimulatedClient | None:
        clients = [client for client in self._stage.clients if client.up]
        return self._rng.choice(clients) if clients else None

    def _cancel(self) -> bool:
        client = self._application()
        if client is None or not client.engine.jobs:
            return False
        jobs = list(client.engine.jobs)
        client.cancel(self._rng.sample(jobs, min(len(jobs), self._rng.choice((1, 1, 5, 50)))))
        return True

    def _close_one(self, *, terminate: bool) -> bool:
        client = self._application()
        if client is None or not client.engine.computations:
            return False
        ident = self._rng.choice(list(client.engine.computations))
        if self._rng.random() < 0.8:
            return False  # else nothing would be left to look at
        pending = any(job.computation == ident for job in client.engine.jobs.values())
        if not terminate and pending and self._rng.random() < 0.9:
            return False
        client.close(ident, terminate=terminate)
        return True

    def _close(self) -> bool:
        return self._close_one(terminate=False)

    def _terminate(self) -> bool:
        return self._close_one(terminate=True)

    def _client_death(self) -> bool:
        """Have a client die, but never the last one."""
        clients = [client for client in self._stage.clients if client.up]
        if len(clients) < 2:
            return False
        client = self._rng.choice(clients)
        if self._rng.random() < 0.5:
            client.leave()
        else:
            for end in client.die():
                end.vanish()
                end.connection.reset(lambda _: (0.01 * self._rng.random(), False))
        return True


def is_waiting(client: SimulatedClient) -> bool:
    """Tell whether something at a client is still to end."""
    return any(job.state is not JobState.ABANDONED for job in client.engine.jobs.values())
