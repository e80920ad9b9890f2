from __future__ import annotations

import subprocess
import sys

from dispy.plugins import PluginManager
from dispy_transport_tcp import plugin
from dispy_transport_tcp.transport import TcpTransport


def test_dispy_finds_the_transport() -> None:
    manager = PluginManager.load([plugin], entry_points=[])
    assert isinstance(manager.transport("tcp"), TcpTransport)


def test_finding_the_plugin_does_not_import_the_transport() -> None:
    program = (
        "import sys, dispy_transport_tcp.plugin; assert 'dispy_transport_tcp.transport' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
