"""What simulated jobs print, and what those who look on must see of it: every byte once, or told to be missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dispy.engine.effects import TellOutput
from dispy.model import AttemptKey, ComputationId, JobId
from dispy.wire.messages import JobOutput, WatchOutput
from dispy_node.engine import events as ev
from dispy_node.runner.frames import KEY, OUTPUT_HEAD, WATCH_HEAD
from dispy_node.runner.jobs import Job
from dispy_node.runner.offspring import Offspring
from dispy_node.runner.output import Output
from dispy_node.runner.watching import Watching
from dispy_testing.simulation.story import Broken

EVERY = 4
"""One of so many jobs prints, and is watched."""

PRINTS = 9
PRINT_BYTES = 41_000
"""So much, so often: more than may be under way."""

KEPT_BYTES = 250_000
"""So much is kept at the node, that something may be missing."""

_PERIOD = bytes(range(251))


def printed(attempt: int, start: int, end: int) -> bytes:
    """Give what an attempt prints from one place to another."""
    offset = (start + attempt) % len(_PERIOD)
    return (_PERIOD * ((end - start) // len(_PERIOD) + 2))[offset : offset + end - start]


class Printing:
    """The output of the jobs of a runner.

    Args:
        tell: takes what the runner tells.
    """

    def __init__(self, computation: ComputationId, tell: Callable[[ev.Event], None]) -> None:
        self._computation = computation
        self._tell = tell
        self._children: dict[AttemptKey, Offspring] = {}
        self._watching = Watching(self, self)

    def started(self, key: AttemptKey) -> None:
        """Take in that a job runs."""
        child = self._children[key] = Offspring(-1, -1, -1, None)
        job = Job(KEY.pack(*key), b"")
        job.child = child
        child.jobs.append(job)
        child.out = Output(KEPT_BYTES)

    def ended(self, key: AttemptKey) -> None:
        """Take in that a job has ended."""
        self._children.pop(key, None)

    def prints(self, key: AttemptKey) -> None:
        """Have a job print, if it still runs."""
        child = self._children.get(key)
        if child is not None and child.out is not None:
            size = child.out.size
            child.out.add(printed(key[1], size, size + PRINT_BYTES))
            self._watching.pump(child)

    def watch(self, message: WatchOutput) -> None:
        """Take a watch."""
        child = self._children.get((message.job, message.attempt))
        if child is not None:
            places = (message.number, message.stream, message.start, message.limit)
            text = WATCH_HEAD.pack(message.job, message.attempt, *places)[KEY.size :]
            self._watching.watch(child.jobs[0], text)

    def output(self, record: bytes) -> None:
        """Tell output (`Watching`)."""
        job, attempt, number, offset, missed = OUTPUT_HEAD.unpack_from(record)
        data = record[OUTPUT_HEAD.size :]
        output = JobOutput(self._computation, job, attempt, number, offset, missed, data)
        self._tell(ev.OutputTold(self._computation, output))

    def show(self, child: Offspring) -> None:
        """Do nothing (`Watching`): nothing is held back."""


@dataclass(slots=True, eq=False)
class Onlooker:
    """Who looks at the output of a job.

    Attributes:
        attempt: whose output came last.
        at: so much of it has come, or is missing.
    """

    job: JobId
    attempt: int = 0
    at: int = 0

    def take(self, piece: TellOutput) -> None:
        """Take a piece.

        Raises:
            Broken: it is not what comes next.
        """
        if piece.attempt < self.attempt:
            raise Broken(f"job {self.job}: output of attempt {piece.attempt} after {self.attempt}")
        if piece.attempt != self.attempt:
            self.attempt, self.at = piece.attempt, 0
        start = self.at + piece.missed
        self.at = start + len(piece.data)
        if not piece.data or piece.data != printed(self.attempt, start, self.at):
            raise Broken(
                f"job {self.job}, attempt {self.attempt} has not printed what is told from {start} on"
            )
