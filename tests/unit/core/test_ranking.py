"""An allocator says which node with a free slot is next; the engine keeps the rest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.engine.effects import Report
from dispy.engine.events import JobsSubmitted
from dispy.interfaces import API_VERSION, Allocator
from tests.unit.core.conftest import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from dispy.engine.records import Computation


class Chosen(Allocator):
    """Ranks as it is told."""

    NAME = "chosen"
    API_VERSION = API_VERSION

    def __init__(self, rank: Callable[[int, int], float]) -> None:
        self._rank = rank

    def rank(self, busy: int, slots: int) -> float:
        assert 0 <= busy < slots
        return self._rank(busy, slots)


def use(world: World, computation: Computation, *sizes: int) -> None:
    for number, cpus in enumerate(sizes, 1):
        world.connect(number, cpus=cpus)
        world.use(computation, number)


def busy(world: World, computation: Computation) -> list[int]:
    return [len(placement.inflight) for placement in computation.placements.values()]


@pytest.mark.parametrize(
    ("rank", "expected"),
    [
        (lambda busy, slots: busy, [2, 2, 1]),
        (lambda busy, slots: slots - busy, [0, 4, 1]),
        (lambda busy, slots: -slots, [5, 0, 0]),
        (lambda busy, slots: -1e300 if slots == 1 else 1e300 * slots, [2, 2, 1]),
    ],
)
def test_the_smallest_rank_is_next(
    world: World, rank: Callable[[int, int], float], expected: list[int]
) -> None:
    computation = world.add(allocator=Chosen(rank))
    use(world, computation, 8, 4, 1)
    world.submit(computation, 5)
    assert busy(world, computation) == expected


def test_free_slots_are_filled_before_anything_is_sent_ahead(world: World) -> None:
    computation = world.add(allocator=Chosen(lambda busy, slots: slots))
    use(world, computation, 2, 4)
    first = world.submit(computation, 2)
    world.finish(*first, started_at=10.0, ended_at=10.001)
    world.submit(computation, 8)
    assert busy(world, computation) == [4, 4]


@pytest.mark.parametrize(
    "bad", [lambda busy, slots: 1 / busy, lambda busy, slots: math.nan, lambda busy, slots: None]
)
def test_one_that_fails_is_reported_and_not_asked_again(
    world: World, bad: Callable[[int, int], float]
) -> None:
    computation = world.add(allocator=Chosen(bad))
    world.connect(1, cpus=2)
    world.use(computation, 1)
    assert computation.allocator is None
    world.connect(2, cpus=2)
    world.use(computation, 2)
    world.submit(computation, 2)
    assert busy(world, computation) == [1, 1]


def test_so_it_is_when_jobs_are_there_already(world: World) -> None:
    computation = world.add(allocator=Chosen(lambda busy, slots: -busy if busy < 3 else math.nan))
    use(world, computation, 4, 4)
    world.submit(computation, 2)
    assert busy(world, computation) == [2, 0]
    world.submit(computation, 2)
    assert busy(world, computation) == [3, 1]
    world.submit(computation, 2)
    assert busy(world, computation) == [3, 3]


def test_the_report_names_it(world: World) -> None:
    computation = world.add(allocator=Chosen(lambda busy, slots: 0 if not busy else math.inf))
    use(world, computation, 2)
    effects = world.do(JobsSubmitted(world.jobs(computation, 1)))
    (report,) = [effect for effect in effects if isinstance(effect, Report)]
    assert "the allocator 'chosen' has failed (it ranks 1 of 2 slots as inf)" in report.text


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=5),
    st.integers(0, 30),
    st.dictionaries(st.tuples(st.integers(0, 5), st.integers(1, 5)), st.floats(-10, 10)),
)
def test_no_job_waits_while_a_slot_is_free(
    sizes: list[int], count: int, table: dict[tuple[int, int], float]
) -> None:
    world = World()
    computation = world.add(allocator=Chosen(lambda busy, slots: table.get((busy, slots), 0.0)))
    use(world, computation, *sizes)
    world.submit(computation, count)
    assert sum(busy(world, computation)) == min(count, sum(sizes))
