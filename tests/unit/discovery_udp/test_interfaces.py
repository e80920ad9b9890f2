from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from dispy_discovery_udp import interfaces
from dispy_discovery_udp.interfaces import LOOPBACK_BROADCAST, Path, list_paths


def ipv4(address: str, netmask: str | None = "255.255.255.0", broadcast: str | None = None) -> object:
    return SimpleNamespace(family=socket.AF_INET, address=address, netmask=netmask, broadcast=broadcast)


def ipv6(address: str) -> object:
    return SimpleNamespace(
        family=socket.AF_INET6, address=address, netmask="ffff:ffff:ffff:ffff::", broadcast=None
    )


MAC = SimpleNamespace(family=psutil.AF_LINK, address="02:00:00:00:00:01", netmask=None, broadcast=None)
MACHINE = {
    "lo": [ipv4("127.0.0.1", "255.0.0.0"), ipv6("::1")],
    "eth0": [
        MAC,
        ipv4("192.168.1.5", broadcast="192.168.1.255"),
        ipv4("192.168.1.6", broadcast="192.168.1.255"),
        ipv4("10.0.0.5", broadcast="10.0.0.255"),
        ipv6("fe80::5%eth0"),
        ipv6("fd00::5"),
    ],
    "wlan0": [ipv6("fe80::6%wlan0")],
    "tun0": [ipv4("10.8.0.2", "255.255.255.255", "10.8.0.2"), ipv4("10.9.0.2", "255.255.255.0", None)],
    "eth1": [ipv4("172.16.0.5", broadcast="172.16.0.255")],
}


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {name: SimpleNamespace(isup=name != "eth1") for name in MACHINE}
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: MACHINE)
    monkeypatch.setattr(psutil, "net_if_stats", lambda: states)
    monkeypatch.setattr(socket, "if_nametoindex", lambda name: list(MACHINE).index(name) + 1)


def places(*hosts: str, named: str = "") -> list[str]:
    environment = {"DISPY_INTERFACES": named} if named else {}
    return [
        f"{path.interface} {path.address} {path.broadcast}".strip() for path in list_paths(hosts, environment)
    ]


def test_each_network_that_is_up_and_reaches_more_than_one_machine() -> None:
    assert places() == [
        f"lo 127.0.0.1 {LOOPBACK_BROADCAST}",
        "eth0 192.168.1.5 192.168.1.255",
        "eth0 10.0.0.5 10.0.0.255",
        "eth0 fd00::5",
        "eth0 fe80::5%eth0",
        "wlan0 fe80::6%wlan0",
    ]


def test_a_path_knows_all_addresses_of_the_interface() -> None:
    paths = {path.key: path for path in list_paths(environment={})}
    assert paths["eth0 192.168.1.5"].addresses == ("192.168.1.5", "192.168.1.6", "10.0.0.5")
    assert paths["eth0 fd00::5"].addresses == ("fd00::5", "fe80::5")
    assert paths["eth0 fd00::5"].family is socket.AF_INET6
    assert paths["lo 127.0.0.1"].is_loopback
    assert paths["lo 127.0.0.1"].family is socket.AF_INET


@pytest.mark.parametrize(
    ("hosts", "named", "found"),
    [
        ((), "lo", [f"lo 127.0.0.1 {LOOPBACK_BROADCAST}"]),
        ((), "none", []),
        ((), " wlan0 , 10.0.0.5 ", ["eth0 10.0.0.5 10.0.0.255", "wlan0 fe80::6%wlan0"]),
        (("192.168.1.6",), "", ["eth0 192.168.1.6 192.168.1.255"]),
        (("fe80::6%wlan0",), "", ["wlan0 fe80::6%wlan0"]),
        (("192.168.1.6",), "lo", []),
        (("8.8.8.8",), "", []),
    ],
)
def test_less_on_request(hosts: tuple[str, ...], named: str, found: list[str]) -> None:
    assert places(*hosts, named=named) == found


def test_interface_that_goes_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> int:
        raise OSError("no such device")

    monkeypatch.setattr(interfaces.socket, "if_nametoindex", gone)
    assert {path.index for path in list_paths(environment={})} == {0}


def test_paths_are_values() -> None:
    assert Path("lo", "127.0.0.1", LOOPBACK_BROADCAST, 1, True) == Path(
        "lo", "127.0.0.1", LOOPBACK_BROADCAST, 1, True
    )
