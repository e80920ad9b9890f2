"""What jobs with demands take of a node, and whether it can have another.

Counted are those of this scheduler alone; a node has others as well, and decides by itself what runs when.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dispy.engine.records import JobState, NodeState, PlacementState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dispy.engine.records import Computation, Job, Placement
    from dispy.model import NodeId
    from dispy.wire.messages import JobDemand


def is_open(placement: Placement) -> bool:
    """Tell whether jobs may be sent to *placement*, full or not."""
    node = placement.node
    return (
        placement.state is PlacementState.READY
        and not placement.paused
        and not placement.resting
        and node.state is NodeState.CONNECTED
        and not node.draining
        and not node.reconciling
    )


def busy_of(placement: Placement) -> int:
    """Tell how many slots of a placement are spoken for: by its jobs, and by demands of any computation there."""
    count = len(placement.inflight)
    node = placement.node
    if not node.demands:
        return count
    own = [job for job in node.demands.values() if job.id in placement.inflight]
    elsewhere = max(0, node.usable_cpus - placement.slots)
    cpus = max(cpus_of(own, placement.slots), cpus_of(node.demands.values(), node.usable_cpus) - elsewhere)
    return count - len(own) + max(cpus, len(own))


def cpus_used(placement: Placement) -> int:
    """Tell how many CPUs the jobs of a placement use, or wait for there."""
    own = [job for job in placement.inflight.values() if job.demand is not None]
    return len(placement.inflight) - len(own) + cpus_of(own, placement.slots)


def cpus_of(jobs: Iterable[Job], most: int) -> int:
    """Add up the CPUs that jobs demand; *most* if one of them runs alone."""
    demands = [job.demand for job in jobs if job.demand is not None]
    return most if any(one.exclusive for one in demands) else sum(one.cpus for one in demands)


def can_ever(placement: Placement, demand: JobDemand) -> bool:
    """Tell whether a placement can meet a demand when nothing else is there."""
    there = placement.node.resources
    return placement.slots >= demand.cpus and all(
        count <= there.get(name, 0) for name, count in demand.resources
    )


def lacks(placement: Placement, demand: JobDemand) -> int:
    """Tell how much a demand lacks there because of other demands; 0 if nothing."""
    node = placement.node
    if not node.demands:
        return 0
    jobs = list(node.demands.values())
    if demand.exclusive or any(job.demand is not None and job.demand.exclusive for job in jobs):
        return len(jobs)
    own = [job for job in jobs if job.id in placement.inflight]
    lack = max(
        0,
        cpus_of(jobs, 0) + demand.cpus - node.usable_cpus,
        cpus_of(own, 0) + demand.cpus - placement.slots,
    )
    used: Counter[str] = Counter()
    for job in jobs:
        used.update(dict(() if job.demand is None else job.demand.resources))
    return lack + sum(
        max(0, used[name] + count - node.resources.get(name, 0)) for name, count in demand.resources
    )


def waits_for(placement: Placement, demand: JobDemand) -> bool:
    """Tell whether a job with this demand was sent to a placement, and is not known to run."""
    found = placement.waiting.get(demand)
    if found is None:
        return False
    job, attempt, _ = found
    if placement.inflight.get(job.id) is job and job.attempt == attempt and job.state is JobState.ASSIGNED:
        return True
    del placement.waiting[demand]
    return False


def describe(demand: JobDemand) -> str:
    """Name what a job demands, for people."""
    parts = [_count_cpus(demand.cpus)] if demand.cpus > 1 or not demand.resources else []
    parts += [f"{count} {name}" for name, count in demand.resources]
    return ", ".join(parts) + (" of a node that nothing else runs at" if demand.exclusive else "")


def why_unmet(computation: Computation, demand: JobDemand, pinned: NodeId | None = None) -> str:
    """Tell why no node that is used can ever meet a demand; empty if one can, or if none is used at all."""
    used = [
        placement
        for placement in computation.placements.values()
        if placement.state is PlacementState.READY
        and placement.node.state is NodeState.CONNECTED
        and not placement.resting
        and pinned in (None, placement.node.id)
    ]
    if not used or any(can_ever(placement, demand) for placement in used):
        return ""
    which = "the largest node that is used" if pinned is None else "the node that it is bound to"
    largest = max(placement.slots for placement in used)
    if largest < demand.cpus:
        return f"needs {_count_cpus(demand.cpus)}: {which} has {largest}"
    for name, count in demand.resources:
        most = max(placement.node.resources.get(name, 0) for placement in used)
        if most < count:
            where = "the node that has most of it" if pinned is None else which
            return f"needs {count} {name}: {where} has {most}"
    return f"needs {describe(demand)}: no node that is used has all of that"


def _count_cpus(count: int) -> str:
    return f"{count} CPUs" if count > 1 else "1 CPU"
