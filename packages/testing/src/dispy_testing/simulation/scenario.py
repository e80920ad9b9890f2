"""What a run is about, drawn from its seed: how many of each, how fast, and what goes wrong how often.

Each run has only some kinds of faults, and its own rates: a run in which everything fails all the time gets
nowhere, and would find only what happens at the beginning.
"""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass

FAULTS = (
    "crash",
    "stop",
    "vanish",
    "reset",
    "half reset",
    "partition",
    "isolate",
    "runner death",
    "cpus",
    "drain",
    "cancel",
    "close",
    "terminate",
    "client death",
)
"""Kinds of what may happen in a run besides jobs."""


class LinkKind(enum.Enum):
    """How messages travel."""

    MESSAGES = "messages"
    """As values, in order; fast."""
    WIRE = "wire"
    """As bytes, through the real sessions, with heartbeats and credit."""
    UNRELIABLE = "unreliable"
    """As values; some are lost, doubled or overtake others, which no connection would do."""


@dataclass(frozen=True, slots=True)
class Size:
    """What the caller may fix; 0 leaves it to the seed."""

    nodes: int = 0
    jobs: int = 0
    kind: LinkKind | None = None
    horizon_s: float = 0.0
    job_s: float = 0.0
    """Longest run time of a job."""
    calm: bool = False
    """One computation, no job fails, nothing goes wrong but crashes, resets and partitions; for measuring."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """All that is decided before a run begins.

    Attributes:
        horizon_s: when faults stop.
        delay_s: least and greatest delay of a message.
        job_s: least and greatest run time of a job.
        fault_every_s: mean time between faults.
        faults: kinds that happen.
        failing: share of jobs that fail by themselves.
        large: share of jobs whose body or result is too large for a message.
        load_s: greatest time that a runner takes to load its computation.
        file_breaks: share of files asked for by nodes whose link breaks while they come.
        check_every: check the invariants of an engine each so many of its events.
    """

    kind: LinkKind
    clients: int
    nodes: int
    computations: int
    jobs: int
    horizon_s: float
    delay_s: tuple[float, float]
    job_s: tuple[float, float]
    fault_every_s: float
    faults: tuple[str, ...]
    failing: float
    large: float
    load_s: float
    load_failures: float
    file_breaks: float
    disk_failures: float
    loss: float
    check_every: int

    @property
    def reliable(self) -> bool:
        """Messages on one connection arrive in order, each once, or not at all with all that follow."""
        return self.kind is not LinkKind.UNRELIABLE


def draw_scenario(rng: random.Random, size: Size) -> Scenario:
    """Draw what a run is about."""
    kind = rng.choices(list(LinkKind), [6, 3, 1])[0]
    horizon_s = rng.choice((10.0, 30.0, 60.0, 120.0))
    delay_s = rng.choice(((0.0001, 0.001), (0.001, 0.02), (0.01, 0.3), (0.0001, 1.5)))
    job_s = rng.choice(((0.0001, 0.01), (0.01, 0.5), (0.1, 5.0), (1.0, 40.0), (0.0001, 30.0), (0.0001, 30.0)))
    faults = tuple(name for name in FAULTS if rng.random() < 0.45)
    nodes = size.nodes or rng.randint(1, 6)
    jobs = size.jobs or rng.choice((5, 20, 60, 150, 300))
    return Scenario(
        kind=size.kind or kind,
        clients=1 if size.calm else rng.choice((1, 1, 1, 2, 3)),
        nodes=nodes,
        computations=1 if size.calm else rng.randint(1, 3),
        jobs=jobs,
        horizon_s=size.horizon_s or horizon_s,
        delay_s=delay_s,
        job_s=(size.job_s / 10, size.job_s) if size.job_s else job_s,
        fault_every_s=rng.choice((0.3, 1.0, 3.0, 8.0)) if not size.calm else 5.0,
        faults=("crash", "reset", "partition") if size.calm else faults,
        failing=0.0 if size.calm else rng.choice((0.0, 0.1, 0.4)),
        large=0.0 if size.calm else rng.choice((0.0, 0.02, 0.2)),
        load_s=rng.choice((0.01, 0.5, 4.0)),
        load_failures=0.0 if size.calm else rng.choice((0.0, 0.0, 0.2)),
        file_breaks=0.0 if size.calm else rng.choice((0.0, 0.5, 0.8)),
        disk_failures=0.0 if size.calm else rng.choice((0.0, 0.0, 0.1)),
        loss=rng.choice((0.0, 0.05, 0.3)),
        check_every=1 + (nodes * jobs) // 2000,
    )
