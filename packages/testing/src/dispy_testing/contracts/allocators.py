"""What every allocator must do."""

from __future__ import annotations

import math
from collections.abc import Callable

from dispy.interfaces import Allocator
from dispy_testing.contracts.rules import check_identity, require

SLOTS = (1, 2, 3, 8, 64, 1000)


def check_allocator(make_allocator: Callable[[], Allocator]) -> None:
    """Check an allocator on nodes of several sizes, with each number of jobs for which a slot is free.

    Args:
        make_allocator: the class, or a function that gives a new allocator.

    Raises:
        ContractViolation: it breaks a rule.
    """
    allocator, other = make_allocator(), make_allocator()
    check_identity(type(allocator), Allocator)
    ranks = {}
    for slots in SLOTS:
        for busy in range(slots):
            rank = ranks[busy, slots] = allocator.rank(busy, slots)
            number = isinstance(rank, int | float) and math.isfinite(rank)
            require(
                number, f"rank must return a finite number, but gave {rank!r} for {busy} of {slots} slots"
            )
    for (busy, slots), rank in reversed(ranks.items()):
        require(
            allocator.rank(busy, slots) == other.rank(busy, slots) == rank,
            f"rank must depend on its arguments alone, but did not for {busy} of {slots} slots",
        )
