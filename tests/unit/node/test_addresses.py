from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from dispy_node import addresses
from dispy_node.addresses import local_address, own_addresses


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.0.0.7", "", "local", "no such host", "\x00"])
def test_peers_of_this_machine_and_names_give_loopback(peer: str) -> None:
    assert local_address(peer).startswith("127.")


def test_loopback_of_the_other_kind() -> None:
    assert local_address("::1") in ("::1", "127.0.0.1")  # the latter where there is no IPv6


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
