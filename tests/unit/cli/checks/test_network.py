"""Addresses, the port of nodes, nodes that were named, firewalls."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dispy.model import Role
from dispy.runtime.dialer import Target
from dispy.runtime.greeting import make_hello
from dispy.runtime.probe import Probed
from dispy_cli.checks import network
from dispy_cli.checks.finding import Level

TARGET = Target("tcp", "alpha", 51348)


def probed(refusal: str | None = "") -> Probed:
    if refusal is None:
        return Probed(TARGET, None, "", "no answer")
    hello = make_hello(Role.NODE, "0" * 32, name="worker", cpus=2, refusal=refusal)
    return Probed(TARGET, hello, "10.0.0.1", "")


def test_addresses() -> None:
    (found,) = network.check_addresses({"lo": ["127.0.0.1", "::1"], "eth0": ["10.0.0.1", "fe80::1%eth0"]})
    assert (found.level, found.text) == (Level.OK, "eth0 10.0.0.1")
    (found,) = network.check_addresses({"lo": ["127.0.0.1"], "odd": ["no address"]})
    assert found.level is Level.WARN


def test_port_that_can_be_had_and_one_that_cannot() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert network.can_listen(port) == "it is in use"
    assert network.can_listen(port) == ""


@pytest.mark.parametrize(
    ("answer", "why_not", "level", "text"),
    [
        (probed(), "it is in use", Level.OK, "node worker answers on port 9"),
        (probed("its hours"), "it is in use", Level.WARN, "takes no jobs: its hours"),
        (probed(None), "", Level.OK, "port 9 is free"),
        (probed(None), "it is in use", Level.FAIL, "it is in use; as a node it says: no answer"),
    ],
)
def test_who_has_the_port(answer: Probed, why_not: str, level: Level, text: str) -> None:
    (found,) = network.check_port(9, answer, why_not)
    assert found.level is level
    assert text in found.text
    assert bool(found.remedy) is (level is not Level.OK)


def test_outer_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def connect(place: tuple[str, int], timeout_s: float) -> socket.socket:
        asked.append(place)
        if place[0] == "10.0.0.2":
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", connect)
    (found,) = network.check_reachable(9, {"lo": ["127.0.0.1"], "eth0": ["10.0.0.1"]})
    assert found.level is Level.OK
    (found,) = network.check_reachable(9, {"eth0": ["10.0.0.1", "10.0.0.2"]})
    assert found.level is Level.WARN
    assert "not at 10.0.0.2 (Connection refused)" in found.text
    assert asked == [("10.0.0.1", 9), ("10.0.0.1", 9), ("10.0.0.2", 9)]


def test_firewalls(tmp_path: Path) -> None:
    (found,) = network.check_firewalls(9, 8, tmp_path)
    assert found.level is Level.OK
    conf = tmp_path / "etc/ufw/ufw.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("ENABLED=no\n")
    assert network.check_firewalls(9, 8, tmp_path)[0].level is Level.OK
    conf.write_text("# on\nENABLED=yes\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/firewalld.pid").write_text("77")
    remedies = [found.remedy for found in network.check_firewalls(9, 8, tmp_path)]
    assert remedies[0] == "as root: ufw allow 9/tcp && ufw allow 9/udp && ufw allow 8/udp"
    assert "--add-port=9/tcp --add-port=9/udp --add-port=8/udp" in remedies[1]


def test_named_nodes() -> None:
    found = network.check_nodes([probed(), probed("its hours"), probed(None)])
    assert [one.level for one in found] == [Level.OK, Level.WARN, Level.FAIL]
    assert found[2].text == "no node at alpha:51348: no answer"
