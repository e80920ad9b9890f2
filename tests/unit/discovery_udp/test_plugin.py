from __future__ import annotations

import subprocess
import sys

from dispy.plugins import PluginManager
from dispy_discovery_udp import plugin
from dispy_discovery_udp.discovery import UdpDiscovery


def test_dispy_finds_the_discovery() -> None:
    (discovery,) = PluginManager.load([plugin], entry_points=[]).discoveries()
    assert isinstance(discovery, UdpDiscovery)


def test_finding_the_plugin_imports_neither_sockets_nor_trio() -> None:
    program = (
        "import sys, dispy_discovery_udp.plugin; sys.exit('trio' in sys.modules or 'psutil' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
