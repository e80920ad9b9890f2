"""A job as the runner sees it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispy_node.runner.offspring import Offspring
    from dispy_node.runner.watching import Watch


class Job:
    """An attempt that the runner has been given.

    Attributes:
        key: job and attempt, packed as in `frames.KEY`.
        record: all that its child needs, as in the payload of RUN.
        child: who has it; None while it is queued.
        number: its number among the jobs of its worker.
        started_at: when it was handed to its child, seconds since the epoch.
        announced: the daemon knows that it runs.
        cancelled: the daemon wants it ended.
        recalled: it is to be given back if it is not started.
        signalled: it has been interrupted for that.
        limits: seconds from its start, seconds of processors' time, bytes of memory, processes, where 0 is no limit;
            None if it has none.
        excess: which limit it has gone beyond, with a text for people; it is cancelled then. None if it has not.
        equipment: what its child is told before it, for jobs that start whatever slots there are; empty for others.
        ended: its result is made; whoever still meets it in a queue passes over it.
        watches: who looks at its output, by number; None as long as nobody has.
    """

    __slots__ = (
        "announced",
        "cancelled",
        "child",
        "ended",
        "equipment",
        "excess",
        "key",
        "limits",
        "number",
        "recalled",
        "record",
        "signalled",
        "started_at",
        "watches",
    )

    def __init__(self, key: bytes, record: bytes) -> None:
        self.key = key
        self.record = record
        self.equipment = b""
        self.child: Offspring | None = None
        self.limits: tuple[float, float, int, int] | None = None
        self.excess: tuple[int, str] | None = None
        self.number = 0
        self.started_at = 0.0
        self.announced = False
        self.cancelled = False
        self.signalled = False
        self.recalled = False
        self.ended = False
        self.watches: dict[int, Watch] | None = None
