"""What the owner can ask of a node that runs."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from dispy import __version__
from dispy.errors import DispyError, UsageError
from dispy_node.avail import choose_cpus
from dispy_node.daemon import NodeDaemon
from dispy_node.engine import events as ev
from dispy_node.engine.records import AttemptState, ComputationState, HostedComputation
from dispy_node.storage import StateFolder

log = logging.getLogger("dispy.node")

Answer = dict[str, Any]


class Operator:
    """Answers requests.

    Args:
        addresses: where the node listens.
        end: ends the node at once, with all its jobs.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        daemon: NodeDaemon,
        state: StateFolder,
        addresses: Sequence[str],
        end: Callable[[], object],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._daemon = daemon
        self._state = state
        self._addresses = list(addresses)
        self._end = end
        self._started_at = clock()
        self._requests: dict[str, Callable[[Answer], Answer]] = {
            "status": self._status,
            "cpus": self._cpus,
            "drain": self._drain,
            "stop": self._stop,
        }

    def answer(self, request: object) -> tuple[Answer, Callable[[], object] | None]:
        """Do what is asked for.

        Returns:
            the answer, with ``error`` if it cannot be done; and what is to be done when the answer is sent, or None.
        """
        name = request.get("do") if isinstance(request, dict) else None
        handler = self._requests.get(name) if isinstance(name, str) else None
        if handler is None or not isinstance(request, dict):
            known = ", ".join(self._requests)
            return {"error": f"the node does not know the request {name!r}; it knows {known}"}, None
        if handler != self._status:
            log.info("the owner of the node asks: %s", " ".join(str(word) for word in request.values()))
        try:
            return handler(request), self._end if handler == self._stop else None
        except DispyError as error:
            return {"error": str(error)}, None

    def _cpus(self, request: Answer) -> Answer:
        wanted = request.get("cpus")
        if isinstance(wanted, bool) or not (isinstance(wanted, int) or wanted == "all"):
            raise UsageError(f"cpus must be a number or all, not {wanted!r}")
        cpus = wanted if wanted == 0 else choose_cpus(0 if wanted == "all" else wanted)
        self._daemon.handle(ev.CpusChanged(cpus))
        return self._status(request)

    def _drain(self, request: Answer) -> Answer:
        self._daemon.drain()
        return self._status(request)

    def _stop(self, request: Answer) -> Answer:
        return self._status(request) | {"state": "ending"}

    def _status(self, request: Answer) -> Answer:
        engine, rules = self._daemon.engine, self._daemon.rules
        refusal = engine.refusal
        state = "draining" if engine.draining else "paused" if refusal else "open"
        counters = engine.counters
        return {
            "node": self._daemon.identity.name,
            "id": self._state.node,
            "process": os.getpid(),
            "version": __version__,
            "addresses": self._addresses,
            "folder": str(self._state.path),
            "started_at": self._started_at,
            "state": state,
            "reason": refusal or None,
            "slots": engine.cpus,
            "resources": {name: list(items) for name, items in engine.resources.items()},
            "resources_used": engine.resources_used,
            "service_hours": None if rules.hours is None else str(rules.hours),
            "serve_left": engine.serve_left,
            "served": engine.served,
            "jobs": {"taken": counters.assigned, "ended": counters.ended, "rejected": counters.rejected},
            "clients": [
                {
                    "name": client.name,
                    "id": client.id,
                    "connected": client.link is not None,
                    "computations": len(client.computations),
                    "results_kept": sum(map(len, client.leftovers.values())),
                }
                for client in engine.clients.values()
            ],
            "computations": [self._describe(one) for one in engine.computations.values()],
        }

    def _describe(self, computation: HostedComputation) -> Answer:
        counts = dict.fromkeys(AttemptState, 0)
        for attempt in computation.attempts.values():
            counts[attempt.state] += 1
        state = computation.state
        if state is ComputationState.READY and computation.finishing:
            state = ComputationState.CLOSING
        return {
            "name": computation.offer.name,
            "id": computation.id,
            "client": self._daemon.engine.clients[computation.client].name,
            "state": state.value,
            "slots": computation.slots,
            "running": counts[AttemptState.RUNNING],
            "waiting": computation.pending + counts[AttemptState.QUEUED],
            "results_kept": counts[AttemptState.ENDED],
        }
