"""Which nodes get jobs; the engine's part is in tests/unit/core/test_ranking.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.interfaces import Allocator
from dispy_allocation.placements import PackAllocator, SpreadAllocator
from dispy_testing.contracts import check_allocator


@pytest.mark.parametrize("allocator", [SpreadAllocator, PackAllocator])
def test_contract(allocator: type[Allocator]) -> None:
    check_allocator(allocator)


def place(allocator: Allocator, sizes: list[int], jobs: int) -> list[int]:
    """Give jobs to nodes with so many slots, as the engine does; tell how many each has got."""
    busy = [0] * len(sizes)
    for _ in range(min(jobs, sum(sizes))):
        free = [at for at, size in enumerate(sizes) if busy[at] < size]
        busy[min(free, key=lambda at: allocator.rank(busy[at], sizes[at]))] += 1
    return busy


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(SIZES, st.integers(0, 60))
def test_spread_gives_as_many_to_each_as_fit(sizes: list[int], jobs: int) -> None:
    busy = place(SpreadAllocator(), sizes, jobs)
    most = max(busy)
    assert all(count >= min(size, most - 1) for count, size in zip(busy, sizes, strict=True))


@given(SIZES, st.integers(0, 60))
def test_pack_fills_one_node_after_the_other(sizes: list[int], jobs: int) -> None:
    busy = place(PackAllocator(), sizes, jobs)
    begun = [size for count, size in zip(busy, sizes, strict=True) if 0 < count < size]
    untouched = [size for count, size in zip(busy, sizes, strict=True) if not count]
    assert len(begun) <= 1
    assert all(size >= max(begun, default=0) for size in untouched)
