"""The plugin as dispy finds it."""

from __future__ import annotations

from importlib.metadata import EntryPoint

from dispy_transport_unix import plugin
from dispy_transport_unix.transport import UnixTransport

from dispy.plugins import PluginManager


def test_dispy_finds_the_transport() -> None:
    entry_point = EntryPoint("unix", plugin.__name__, "dispy")
    manager = PluginManager.load(entry_points=[entry_point])
    assert isinstance(manager.transport("unix"), UnixTransport)
    assert [info.error for info in manager.describe()] == [""] * len(manager.describe())
