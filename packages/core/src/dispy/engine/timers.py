"""Deadlines of an engine, each known by a key, the next one at hand."""

from __future__ import annotations

import heapq

TimerKey = tuple[str, ...]
"""What a deadline is for: its kind, then the ids that it concerns."""


class Timers:
    """At most one deadline per key, in seconds of the engine's clock.

    Deadlines that were cleared or moved stay in the heap until they come to its top, so setting one costs
    O(log n) and clearing one O(1).
    """

    def __init__(self) -> None:
        self._due: dict[TimerKey, float] = {}
        self._heap: list[tuple[float, TimerKey]] = []

    def set(self, key: TimerKey, due: float) -> None:
        """Let *key* be due at *due*, instead of when it was due before."""
        if self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._heap, (due, key))

    def clear(self, key: TimerKey) -> None:
        """Forget the deadline of *key*, if there is one."""
        self._due.pop(key, None)

    def due(self, key: TimerKey) -> float | None:
        """Tell when *key* is due, or None if it is not set."""
        return self._due.get(key)

    def next_due(self) -> float | None:
        """Tell the earliest deadline, or None if there is none."""
        heap = self._heap
        while heap and self._due.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def take_due(self, now: float) -> list[TimerKey]:
        """Remove and return the keys that are due at *now*, the earliest first."""
        taken = []
        while (due := self.next_due()) is not None and due <= now:
            key = heapq.heappop(self._heap)[1]
            del self._due[key]
            taken.append(key)
        return taken
