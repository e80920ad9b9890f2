"""The story of a run, as far as it is remembered, and what is raised when it ends badly."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

LAST_LINES = 40
"""Entries that are shown with a failure."""

LINE_CHARS = 240
"""Longest entry; bodies of jobs would fill screens."""


class Story:
    """Remembers the last entries; they become text only if they are shown."""

    def __init__(self, lines: int = LAST_LINES) -> None:
        self._entries: deque[tuple[float, str, object]] = deque(maxlen=lines)

    def tell(self, now: float, who: str, what: object) -> None:
        """Add an entry: at that time, by or at that participant."""
        self._entries.append((now, who, what))

    def lines(self) -> list[str]:
        """Give the entries as text, the latest last."""
        return [f"{now:12.6f} {who:10} {_shorten(str(what))}" for now, who, what in self._entries]


def _shorten(text: str) -> str:
    return text if len(text) <= LINE_CHARS else text[:LINE_CHARS] + "..."


class Broken(Exception):
    """Something that must never happen has happened; found by a check of the simulator."""


class SimulationFailure(Exception):
    """A run has failed. Its text tells what was wrong, how to replay it, and the last entries of its story.

    Args:
        seed: the seed of the run.
        problem: what was wrong.
        command: the command that replays it.
        story: the last entries.
    """

    def __init__(self, seed: int, problem: str, command: str, story: list[str]) -> None:
        self.seed = seed
        self.problem = problem
        self.command = command
        lines = "\n".join(story)
        super().__init__(f"seed {seed}: {problem}\nreplay: {command}\nthe last of its story:\n{lines}")


@dataclass(slots=True)
class Outcome:
    """What a run that went well has seen.

    Attributes:
        resumed: files that went on where a link broke.
        mark: equal for two runs of one seed, different if they differ anywhere.
    """

    seed: int
    kind: str
    nodes: int
    jobs: int
    steps: int
    messages: int
    virtual_s: float
    real_s: float
    mark: str
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    resumed: int = 0
    recalled: int = 0
    """Attempts that clients asked nodes to give back, and got."""

    @property
    def speed(self) -> float:
        """Virtual time by real time."""
        return self.virtual_s / self.real_s if self.real_s else float("inf")
