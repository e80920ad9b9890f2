from __future__ import annotations

from dispy.plugins import PluginManager
from dispy_faults import plugin
from dispy_faults.rerun import RerunPolicy


def test_dispy_finds_the_policy() -> None:
    manager = PluginManager.load([plugin], entry_points=[])
    assert isinstance(manager.fault_policy(need_reentrant=True), RerunPolicy)
