"""Who may use how many of the node's slots.

*Wanted* is what a computation could use: as many slots as it has active attempts, at most its offer's limit.
Shares are made by filling water: equal among the clients that want slots, then equal among the computations of a
client, nobody above what it wants, what is left over to those whose turn it is. A slot that nobody wants stays
where it is, so one computation alone gets its slots once and never hears of them again.

Slots are *granted* by SetSlots. They are taken back the same way, but a job is never stopped for it: the
computation still *holds* them until its runner confirms. What is held by all is never more than there is, unless
the operator lowers the number. A computation whose confirmation is outstanding is not given more before it comes,
since a confirmation names a number and must not be mistaken for that of a later request.

Shares are made again only when somebody wants more than when they were made, when slots come back, and at two
deadlines: a computation that has too few jobs for its slots keeps them `HOLD_S` long from others who want them
(its next jobs are mostly on their way), and computations that got nothing, as there are fewer slots than
computations, take over every `TURN_S`.

Slots of single attempts that have a grant are *taken*, and those that are *gathered* for the next such attempt are
kept from everybody (`dispy_node.engine.gathering`); what is shared are the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count

from dispy_node.engine.effects import SetSlots
from dispy_node.engine.records import Client, ComputationState, HostedComputation

HOLD_S = 0.25
"""How long a computation keeps slots that it has no jobs for when others want them, in seconds: longer than from a
result to the next assignment over a slow network, short against what a user notices."""

TURN_S = 1.0
"""How long a computation keeps its slots when others have none at all, in seconds. A turn lasts at least one job,
as running jobs are not stopped."""

LIMIT_S = 0.05
"""From one change of a computation's limit that is heeded at once to the next, in seconds: those that come faster are
heeded together."""


def water_fill(wants: Sequence[int], total: int) -> list[int]:
    """Share *total* equally among *wants*, none above what it wants; the first ones get what does not divide."""
    given = [0] * len(wants)
    thirsty = [index for index, want in enumerate(wants) if want > 0]
    while total > 0 and thirsty:
        share = max(1, total // len(thirsty))
        for index in thirsty[:total]:
            part = min(share, wants[index] - given[index])
            given[index] += part
            total -= part
        thirsty = [index for index in thirsty if given[index] < wants[index]]
    return given


class SlotShares:
    """Shares the slots of a node among the computations whose runners are ready.

    Args:
        cpus: number of slots.
    """

    def __init__(self, cpus: int) -> None:
        self.cpus = cpus
        self.members: dict[HostedComputation, Client] = {}
        """Computation -> its client, for each that has a ready runner, or one that may still run jobs."""
        self.due = False
        """`share` must be called."""
        self.deadline = math.inf
        """When `share` must be called at the latest."""
        self._bound = cpus
        """How many slots may be held: `cpus`, or more while those taken away by the operator are still held."""
        self._hungry = False
        """Somebody got less than it wanted when shares were made last."""
        self._turn_ends_at = math.inf
        self._turns = count(1)
        self._limited_at = -math.inf
        self.limits_are_new = False
        """A limit has changed, and shares are made again at `deadline`."""
        self.narrowed = False
        """Some computation may be allowed fewer slots in all than before; who reads this resets it."""
        self.taken = 0
        """Slots of attempts that have a grant."""
        self.alone = False
        """One of them runs alone."""
        self._gathered = 0
        self._gathers_all = False
        self._gatherer: HostedComputation | None = None
        """The computation that slots are gathered for."""

    @property
    def is_hungry(self) -> bool:
        """Somebody got less than it wanted when shares were made last."""
        return self._hungry

    def gather(self, computation: HostedComputation | None, cpus: int, *, alone: bool = False) -> bool:
        """Keep *cpus* slots from others, or all if it is to run *alone*; tell whether they are free.

        With *computation* None nothing is kept any more.
        """
        if (computation, cpus, alone) != (self._gatherer, self._gathered, self._gathers_all):
            self._gatherer, self._gathered, self._gathers_all = computation, cpus, alone
            self.due = True
        return computation is not None and self.has_room(computation, cpus, alone=alone)

    def has_room(self, computation: HostedComputation, cpus: int, *, alone: bool) -> bool:
        """Tell whether an attempt that needs as many slots could start, apart from what is gathered for others."""
        if self.alone or self._used() + cpus > self.cpus or (alone and self._used()):
            return False
        return computation.held + computation.apart_cpus + cpus <= self.limit_of(computation)

    def take(self, computation: HostedComputation, cpus: int, *, alone: bool) -> None:
        """Give slots that were gathered to an attempt."""
        self._gatherer, self._gathered, self._gathers_all = None, 0, False
        computation.apart += 1
        computation.apart_cpus += cpus
        self.taken += cpus
        self.alone = alone
        self.due = True

    def give_back(self, computation: HostedComputation, cpus: int, *, alone: bool) -> None:
        """Take back the slots of an attempt."""
        computation.apart -= 1
        computation.apart_cpus -= cpus
        self.taken -= cpus
        self.alone = self.alone and not alone
        self.due = True

    def join(self, computation: HostedComputation, client: Client) -> None:
        """Take in a computation whose runner has become ready."""
        if not any(other is client for other in self.members.values()):
            client.turn = next(self._turns)
        computation.turn = next(self._turns)
        self.members[computation] = client

    def leave(self, computation: HostedComputation) -> None:
        """Forget a computation whose runner has ended: all that it held is free."""
        if self.members.pop(computation, None) is None:
            return
        computation.slots = computation.held = computation.wanted = 0
        computation.idle_since = math.inf
        self.due = True

    def note_more(self, computation: HostedComputation) -> None:
        """Take note that the computation has more active attempts."""
        plain = computation.plain
        if plain >= computation.slots:
            computation.idle_since = math.inf
        if plain > computation.wanted and computation.wanted < self._limit(computation):
            self.due = True

    def note_fewer(self, computation: HostedComputation, now: float) -> None:
        """Take note that the computation has fewer active attempts."""
        if computation.plain < computation.slots and computation.idle_since == math.inf:
            computation.idle_since = now
            if self._hungry:
                self.deadline = min(self.deadline, now + HOLD_S)

    def note_given_up(self, computation: HostedComputation, slots: int) -> None:
        """Take note that the runner runs at most *slots* jobs from now on."""
        held = max(computation.slots, min(computation.held, slots))
        if held < computation.held:
            computation.held = held
            self.due = True

    def note_limit(self, now: float) -> None:
        """Take note that a computation is to use more slots, or fewer, than was said before."""
        self.narrowed = True
        if now >= self._limited_at + LIMIT_S:
            self._limited_at = now
            self.due = True
        else:
            self.limits_are_new = True
            self.deadline = min(self.deadline, self._limited_at + LIMIT_S)

    def resize(self, cpus: int) -> None:
        """Set the number of slots."""
        self._bound = max(cpus, self._used())
        self.cpus = cpus
        self.due = self.narrowed = True

    def share(self, now: float) -> list[SetSlots]:
        """Make shares anew and tell what changes."""
        self.due = self.limits_are_new = False
        self._bound = max(self.cpus, min(self._bound, self._used()))
        ready = [member for member in self.members if member.state is ComputationState.READY]
        if now >= self._turn_ends_at:
            self._end_turn(ready)
        ready.sort(key=lambda member: (self.members[member].turn, member.turn))
        for member in ready:
            member.wanted = self._wants(member, now)
        closing = sum(member.held for member in self.members if member.state is not ComputationState.READY)
        targets = self._targets(ready, max(0, self._room() - closing))
        changes = self._shrink(ready, targets) + self._grow(ready, targets)
        self._set_deadlines(ready, targets, now)
        return changes

    def _held(self) -> int:
        return sum(member.held for member in self.members)

    def _used(self) -> int:
        return self._held() + self.taken

    def _room(self) -> int:
        """Tell how many slots are there to be shared."""
        return 0 if self.alone or self._gathers_all else max(0, self.cpus - self.taken - self._gathered)

    def limit_of(self, computation: HostedComputation) -> int:
        """Tell how many slots a computation may use in all."""
        limit = computation.offer.cpus
        return min(limit, self.cpus) if limit > 0 else self.cpus

    def _limit(self, computation: HostedComputation) -> int:
        client = self.members.get(computation)
        if client is not None and client.choked:
            return 0
        gathered = self._gathered if computation is self._gatherer else 0
        return max(0, self.limit_of(computation) - computation.apart_cpus - gathered)

    def _wants(self, computation: HostedComputation, now: float) -> int:
        wants = computation.plain
        if now < computation.idle_since + HOLD_S < math.inf:
            wants = max(wants, computation.slots)
        return min(wants, self._limit(computation))

    def _targets(self, ready: list[HostedComputation], total: int) -> list[int]:
        """Tell how many slots each of *ready* should have; it is sorted by client."""
        groups: dict[Client, list[HostedComputation]] = {}
        for member in ready:
            groups.setdefault(self.members[member], []).append(member)
        by_client = water_fill([sum(member.wanted for member in group) for group in groups.values()], total)
        targets: list[int] = []
        for group, part in zip(groups.values(), by_client, strict=True):
            targets += water_fill([member.wanted for member in group], part)
        spare = total - sum(targets)
        for index, member in enumerate(ready):
            kept = min(spare, max(0, min(member.slots, self._limit(member)) - targets[index]))
            targets[index] += kept
            spare -= kept
        return targets

    def _shrink(self, ready: list[HostedComputation], targets: list[int]) -> list[SetSlots]:
        changes = []
        for member, target in zip(ready, targets, strict=True):
            if target < member.slots:
                member.slots = target
                changes.append(SetSlots(member.id, target))
        return changes

    def _grow(self, ready: list[HostedComputation], targets: list[int]) -> list[SetSlots]:
        changes = []
        free = self._room() - self._held()
        for member, target in zip(ready, targets, strict=True):
            more = min(target - member.slots, free)
            if more > 0 and member.held == member.slots:
                member.slots = member.held = member.slots + more
                free -= more
                changes.append(SetSlots(member.id, member.slots))
        return changes

    def _end_turn(self, ready: list[HostedComputation]) -> None:
        """Put those that have slots behind those that have none."""
        for member in ready:
            if member.slots:
                member.turn = next(self._turns)
                self.members[member].turn = next(self._turns)
        self._turn_ends_at = math.inf

    def _set_deadlines(self, ready: list[HostedComputation], targets: list[int], now: float) -> None:
        self._hungry = starved = False
        self.deadline = math.inf
        for member, target in zip(ready, targets, strict=True):
            if member.plain >= member.slots:
                member.idle_since = math.inf
            self._hungry |= target < member.wanted
            starved |= target == 0 < member.wanted
        if self._hungry:
            ends = (member.idle_since + HOLD_S for member in ready)
            self.deadline = min((end for end in ends if end > now), default=math.inf)
        if not starved or not self._room():
            self._turn_ends_at = math.inf
        elif self._turn_ends_at == math.inf:
            self._turn_ends_at = now + TURN_S
        self.deadline = min(self.deadline, self._turn_ends_at)

    def check_invariants(self) -> None:
        """Assert what must hold between events."""
        assert not self.due, "shares are due"
        assert self._used() <= self._bound, "more slots are held than there are"
        free = self._room() - self._held()
        shrinking = any(member.held > member.slots for member in self.members)
        for member in self.members:
            assert 0 <= member.slots <= member.held, member
            if member.state is ComputationState.READY:
                assert member.slots <= self._limit(member) or self.limits_are_new, member
                assert (member.idle_since == math.inf) == (member.plain >= member.slots), member
                # What is free may be meant for one that has yet to confirm an earlier request.
                unused = free > 0 and not shrinking and not self.limits_are_new
                assert not unused or member.slots >= min(member.plain, self._limit(member)), "slots lie idle"
