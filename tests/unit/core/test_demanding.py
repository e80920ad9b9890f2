"""Where jobs go that must have several slots, or items of resources, for themselves."""

from __future__ import annotations

from typing import Any

import pytest

from dispy.engine.demanding import LOOK_S, UNMET_S
from dispy.engine.events import CancelRequested, JobsSubmitted
from dispy.engine.records import Computation, Job, LimitedJob
from dispy.model import JobId
from dispy.runtime.explaining import explain_job
from dispy.wire.messages import AssignJobs, JobDemand, JobsRejected, NodeChanged, RecallJobs

TWO = JobDemand(2)
GPU = JobDemand(resources=(("gpu", 1),))
ALONE = JobDemand(exclusive=True)


def submit(world: Any, computation: Computation, *demands: JobDemand | None, **options: Any) -> list[Job]:
    """Submit jobs with these demands at once."""
    jobs: list[Job] = []
    for plain, demand in zip(world.jobs(computation, len(demands)), demands, strict=True):
        jobs.append(LimitedJob(plain.id, computation.id, b"args", None, demand=demand, **options))
    world.do(JobsSubmitted(jobs))
    return jobs


def where(jobs: list[Job]) -> list[str | None]:
    return [None if job.node is None else job.node.name for job in jobs]


@pytest.fixture
def two_nodes(world: Any) -> Computation:
    """A computation that is ready at node1 with two slots, and at node2 with four and two GPUs."""
    computation: Computation = world.add()
    world.use(computation, 1)
    world.use(computation, 2, cpus=4, resources={"gpu": 2})
    return computation


def test_demand_is_sent_along(world: Any) -> None:
    computation = world.add()
    jobs = submit(world, computation, TWO)
    world.connect(1)
    from dispy.wire.messages import ComputationReady, Reconciled

    world.say(Reconciled([]))
    effects = world.say(ComputationReady(computation.id))
    (message,) = [one for one in world.messages(effects) if isinstance(one, AssignJobs)]
    assert [(one.job, one.demand) for one in message.jobs] == [(jobs[0].id, TWO)]


def test_jobs_go_where_enough_is_free(world: Any, two_nodes: Computation) -> None:
    jobs = submit(world, two_nodes, JobDemand(4), TWO, GPU)
    assert where(jobs)[:2] == ["node2", "node1"]
    plain = submit(world, two_nodes, None)
    assert where(plain) == [None], "slots that are demanded are not sent anything"


def test_each_has_other_items_and_those_that_lack_one_wait_here(world: Any, two_nodes: Computation) -> None:
    jobs = submit(world, two_nodes, GPU, GPU, GPU)
    assert where(jobs) == ["node2", None, None], "one at a time waits to start"
    world.start(jobs[0], number=2)
    assert where(jobs) == ["node2", "node2", None]
    world.start(jobs[1], number=2)
    assert where(jobs) == ["node2", "node2", "node2"], "the next waits at the node, behind those"
    assert where(submit(world, two_nodes, GPU)) == [None]
    world.finish(jobs[0], number=2)
    world.start(jobs[2], number=2)


def test_order_of_submission_and_priority_hold_among_all(world: Any) -> None:
    computation = world.add()
    before = submit(world, computation, None, None, None)
    big = submit(world, computation, TWO)
    after = submit(world, computation, None, None)
    world.use(computation, 1)
    assert where(before) == ["node1", "node1", None]
    assert where(big) == [None]
    world.start(*before[:2])
    world.finish(before[0])
    assert where(before)[2] == "node1"
    assert where(big) == ["node1"], "it is the next there"
    world.start(before[2])
    world.finish(before[1], before[2])
    assert where(after) == [None, None]
    world.start(*big)
    world.finish(*big)
    assert where(after) == ["node1", "node1"]


def test_exclusive_has_a_node_for_itself(world: Any, two_nodes: Computation) -> None:
    jobs = submit(world, two_nodes, ALONE, ALONE)
    assert set(where(jobs)) == {"node1", "node2"}
    other = world.add(2)
    world.use(other, 1)
    assert where(submit(world, other, None)) == [None]


def test_what_waits_for_long_is_taken_back_for_a_node_that_is_free(
    world: Any, two_nodes: Computation
) -> None:
    plain = submit(world, two_nodes, *[None] * 6)
    (job,) = submit(world, two_nodes, TWO)
    assert job.node is not None
    here = int(job.node.name[-1])
    other = 3 - here
    elsewhere = [one for one in plain if one.node is not None and one.node is not job.node]
    world.start(*elsewhere, number=other)
    world.finish(*elsewhere, number=other)
    recalls = [one for one in world.messages(world.wait(1.0)) if isinstance(one, RecallJobs)]
    assert recalls == [RecallJobs(two_nodes.id, [(job.id, 1)])]
    world.say(JobsRejected(two_nodes.id, [(job.id, 1)], "recalled"), here)
    assert where([job]) == [f"node{other}"]
    assert job.attempt == 2


def test_what_no_node_can_run_waits_and_is_told_once(world: Any, two_nodes: Computation) -> None:
    (job,) = submit(world, two_nodes, JobDemand(8))
    assert "needs 8 CPUs: the largest node that is used has 4" in explain_job(job, two_nodes)
    assert world.reports(world.wait(UNMET_S - 2 * LOOK_S)) == []
    reports = world.reports(world.wait(20.0))
    assert len(reports) == 1
    assert "needs 8 CPUs: the largest node that is used has 4" in reports[0]
    assert where(submit(world, two_nodes, None)) != [None], "others go on"
    world.say(NodeChanged(8), 1)
    assert where([job]) == ["node1"]


def test_node_that_has_become_smaller_gets_it_no_more(world: Any) -> None:
    computation = world.add()
    world.use(computation, 1, cpus=4)
    world.say(NodeChanged(1))
    (job,) = submit(world, computation, TWO)
    assert where([job]) == [None]
    assert "needs 2 CPUs: the largest node that is used has 1" in explain_job(job, computation)


def test_bound_jobs_wait_for_their_node_and_end_with_it(world: Any, two_nodes: Computation) -> None:
    node = world.ident(1)
    jobs = submit(world, two_nodes, TWO, TWO, JobDemand(4), pinned=node)
    assert where(jobs) == ["node1", None, None]
    assert "the node that it is bound to has 2" in explain_job(jobs[2], two_nodes)
    told = world.told(world.disconnect(1, final=True))
    assert {number for number, _ in told} >= {jobs[1].id, jobs[2].id}


def test_cancelled_ones_leave_the_line(world: Any, two_nodes: Computation) -> None:
    jobs = submit(world, two_nodes, JobDemand(4), JobDemand(4), JobDemand(4))
    world.do(CancelRequested([JobId(job.id) for job in jobs[1:]]))
    world.start(jobs[0], number=2)
    world.finish(jobs[0], number=2)
    assert two_nodes.demanding == {}
    assert two_nodes.pending == 0
