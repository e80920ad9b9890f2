from __future__ import annotations

from dispy.plugins import PluginManager
from dispy_node import plugin
from dispy_node.command import NodeCommand
from dispy_node.confine.bubblewrap import BubblewrapExecutor
from dispy_node.confine.cgroup import CgroupExecutor
from dispy_node.confine.user import UserExecutor
from dispy_node.executors import FunctionExecutor, ProgramExecutor
from dispy_node.java import JavaExecutor
from dispy_testing.contracts import check_command


def test_dispy_finds_executors_and_command() -> None:
    manager = PluginManager.load([plugin], entry_points=[])
    assert isinstance(manager.executor("function"), FunctionExecutor)
    assert isinstance(manager.executor("program"), ProgramExecutor)
    assert isinstance(manager.executor("java"), JavaExecutor)
    assert isinstance(manager.executor("user"), UserExecutor)
    assert isinstance(manager.executor("cgroup"), CgroupExecutor)
    assert isinstance(manager.executor("bubblewrap"), BubblewrapExecutor)
    assert isinstance(manager.command("node"), NodeCommand)


def test_contract_of_the_command() -> None:
    check_command(NodeCommand)
