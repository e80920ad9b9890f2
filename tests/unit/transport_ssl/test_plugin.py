from __future__ import annotations

import subprocess
import sys

from dispy.plugins import PluginManager
from dispy_transport_ssl import plugin
from dispy_transport_ssl.command import CertCommand
from dispy_transport_ssl.credentials import CertificateCredentials
from dispy_transport_ssl.security import SslSecurity


def test_dispy_finds_what_is_offered() -> None:
    manager = PluginManager.load([plugin], entry_points=[])
    assert isinstance(manager.security("ssl"), SslSecurity)
    assert isinstance(manager.credentials("certificate"), CertificateCredentials)
    assert isinstance(manager.command("cert"), CertCommand)


def test_listing_the_commands_imports_neither_click_nor_cryptography() -> None:
    program = (
        "import sys; from dispy.plugins import PluginManager; from dispy_transport_ssl import plugin;"
        "manager = PluginManager.load([plugin], entry_points=[]);"
        "assert 'cert' in [command.NAME for command in manager.commands()];"
        "found = {'click', 'cryptography', 'ssl'} & set(sys.modules); assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
