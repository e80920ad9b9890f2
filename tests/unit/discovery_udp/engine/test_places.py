from __future__ import annotations

import pytest

from dispy_discovery_udp.engine.places import order_addresses
from dispy_discovery_udp.engine.values import Source

OWN = frozenset({"10.0.0.9", "172.17.0.1"})


def ordered(told: list[str], host: str, *, is_own: bool = False) -> tuple[str, ...]:
    return order_addresses(told, Source("lan", host, 1, is_own), OWN)


def test_source_first_then_ipv4() -> None:
    assert ordered(["fd00::1", "192.168.1.1", "10.0.0.1"], "10.0.0.1") == (
        "10.0.0.1",
        "192.168.1.1",
        "fd00::1",
    )


def test_address_that_somebody_has_changed_on_the_way_goes_last() -> None:
    assert ordered(["203.0.113.5"], "10.0.0.254") == ("203.0.113.5", "10.0.0.254")


def test_loopback_and_what_means_no_machine_is_never_tried() -> None:
    assert ordered(["127.0.0.1", "127.0.1.1", "::1", "0.0.0.0", "224.0.0.1", "10.0.0.1"], "10.0.0.1") == (
        "10.0.0.1",
    )


def test_address_that_this_machine_has_itself_leads_elsewhere() -> None:
    assert ordered(["172.17.0.1", "10.0.0.1"], "10.0.0.1") == ("10.0.0.1",)


def test_node_on_this_machine() -> None:
    assert ordered(["172.17.0.1", "10.0.0.9"], "127.0.0.1", is_own=True) == (
        "127.0.0.1",
        "172.17.0.1",
        "10.0.0.9",
    )


def test_address_of_a_link_is_used_with_its_zone_only() -> None:
    assert ordered(["fe80::1", "fe80::7"], "fe80::1%eth0") == ("fe80::1%eth0",)
    assert ordered(["fe80::1", "fd00::1"], "fe80::1%eth0") == ("fd00::1", "fe80::1%eth0")


@pytest.mark.parametrize("host", ["10.0.0.1", "fe80::1%eth0"])
def test_there_is_always_one(host: str) -> None:
    assert ordered([], host) == (host,)
