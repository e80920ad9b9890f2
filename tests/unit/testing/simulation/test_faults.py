from __future__ import annotations

import random
from dataclasses import replace

import pytest

from dispy_testing.simulation import LinkKind, Size, World
from dispy_testing.simulation.faults import Faults
from dispy_testing.simulation.scenario import FAULTS


def make_world(fault: str) -> tuple[World, Faults]:
    """Give a world that is up and running, and faults of one kind for it."""
    world = World(11, Size(nodes=3, jobs=200, kind=LinkKind.MESSAGES, horizon_s=60.0, job_s=40.0, calm=True))
    world.timeline.run_until(20.0)
    scenario = replace(world.scenario, faults=(fault,), fault_every_s=1.0)
    return world, Faults(world, random.Random(2), scenario)


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"client death"}))
def test_each_kind_happens(fault: str) -> None:
    world, faults = make_world(fault)
    faults.begin()
    world.timeline.run_until(60.0)
    assert faults.counts[fault] > 0
    assert set(faults.counts) == {fault}


def test_last_client_does_not_die() -> None:
    world, faults = make_world("client death")
    faults.begin()
    world.timeline.run_until(60.0)
    assert not faults.counts
    assert world.clients[0].up


def test_in_the_end_all_is_mended_but_what_is_gone() -> None:
    world, faults = make_world("vanish")
    faults.begin()
    for node in world.nodes[:1]:
        node.crash()
    world.network.cut((world.clients[0].name, world.nodes[1].name))
    world.timeline.run_until(60.0)
    faults.end()
    for node in world.nodes:
        assert node.up is not node.gone
        assert world.network.is_cut((world.clients[0].name, node.name)) is node.gone
    assert any(not node.gone for node in world.nodes)


def test_nothing_happens_after_the_horizon() -> None:
    world, faults = make_world("reset")
    world.timeline.run_until(60.0)
    faults.begin()
    world.timeline.run_until(100.0)
    assert not faults.counts
