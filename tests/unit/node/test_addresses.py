from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from dispy_node import addresses
from dispy_node.addresses import listening_addresses, local_address, own_addresses


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.7", "", "local", "no such host", "\x00"])
def test_peers_of_this_machine_and_names_give_loopback(peer: str) -> None:
    assert local_address(peer).startswith("127.")


def test_loopback_of_the_other_kind() -> None:
    assert local_address("::1") in ("::1", "127.0.0.1")  # the latter where there is no IPv6


@pytest.fixture
def interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(family: int, address: str) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=address)

    found = {
        "lo": [entry(socket.AF_INET, "127.0.0.1"), entry(socket.AF_INET6, "::1")],
        "eth0": [
            entry(psutil.AF_LINK, "00:11:22:33:44:55"),
            entry(socket.AF_INET, "8.8.4.4"),
            entry(socket.AF_INET6, "2a00::7%eth0"),
        ],
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("0.0.0.0", ["127.0.0.1", "8.8.4.4"]),
        ("::", ["::1", "2a00::7%eth0"]),
        ("", ["127.0.0.1", "::1", "8.8.4.4", "2a00::7%eth0"]),
        ("10.0.0.1", ["10.0.0.1"]),
        ("no such host", []),
        ("x" * 300, []),
    ],
)
def test_what_is_listened_on(host: str, found: list[str]) -> None:
    assert listening_addresses(host) == found


def test_names_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(0, 0, 0, "", ("8.8.8.8", 0)), (0, 0, 0, "", ("2a00::1", 0, 0, 0))]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_args, **_options: answer)
    assert listening_addresses("node.example") == ["8.8.8.8", "2a00::1"]


def test_own_addresses_are_those_that_others_can_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(address: str) -> SimpleNamespace:
        return SimpleNamespace(family=socket.AF_INET6 if ":" in address else socket.AF_INET, address=address)

    link = SimpleNamespace(family=-1, address="02:00:00:00:00:01")
    machine = {
        "lo": [entry("127.0.0.1"), entry("::1")],
        "eth0": [link, entry("fd00::5"), entry("192.168.1.5"), entry("fe80::5%eth0")],
        "eth1": [entry("192.168.1.5"), entry("169.254.3.4"), entry("10.0.0.5")],
    }
    monkeypatch.setattr(addresses.psutil, "net_if_addrs", lambda: machine)
    assert own_addresses() == ("192.168.1.5", "10.0.0.5", "fd00::5")
