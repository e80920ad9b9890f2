from __future__ import annotations

import importlib
from typing import Any

import pytest

from dispy import config
from dispy.errors import UsageError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "DispyPort", 51347)


def assign(monkeypatch: pytest.MonkeyPatch, name: str, value: Any) -> None:
    monkeypatch.setitem(vars(config), name, value)


def test_ports_follow_dispy_port_until_they_are_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (config.ClientPort, config.NodePort) == (51347, 51348)
    config.set_port(9700)
    assert (config.DispyPort, config.ClientPort, config.NodePort) == (9700, 9700, 9701)
    assign(monkeypatch, "NodePort", 4000)
    assert (config.NodePort, config.node_port(), config.client_port()) == (4000, 4000, 9700)


def test_other_defaults() -> None:
    assert config.MsgTimeout == 10
    assert importlib.import_module("dispy.config") is config


@pytest.mark.parametrize("value", ["9700", None, 0, 65536, -1, 9.5, True], ids=repr)
def test_a_port_must_be_a_port(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="dispy_port must be a number from 1 to 65534, not"):
        config.set_port(value)
    assign(monkeypatch, "NodePort", value)
    with pytest.raises(UsageError, match=r"dispy\.config\.NodePort must be a number"):
        config.node_port()


def test_the_highest_port_would_leave_no_room_for_nodes_and_changes_nothing() -> None:
    before = config.DispyPort
    with pytest.raises(UsageError, match="from 1 to 65534"):
        config.set_port(65535)
    assert config.DispyPort == before


def test_unknown_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="'NoSuchPort'"):
        _ = config.NoSuchPort
