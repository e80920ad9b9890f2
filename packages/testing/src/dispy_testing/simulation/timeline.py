"""Virtual time: what is to happen, in order of time and, at one time, in order of asking."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

Action = Callable[[], None]


class Timeline:
    """A heap of actions and a clock that jumps from one to the next.

    Attributes:
        now: the time in seconds.
        steps: actions carried out so far.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.steps = 0
        self._heap: list[tuple[float, int, Action]] = []
        self._asked = 0

    def at(self, when: float, action: Action) -> None:
        """Have *action* called at *when*, or now if that is past."""
        self._asked += 1
        heappush(self._heap, (max(when, self.now), self._asked, action))

    def after(self, delay_s: float, action: Action) -> None:
        """Have *action* called in *delay_s* seconds."""
        self.at(self.now + delay_s, action)

    def run_until(self, end: float, done: Callable[[], bool] | None = None) -> bool:
        """Carry out what is due up to *end*, or until *done*, which is asked after each action.

        Returns:
            False if *done* was given and has not become true; the time is *end* then.
        """
        heap = self._heap
        if done is not None and done():
            return True
        while heap and heap[0][0] <= end:
            self.now, _, action = heappop(heap)
            self.steps += 1
            action()
            if done is not None and done():
                return True
        self.now = end
        return done is None


class Alarm:
    """Calls back when the deadline of an engine is reached.

    Args:
        timeline: the clock.
        deadline: gives the time of the next call, or None.
        ring: called at that time.
    """

    def __init__(self, timeline: Timeline, deadline: Callable[[], float | None], ring: Action) -> None:
        self._timeline = timeline
        self._deadline = deadline
        self._ring = ring
        self._set_for = float("inf")
        self._stopped = False

    def renew(self) -> None:
        """Look at the deadline again."""
        deadline = self._deadline()
        if deadline is not None and deadline < self._set_for:
            self._set_for = deadline
            self._timeline.at(deadline, lambda: self._due(deadline))

    def stop(self) -> None:
        """Never ring again."""
        self._stopped = True

    def _due(self, when: float) -> None:
        if self._stopped or when != self._set_for:
            return
        self._set_for = float("inf")
        deadline = self._deadline()
        if deadline is not None and deadline <= self._timeline.now:
            self._ring()
        self.renew()
