"""A whole cluster in one process, without I/O and in virtual time, decided by one seed.

The real engines of clients and nodes, on some runs also the real sessions, talk over simulated connections while
nodes crash, links break and users change their minds. `simulate` runs one seed and checks what must be true; a
failure tells the command that replays it. `python -m dispy_testing.simulation --help` runs many.

timeline    virtual time              links, wire, unreliable    connections of three kinds
node, runner, spool, client           participants around the real engines
truth       what really happened      scenario, workload, faults what a seed decides
world       a run                     story                      its last entries, its failure, its outcome
"""

import dispy_testing.simulation.requirement  # noqa: F401 (says what to install if dispy_node is not there)
from dispy_testing.simulation.scenario import LinkKind, Size
from dispy_testing.simulation.story import Outcome, SimulationFailure
from dispy_testing.simulation.world import World, simulate

__all__ = ["LinkKind", "Outcome", "SimulationFailure", "Size", "World", "simulate"]
