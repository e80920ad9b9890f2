"""What people are told about a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dispy.engine.events import CancelRequested, NodeRested
from dispy.runtime.explaining import FAILED_MAX, explain_job
from dispy.wire.messages import ComputationFailed

if TYPE_CHECKING:
    from tests.unit.core.conftest import World


def test_a_job_on_its_way(world: World) -> None:
    computation = world.add()
    first, second, third, fourth = world.submit(computation, 4)
    assert explain_job(second, computation) == "it waits behind 1 other; no node takes jobs at the moment"
    world.use(computation, 1)
    assert (
        explain_job(first, computation)
        == "it was sent to node node1 (10.0.0.1), which has not said that it runs; 2 jobs are there for 2 slots"
    )
    assert explain_job(fourth, computation) == "it waits behind 1 other; 1 node takes jobs, with 2 slots"
    world.start(first)
    told = explain_job(first, computation, now=first.started_at + 61.0)
    assert told == "it runs at node node1 (10.0.0.1), since 61 s by the clock there"
    world.do(CancelRequested([first.id]))
    assert explain_job(first, computation).startswith(
        "it is being cancelled: node node1 (10.0.0.1) was asked"
    )
    world.disconnect()
    assert "the link to that node is lost at the moment" in explain_job(second, computation)
    world.wait(100.0)
    assert explain_job(second, computation).startswith("it is abandoned: node node1 (10.0.0.1) is lost")
    world.connect(1, epoch=2)
    world.use(computation, 1)
    assert third.attempt == 1


def test_a_job_that_is_bound_to_a_node(world: World) -> None:
    computation = world.add()
    world.use(computation, 1)
    job = world.submit(computation, 4, pinned=world.ident(1))[3]
    assert explain_job(job, computation) == (
        "it waits for node node1 (10.0.0.1), which it is bound to, behind 1 other; 2 jobs are there for 2 slots"
    )
    world.do(NodeRested(computation.id, world.ident(1)))
    assert explain_job(job, computation).endswith("cluster.allocate_node() lets it have jobs again")
    world.disconnect()
    assert "behind 1 other; " in explain_job(job, computation)


def test_another_attempt(make_world: type[World]) -> None:
    world = make_world(make_world.RerunPolicy())
    computation = world.add(reentrant=True)
    world.use(computation, 1)
    (job,) = world.submit(computation)
    world.disconnect(final=True)
    assert explain_job(job, computation).endswith("; attempt 1 of it did not get anywhere")
    world.connect(1, epoch=2)
    world.use(computation, 1)
    assert "node node1 (10.0.0.1), its attempt 2" in explain_job(job, computation)


def test_nodes_that_cannot_be_used_are_told(world: World) -> None:
    computation = world.add()
    for number in range(1, FAILED_MAX + 2):
        world.connect(number)
        effects = world.say(ComputationFailed(computation.id, "too many are open"), number)
        assert not world.messages(effects), "it is not tried again"
    (job,) = world.submit(computation)
    told = explain_job(job, computation)
    assert (
        "no node takes jobs at the moment; node node1 (10.0.0.1) cannot be used: too many are open; " in told
    )
    assert told.endswith("; nor can 1 other")


def test_nodes_that_are_being_prepared_are_told(world: World) -> None:
    computation = world.add()
    world.connect(1)
    world.connect(2)
    (job,) = world.submit(computation)
    told = explain_job(job, computation)
    assert told.endswith(
        "; node node1 (10.0.0.1) is being prepared: files are sent, or setup is called; so is 1 other"
    )


def test_a_job_that_waits_for_its_turn_among_clusters(world: World) -> None:
    first, second = world.add(1), world.add(2)
    world.use(first, 1)
    world.use(second, 1)
    world.submit(first, 3)
    (free,) = world.submit(second)
    (bound,) = world.submit(second, pinned=world.ident(1))
    turn = "; other clusters of this program use slots there, and dispy.config.ClusterOrder says whose turn it is"
    assert explain_job(free, second).endswith("1 node takes jobs, with 2 slots" + turn)
    assert explain_job(bound, second).endswith("0 jobs are there for 2 slots" + turn)
