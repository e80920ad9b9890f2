from __future__ import annotations

from dispy.plugins import PluginManager
from dispy_auth_secret import plugin
from dispy_auth_secret.command import KeyCommand
from dispy_auth_secret.credentials import SecretCredentials


def test_dispy_finds_credentials_and_command() -> None:
    manager = PluginManager.load([plugin], entry_points=[])
    assert isinstance(manager.credentials("secret"), SecretCredentials)
    assert isinstance(manager.command("key"), KeyCommand)
