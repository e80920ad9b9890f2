"""Sockets of loopback; those of other networks are tested in tests/network, on machines made for it."""

from __future__ import annotations

import select
import socket

import pytest

from dispy_discovery_udp.interfaces import Path, list_paths
from dispy_discovery_udp.sockets import Groups, open_direct_ear, open_ears, open_talker

GROUPS = Groups("239.255.61.59", "ff05::b409:3171:9705:5134:6159")
(LOOPBACK,) = list_paths(environment={"DISPY_INTERFACES": "lo"})


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def heard(sock: socket.socket) -> bytes:
    readable, _, _ = select.select([sock], [], [], 5)
    assert readable, "nothing was heard"
    return sock.recv(100)


def test_all_who_share_a_port_hear_what_is_sent_to_everybody_and_answer_the_talker() -> None:
    port = free_port()
    ears = [*open_ears(LOOPBACK, port, GROUPS), *open_ears(LOOPBACK, port, GROUPS)]
    with open_talker(LOOPBACK) as talker, ears[0], ears[1]:
        talker.sendto(b"hello", (GROUPS.target(LOOPBACK), port))
        assert [heard(ear) for ear in ears] == [b"hello", b"hello"]
        ears[0].sendto(b"welcome", talker.getsockname())
        assert heard(talker) == b"welcome"
        assert not talker.getblocking()


def test_what_is_sent_to_this_machine_alone_is_heard_by_one() -> None:
    port = free_port()
    with (
        open_talker(LOOPBACK) as talker,
        open_direct_ear(LOOPBACK, port),
        open_direct_ear(LOOPBACK, port) as ear,
    ):
        talker.sendto(b"hello", ("127.0.0.1", port))
        assert heard(ear) == b"hello"


def test_port_that_somebody_does_not_share_is_an_error() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as selfish:
        selfish.bind((LOOPBACK.broadcast, 0))
        with pytest.raises(OSError, match="in use"):
            open_ears(LOOPBACK, selfish.getsockname()[1], GROUPS)


def test_address_that_is_not_there_is_an_error() -> None:
    with pytest.raises(OSError, match=r".+"):
        open_talker(Path("eth9", "203.0.113.9", "203.0.113.255", 99, False))


@pytest.mark.parametrize(
    ("path", "broadcast", "multicast"),
    [
        (LOOPBACK, "127.255.255.255", "127.255.255.255"),
        (Path("eth0", "10.0.0.1", "10.0.0.255", 2, False), "10.0.0.255", GROUPS.ipv4),
        (Path("eth0", "fd00::1", "", 2, False), GROUPS.ipv6, GROUPS.ipv6),
    ],
    ids=["loopback", "IPv4", "IPv6"],
)
def test_who_reaches_everybody(path: Path, broadcast: str, multicast: str) -> None:
    assert GROUPS.target(path) == broadcast
    assert Groups(GROUPS.ipv4, GROUPS.ipv6, multicast=True).target(path) == multicast
