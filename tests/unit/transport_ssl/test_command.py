from __future__ import annotations

from dispy_transport_ssl.cert import cert
from dispy_transport_ssl.command import CertCommand


def test_command_is_the_group_of_click() -> None:
    assert CertCommand().build() is cert
    assert cert.name == CertCommand.NAME
