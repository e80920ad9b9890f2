from __future__ import annotations

import random

import pytest

from dispy.model import Role
from dispy_node.engine.events import DrainRequested, LinkOpened
from dispy_testing.simulation.node import SimulatedNode, make_hello
from dispy_testing.simulation.scenario import Size, draw_scenario
from dispy_testing.simulation.story import Broken, Story
from dispy_testing.simulation.timeline import Timeline
from dispy_testing.simulation.truth import Truth


def make_node() -> SimulatedNode:
    rng = random.Random(1)
    return SimulatedNode("n7", 2, Timeline(), rng, draw_scenario(rng, Size()), Truth(reliable=True), Story())


def test_restart_is_a_new_epoch_of_the_same_node() -> None:
    node = make_node()
    first = node.hello()
    node.crash()
    assert not node.up
    node.boot()
    second = node.hello()
    assert (first.ident, first.epoch, second.ident, second.epoch) == (node.id, 1, node.id, 2)
    assert second.role == Role.NODE


def test_dead_node_hears_nothing() -> None:
    node = make_node()
    node.crash()
    node.handle(LinkOpened(node.next_link(), make_hello(Role.CLIENT, "c", "c1", 1, 0)))
    assert not node.engine.clients


def test_drained_node_without_jobs_ends() -> None:
    node = make_node()
    node.handle(DrainRequested())
    assert not node.up


def test_slots_that_are_changed_are_greeted_with() -> None:
    node = make_node()
    node.change_cpus(5)
    assert node.hello().cpus == node.engine.cpus == 5


def test_more_jobs_than_slots_are_found() -> None:
    node = make_node()
    node._count(1)
    node._count(1)
    with pytest.raises(Broken, match="3 slots in use, of 2"):
        node._count(1)
