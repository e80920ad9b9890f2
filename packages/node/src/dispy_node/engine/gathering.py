"""Attempts that must have several slots, or items of resources, for themselves.

Rules: an attempt with a demand waits in *line* until all that it demands is free at the same time, and then starts at
once, outside the slots of its computation. The first in line whose items are free *gathers* slots: those that become
free are kept for it (`SlotShares.gather`), and nobody behind it gets any before it. One whose items are not free
keeps them from those behind it, and gathers no slots. So nobody in line waits longer than those before it take; and
nothing is held by one that waits, so no two can wait for each other.

Who needs one slot must not wait for ever for those in line either: when an attempt with a grant has ended and others
have too few slots, they have what is free for `TURN_S` before slots are gathered again.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from dispy.model import ClientId
from dispy.wire.messages import JobDemand
from dispy_node.engine.records import Attempt, AttemptState, ComputationState, Grant, HostedComputation
from dispy_node.engine.slots import TURN_S, SlotShares

NO_RESOURCES: Mapping[str, Sequence[str]] = MappingProxyType({})

LINE_MAX = 64
"""Attempts of one client in line: a scheduler sends one for each of its computations and demands."""

LINES_MAX = 512
"""Attempts of all clients in line: each event of the node may look through them."""

MAX_COUNT = 2**31 - 1
"""Most that can be demanded of anything."""

MAX_RESOURCES = 16
"""Different resources in one demand."""

MAX_NAME_CHARS = 64
"""Longest name of one."""


class Gathering:
    """Gets for attempts what they must have.

    Args:
        slots: the slots of the node.
        resources: name -> items of it.

    Attributes:
        line: attempts that wait for what they demand, or for what is sent with them; in the order of their arrival.
        changed: what `next` gives may be another than last time. Else nobody looks through the line: events are many.
    """

    def __init__(self, slots: SlotShares, resources: Mapping[str, Sequence[str]]) -> None:
        self.resources = resources
        self.line: dict[Attempt, HostedComputation] = {}
        self.changed = False
        self._in_line: Counter[ClientId] = Counter()
        self._resumes_at = math.inf
        self._slots = slots
        self._free = {name: list(items) for name, items in resources.items()}
        self._rests_until = -math.inf
        self._is_gathering = False

    @property
    def deadline(self) -> float:
        """When `next` is to be called at the latest."""
        return self._resumes_at if self.line else math.inf

    @property
    def is_due(self) -> bool:
        """`next` may have something to do."""
        return self.changed and (bool(self.line) or self._is_gathering)

    def why_crowded(self, client: ClientId) -> str:
        """Tell why no further attempt of a client can stand in line; empty if one can."""
        if self._in_line[client] >= LINE_MAX:
            return f"{LINE_MAX} jobs of this client wait at the node for what they must have"
        if len(self.line) >= LINES_MAX:
            return f"{LINES_MAX} jobs wait at the node for what they must have"
        return ""

    def enter(self, attempt: Attempt, computation: HostedComputation, demand: JobDemand) -> None:
        """Let an attempt stand in line, as the last."""
        attempt.demand = demand
        self.changed = True
        self.line[attempt] = computation
        self._in_line[computation.client] += 1

    def leave(self, attempt: Attempt) -> None:
        """Let an attempt leave the line, if it stands there."""
        computation = self.line.pop(attempt, None)
        if computation is not None:
            self.changed = True
            self._in_line[computation.client] -= 1
            if not self._in_line[computation.client]:
                del self._in_line[computation.client]

    def used(self) -> dict[str, list[str]]:
        """Give the items of each resource that attempts have."""
        return {
            name: [item for item in items if item not in self._free[name]]
            for name, items in self.resources.items()
        }

    def why_never(self, computation: HostedComputation, demand: JobDemand) -> str:
        """Tell why a demand cannot be met here; empty if it can, be it later."""
        most = self._slots.limit_of(computation)
        if demand.cpus > most:
            return f"it needs {demand.cpus} CPUs, and may use {most} at the node"
        for name, count in demand.resources:
            there = len(self.resources.get(name, ()))
            if count > there:
                return f"it needs {count} of the resource {name!r}, of which the node has {there}"
        return ""

    def hopeless(self) -> list[tuple[Attempt, HostedComputation]]:
        """Give those in line whose demand can not be met any more."""
        return [
            (attempt, computation)
            for attempt, computation in self.line.items()
            if attempt.demand is not None and self.why_never(computation, attempt.demand)
        ]

    def next(self, now: float) -> tuple[Attempt, HostedComputation] | None:
        """Give the attempt that can start, or gather slots for the one that is the next to do so."""
        self._resumes_at = math.inf
        found = self._first()
        if found is not None and now < self._rests_until and self._slots.is_hungry:
            self._resumes_at = self._rests_until
            found = None
        self._is_gathering = found is not None
        if found is None:
            self.changed = False
            self._slots.gather(None, 0)
            return None
        self._rests_until = -math.inf
        attempt, computation = found
        assert attempt.demand is not None
        cpus, alone = self._cpus_for(computation, attempt), attempt.demand.exclusive
        self.changed = self._slots.gather(computation, cpus, alone=alone)
        return found if self.changed else None

    def grant(self, computation: HostedComputation, attempt: Attempt) -> Grant:
        """Take what the attempt that `next` has given demands; it leaves the line."""
        demand, cpus = attempt.demand, self._cpus_for(computation, attempt)
        assert demand is not None
        self.leave(attempt)
        items = []
        for name, count in demand.resources:
            free = self._free[name]
            items.append((name, tuple(free[:count])))
            del free[:count]
        self._slots.take(computation, cpus, alone=demand.exclusive)
        return Grant(cpus, demand.exclusive, tuple(items))

    def give_back(self, computation: HostedComputation, attempt: Attempt, now: float) -> None:
        """Take back what an attempt has, which has ended."""
        grant, attempt.grant, attempt.demand = attempt.grant, None, None
        self.changed = True
        assert grant is not None
        for name, items in grant.items:
            free = {*self._free[name], *items}
            self._free[name] = [item for item in self.resources[name] if item in free]
        self._slots.give_back(computation, grant.cpus, alone=grant.alone)
        self._rests_until = now + TURN_S

    def _check_first(self) -> None:
        """Assert that who could start has started: that nothing has changed which nobody told us."""
        found = self._first()
        if found is not None and self._resumes_at == math.inf and not self._slots.limits_are_new:
            attempt, computation = found
            assert attempt.demand is not None
            cpus, alone = self._cpus_for(computation, attempt), attempt.demand.exclusive
            assert not self._slots.has_room(computation, cpus, alone=alone), (
                "it waits, and all it needs is free"
            )

    def _first(self) -> tuple[Attempt, HostedComputation] | None:
        kept: set[str] = set()
        for attempt, computation in self.line.items():
            # Most that cannot run wait for what is sent with them.
            if attempt.state is not AttemptState.WAITING or not self._may_run(computation, attempt):
                continue
            assert attempt.demand is not None
            wanted = attempt.demand.resources
            if all(name not in kept and count <= len(self._free[name]) for name, count in wanted):
                return attempt, computation
            kept.update(name for name, _ in wanted)
        return None

    def _may_run(self, computation: HostedComputation, attempt: Attempt) -> bool:
        client = self._slots.members.get(computation)
        return (
            computation.state is ComputationState.READY
            and client is not None
            and not (client.choked or client.lapsed)
            and not attempt.lacks
        )

    def _cpus_for(self, computation: HostedComputation, attempt: Attempt) -> int:
        """Tell how many slots it gets: all that its computation may use if it runs alone."""
        assert attempt.demand is not None
        most = self._slots.limit_of(computation)
        return most if attempt.demand.exclusive else attempt.demand.cpus

    def check_invariants(self, hosted: Iterable[HostedComputation]) -> None:
        """Assert what must hold between events."""
        held: Counter[tuple[str, str]] = Counter()
        waiting: set[Attempt] = set()
        taken = alone = 0
        for computation in hosted:
            grants = [one.grant for one in computation.attempts.values() if one.grant is not None]
            for attempt in computation.attempts.values():
                at_runner = attempt.state in (AttemptState.QUEUED, AttemptState.RUNNING)
                assert (attempt.grant is not None) == (at_runner and attempt.demand is not None), attempt
                if attempt.demand is not None and attempt.state in (
                    AttemptState.RECEIVING,
                    AttemptState.WAITING,
                ):
                    waiting.add(attempt)
                    assert self.line.get(attempt) is computation, "an attempt with a demand is not in line"
            assert computation.apart == len(grants), computation
            assert computation.apart_cpus == sum(grant.cpus for grant in grants), computation
            taken += computation.apart_cpus
            alone += sum(grant.alone for grant in grants)
            held.update((name, item) for grant in grants for name, items in grant.items for item in items)
        assert waiting == set(self.line), "who is in line does not wait"
        assert self._in_line == Counter(one.client for one in self.line.values()), "the line is miscounted"
        assert taken == self._slots.taken, "slots are miscounted"
        self._check_first()
        assert self._slots.alone == (alone == 1), "who runs alone is not known"
        assert alone <= 1, "two run alone"
        assert all(count == 1 for count in held.values()), "an item was given twice"
        for name, items in self.resources.items():
            free = [(name, item) for item in self._free[name]]
            assert sorted([*free, *(key for key in held if key[0] == name)]) == sorted(
                (name, item) for item in items
            ), f"items of {name} are lost, or there twice"


def is_demand(demand: JobDemand) -> bool:
    """Tell whether this is what a correct scheduler sends."""
    names = [name for name, _ in demand.resources]
    return (
        1 <= demand.cpus <= MAX_COUNT
        and len(names) <= MAX_RESOURCES
        and len(set(names)) == len(names)
        and all(len(name) <= MAX_NAME_CHARS for name in names)
        and all(1 <= count <= MAX_COUNT for _, count in demand.resources)
    )
