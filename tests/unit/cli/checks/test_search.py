"""The search for nodes that nobody names."""

from __future__ import annotations

import socket

import pytest

from dispy.discovery import Sighting
from dispy_cli.checks import search
from dispy_cli.checks.finding import Level
from dispy_cli.surroundings import NOT_INSTALLED, Surroundings


def test_networks_and_answers() -> None:
    around = Surroundings()
    around.looking(["eth0 (10.0.0.1)", "lo (127.0.0.1)"], is_local=False)
    around.sighted(Sighting("a" * 32, 1, 51348, ("10.0.0.2",)))
    (found,) = search.check_search(around)
    assert found.level is Level.OK
    assert found.text == "nodes are looked for on eth0 (10.0.0.1), lo (127.0.0.1); 1 answered"


@pytest.mark.parametrize(("places", "told"), [([], "no network"), (["lo (127.0.0.1)"], "lo (127.0.0.1)")])
def test_this_machine_alone(places: list[str], told: str) -> None:
    around = Surroundings()
    around.looking(places, is_local=True)
    (found,) = search.check_search(around)
    assert found.level is Level.WARN
    assert f"on {told} only" in found.text
    assert "DISPY_INTERFACES" in found.remedy


def test_what_keeps_it_from_looking() -> None:
    (found,) = search.check_search(Surroundings(NOT_INSTALLED))
    assert (found.level, found.text) == (Level.WARN, "nothing that finds nodes is installed")
    assert "pip install" in found.remedy


def test_nodes_with_another_key() -> None:
    around = Surroundings()
    around.looking(["eth0 (10.0.0.1)"], is_local=False)
    around.refused("10.0.0.3", "a node there has another key: compare them")
    _, found = search.check_search(around)
    assert (found.level, found.text) == (Level.WARN, "10.0.0.3: a node there has another key")
    assert found.remedy == "compare them"


def test_ports() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        (found,) = search.check_search_ports(port, 0)
        assert found.level is Level.WARN
        assert f"UDP port {port}: a program has it that does not share it" in found.text
        assert str(port) in found.remedy
    (found,) = search.check_search_ports(port, 0)
    assert found.level is Level.OK


def test_port_that_is_shared() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("", 0))
        assert search.can_share(taken.getsockname()[1]) == ""
