"""Says for people where a job is, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import chain

from dispy.engine.capacity import can_ever, describe, why_unmet
from dispy.engine.ledger import describe_node
from dispy.engine.ranks import lines_in_turn
from dispy.engine.records import Computation, Job, JobState, NodeState, Placement, PlacementState
from dispy.wire.messages import JobDemand

FAILED_MAX = 3
"""Of so many nodes that cannot be used it is told why."""


def explain_job(job: Job, computation: Computation, *, now: float | None = None) -> str:
    """Tell the last thing known about a job that has not ended.

    Args:
        job: what it is about.
        computation: what it is a call of.
        now: seconds since the epoch; by default the time of day.
    """
    if job.state is JobState.QUEUED:
        return _explain_waiting(job, computation)
    assert job.node is not None  # it was sent there
    node = describe_node(job.node)
    again = f", its attempt {job.attempt}" if job.attempt > 1 else ""
    placement = computation.placements.get(job.node.id)
    match job.state:
        case JobState.ASSIGNED:
            what = f"it was sent to {node}{again}, which has not said that it runs{_describe_load(placement)}"
        case JobState.RUNNING:
            age_s = max(0.0, (time.time() if now is None else now) - job.started_at)
            what = f"it runs at {node}{again}, since {age_s:.0f} s by the clock there"
        case JobState.CANCELLING:
            what = f"it is being cancelled: {node}{again} was asked to end it"
        case _:
            what = f"it is abandoned: {node} is lost, and it may not start a second time"
    if job.node.state is not NodeState.CONNECTED and job.state is not JobState.ABANDONED:
        what += (
            "; the link to that node is lost at the moment, and the job is waited for until its lease ends"
        )
    return what


def _explain_waiting(job: Job, computation: Computation) -> str:
    again = f"; attempt {job.attempt} of it did not get anywhere" if job.attempt else ""
    if job.pinned is not None and job.demand is None:
        placement = computation.placements[job.pinned]
        before = _count_before(job, placement.pinned)
        return (
            f"it waits for {describe_node(placement.node)}, which it is bound to, behind {_others(before)}"
            f"{_describe_load(placement)}{_describe_turn([placement])}{again}"
        )
    if job.demand is not None:
        return _explain_demand(job, job.demand, computation) + again
    ready = [one for one in computation.placements.values() if _takes_jobs(one)]
    slots = _count(sum(one.slots for one in ready), "slot")
    where = (
        f"{_count(len(ready), 'node')} {'takes' if len(ready) == 1 else 'take'} jobs, with {slots}"
        if ready
        else ""
    )
    return (
        f"it waits behind {_others(_count_before(job, chain(*lines_in_turn(computation))))}; "
        f"{where or 'no node takes jobs at the moment' + _describe_unready(computation)}"
        f"{_describe_turn(ready)}{again}"
    )


def _describe_unready(computation: Computation) -> str:
    """Say why nodes cannot be used, of the first few, and which are about to be."""
    failed = [one for one in computation.placements.values() if one.state is PlacementState.FAILED]
    told = [f"; {describe_node(one.node)} cannot be used: {one.reason}" for one in failed[:FAILED_MAX]]
    more = f"; nor can {_others(len(failed) - FAILED_MAX)}" if len(failed) > FAILED_MAX else ""
    coming = [
        one
        for one in computation.placements.values()
        if one.state is PlacementState.PREPARING and one.node.state is NodeState.CONNECTED
    ]
    if coming:
        more += f"; {describe_node(coming[0].node)} is being prepared: files are sent, or setup is called"
    if len(coming) > 1:
        more += f"; so {'is' if len(coming) == 2 else 'are'} {_others(len(coming) - 1)}"
    return "".join(told) + more


def _explain_demand(job: Job, demand: JobDemand, computation: Computation) -> str:
    before = _count_before(job, computation.demanding[demand, job.pinned].jobs)
    why = why_unmet(computation, demand, job.pinned)
    if why:
        return f"it {why}; it waits until a node comes that can run it"
    line = f"it waits behind {_others(before)} with the same needs ({describe(demand)})"
    plain = sum(_count_before(job, queue) for queue in lines_in_turn(computation))
    ready = [one for one in computation.placements.values() if _takes_jobs(one) and can_ever(one, demand)]
    if not ready:
        return f"{line}; no node takes jobs at the moment"
    return (
        f"{line}, and {plain} for one CPU each; "
        f"{_count(len(ready), 'node')} can run it, when enough is free there"
    )


def _describe_turn(placements: Sequence[Placement]) -> str:
    """Tell if other clusters of this program are why nothing more is sent there."""
    if not any(placement.parked for placement in placements):
        return ""
    return "; other clusters of this program use slots there, and dispy.config.ClusterOrder says whose turn it is"


def _count_before(job: Job, queue: Iterable[Job]) -> int:
    count = 0
    for other in queue:
        if other is job:
            break
        count += other.state is JobState.QUEUED
    return count


def _takes_jobs(placement: Placement) -> bool:
    return (
        placement.state is PlacementState.READY
        and placement.node.state is NodeState.CONNECTED
        and not placement.resting
    )


def _describe_load(placement: Placement | None) -> str:
    if placement is None:
        return ""
    if placement.resting:
        return "; the node is deallocated: cluster.allocate_node() lets it have jobs again"
    if not _takes_jobs(placement):
        return f"; the computation is {placement.state.value} there"
    there = len(placement.inflight)
    return f"; {_count(there, 'job')} {'is' if there == 1 else 'are'} there for {_count(placement.slots, 'slot')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _others(number: int) -> str:
    return "1 other" if number == 1 else f"{number} others"
