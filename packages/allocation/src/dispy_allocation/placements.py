"""The policies ``spread`` and ``pack``."""

from __future__ import annotations

from typing import ClassVar

from dispy.interfaces import API_VERSION, Allocator


class SpreadAllocator(Allocator):
    """The node with the fewest jobs comes first, however many slots it has.

    So each job has as much of a machine for itself as possible: of memory, or of bandwidth to its disk.
    """

    NAME: ClassVar[str] = "spread"
    API_VERSION: ClassVar[int] = API_VERSION

    def rank(self, busy: int, slots: int) -> float:
        """Count the jobs."""
        return float(busy)


class PackAllocator(Allocator):
    """The node with the fewest free slots comes first, so that as few nodes as possible have jobs.

    A node that has begun is filled before the next one; the others stay free for other programs, or can sleep.
    """

    NAME: ClassVar[str] = "pack"
    API_VERSION: ClassVar[int] = API_VERSION

    def rank(self, busy: int, slots: int) -> float:
        """Count the free slots; of nodes with as many, those without a job come last."""
        return slots - busy + (0.0 if busy else 0.5)
