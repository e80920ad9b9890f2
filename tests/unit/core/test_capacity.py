"""What jobs with demands take of a node."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.engine.capacity import busy_of, can_ever, cpus_used, describe, lacks, why_unmet
from dispy.engine.events import JobsSubmitted
from dispy.engine.records import LimitedJob
from dispy.wire.messages import JobDemand

GPUS = JobDemand(1, resources=(("gpu", 2),))


@pytest.mark.parametrize(
    ("demand", "text"),
    [
        (JobDemand(4), "4 CPUs"),
        (GPUS, "2 gpu"),
        (JobDemand(2, resources=(("gpu", 1), ("port", 1))), "2 CPUs, 1 gpu, 1 port"),
        (JobDemand(1, exclusive=True), "1 CPU of a node that nothing else runs at"),
    ],
)
def test_words(demand: JobDemand, text: str) -> None:
    assert describe(demand) == text


def test_slots_of_demands_count_at_all_placements_of_a_node(world: Any) -> None:
    first, second = world.add(1), world.add(2, accepts=lambda node: 3)
    for computation in (first, second):
        world.use(computation, 1, cpus=8, resources={"gpu": 2})
    (plain,) = world.jobs(first, 1)
    world.do(JobsSubmitted([LimitedJob(plain.id, first.id, b"", None, demand=JobDemand(6))]))
    here, there = world.placement(first), world.placement(second)
    assert (busy_of(here), busy_of(there)) == (6, 1), "of the eight, five are of no use to the second anyway"
    assert (cpus_used(here), cpus_used(there)) == (6, 0)
    assert lacks(here, JobDemand(2)) == 0
    assert lacks(here, JobDemand(3)) == 1
    assert lacks(here, JobDemand(exclusive=True)) == 1
    assert lacks(there, GPUS) == 0
    assert can_ever(there, GPUS)
    assert not can_ever(there, JobDemand(4))
    assert why_unmet(second, JobDemand(4)) == "needs 4 CPUs: the largest node that is used has 3"
    assert why_unmet(second, JobDemand(1, resources=(("gpu", 3),))) == (
        "needs 3 gpu: the node that has most of it has 2"
    )
    assert why_unmet(second, GPUS) == ""


def test_cpus_and_items_at_different_nodes_are_not_enough(world: Any) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=8)
    world.use(computation, 2, cpus=1, resources={"gpu": 2})
    demand = JobDemand(4, resources=(("gpu", 1),))
    assert why_unmet(computation, demand) == "needs 4 CPUs, 1 gpu: no node that is used has all of that"
