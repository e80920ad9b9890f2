from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from dispy.engine import effects as fx
from dispy.engine.policy import CancelPolicy
from dispy.engine.records import Computation, Job
from dispy.errors import LocalProtocolError
from dispy.model import ComputationId, Isolation, JobId, LinkId
from dispy_testing.simulation.client import SimulatedClient
from dispy_testing.simulation.node import SimulatedNode
from dispy_testing.simulation.scenario import Size, draw_scenario
from dispy_testing.simulation.story import Story
from dispy_testing.simulation.timeline import Timeline
from dispy_testing.simulation.truth import Excuse, JobTruth, Manner, Truth, make_body

COMPUTATION = ComputationId("c" * 32)


class Bench:
    """A client whose dials are written down and fail."""

    def __init__(self) -> None:
        rng = random.Random(1)
        self.timeline = Timeline()
        self.truth = Truth(reliable=True)
        self.dials: list[float] = []
        scenario, story = draw_scenario(rng, Size()), Story()
        self.node = SimulatedNode("n1", 2, self.timeline, rng, scenario, self.truth, story)
        self.client = SimulatedClient(
            1, CancelPolicy(), self.dial, self.timeline, rng, scenario, self.truth, story
        )

    def dial(self, client: SimulatedClient, node: SimulatedNode, result: Callable[[bool], None]) -> None:
        self.dials.append(self.timeline.now)
        result(False)

    def submit(self) -> JobTruth:
        job = JobTruth(
            1, JobId(1), COMPUTATION, make_body(1, 1, 0), Manner.RETURNS, 1.0, 0, False, False, pinned=None
        )
        self.truth.add(job)
        self.client.submit([Job(job.job, COMPUTATION, job.body)])
        return job

    def open(self) -> None:
        self.client.add(
            Computation(
                COMPUTATION, "f", "function", Isolation.PROCESS, False, lambda node: node.cpus, lambda _: b""
            )
        )


def test_it_dials_again_with_growing_pauses() -> None:
    bench = Bench()
    bench.client.want(bench.node)
    bench.timeline.run_until(60.0)
    pauses = [later - earlier for earlier, later in zip(bench.dials, bench.dials[1:], strict=False)]
    assert pauses[0] < 0.2
    assert max(pauses) <= 3.6
    assert min(pauses[-3:]) > 2.0


def test_node_that_is_gone_for_good_is_not_dialled() -> None:
    bench = Bench()
    bench.node.gone = True
    bench.client.want(bench.node)
    bench.timeline.run_until(10.0)
    assert bench.dials == []


def test_cancelled_job_has_an_excuse_and_an_end() -> None:
    bench = Bench()
    bench.open()
    job = bench.submit()
    bench.client.cancel([job.job])
    assert job.excuse is Excuse.CANCELLED
    assert job.has_end


def test_job_of_a_closed_computation_has_an_excuse_and_an_end() -> None:
    bench = Bench()
    bench.open()
    bench.client.close(COMPUTATION, terminate=True)
    assert bench.client.closed == {COMPUTATION}
    job = bench.submit()
    assert job.excuse is Excuse.CLOSED
    assert job.has_end


def test_dead_client_does_nothing() -> None:
    bench = Bench()
    assert bench.client.die() == []
    bench.open()
    assert not bench.client.engine.computations


def test_engine_must_not_close_a_link_that_is_gone() -> None:
    bench = Bench()
    with pytest.raises(LocalProtocolError, match="which is gone"):
        bench.client._close_link(fx.CloseLink(LinkId(5), "already connected to this node"))
