from __future__ import annotations

from dispy.plugins import PluginManager
from dispy_allocation import plugin
from dispy_allocation.placements import PackAllocator, SpreadAllocator


def test_dispy_finds_the_allocators() -> None:
    manager = PluginManager.load([plugin], entry_points=[])
    assert isinstance(manager.allocator("spread"), SpreadAllocator)
    assert isinstance(manager.allocator("pack"), PackAllocator)
