from __future__ import annotations

import errno
import os
import socket

import pytest

from dispy.interfaces import Address
from dispy_transport_tcp.troubles import DIAL_TROUBLES, LISTEN_TROUBLES, dial_trouble, listen_trouble

ADDRESS = Address("tcp", "node1", 51348)
SIX = Address("tcp", "fe80::1", 51348)


def failed(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def summary(*errors: OSError) -> OSError:
    """Make what trio raises when every address of a name fails."""
    error = OSError("all attempts to connect to node1:51348 failed")
    error.__cause__ = ExceptionGroup("all attempts failed", errors)
    return error


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ECONNREFUSED, "nothing listens on node1:51348: is `dispy node` running there?"),
        (
            errno.ETIMEDOUT,
            "no answer from node1:51348: is the machine on, and does its firewall let port 51348 through?",
        ),
        (errno.EHOSTUNREACH, "no way to node1: is the machine on, and in a network that this one reaches?"),
        (errno.ENETUNREACH, "no way to the network of node1: is this machine connected to it?"),
    ],
)
def test_dialling_tells_what_to_do(number: int, message: str) -> None:
    assert str(dial_trouble(ADDRESS, failed(number))) == message
    assert str(dial_trouble(ADDRESS, summary(failed(number)))) == message


def test_of_several_errors_the_most_telling_is_told() -> None:
    error = summary(failed(errno.ENETUNREACH), failed(errno.ECONNREFUSED))
    assert "nothing listens" in str(dial_trouble(ADDRESS, error))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            errno.EADDRINUSE,
            "port 51348 of node1 is in use: does another node run here? choose another port with --dispy_port",
        ),
        (errno.EACCES, "port 51348 may not be used by this user: choose one above 1023 with --dispy_port"),
        (errno.EADDRNOTAVAIL, "node1 is not an address of this machine: choose one that is with --host"),
    ],
)
def test_listening_tells_what_to_do(number: int, message: str) -> None:
    assert str(listen_trouble(ADDRESS, failed(number))) == message


@pytest.mark.parametrize("table", [DIAL_TROUBLES, LISTEN_TROUBLES])
def test_every_message_can_be_filled_in(table: dict[int, str]) -> None:
    tell = dial_trouble if table is DIAL_TROUBLES else listen_trouble
    for number in table:
        text = str(tell(ADDRESS, failed(number)))
        assert "{" not in text
        assert text[0].islower()
        assert not text.endswith(".")


@pytest.mark.parametrize("tell", [dial_trouble, listen_trouble])
def test_unknown_host(tell: object) -> None:
    assert callable(tell)
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert str(tell(ADDRESS, error)) == "unknown host 'node1': check the spelling, or use its address"
    error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
    assert "cannot be looked up at the moment" in str(tell(ADDRESS, error))
    assert "unknown host" in str(tell(ADDRESS, ValueError("embedded null character")))


def test_gaierror_numbers_are_not_errno() -> None:
    error = socket.gaierror(errno.EADDRINUSE, "not that one")
    assert "unknown host" in str(listen_trouble(ADDRESS, error))


def test_other_errors_are_told_as_they_are() -> None:
    assert str(dial_trouble(ADDRESS, failed(errno.EIO))).startswith(
        "no connection to node1:51348 can be made: "
    )
    assert os.strerror(errno.EIO) in str(listen_trouble(SIX, failed(errno.EIO)))
    assert str(dial_trouble(ADDRESS, OSError("odd"))) == "no connection to node1:51348 can be made: odd"


def test_ipv6_addresses_are_bracketed() -> None:
    assert "[fe80::1]:51348" in str(dial_trouble(SIX, failed(errno.ECONNREFUSED)))


def test_empty_host_means_all_addresses() -> None:
    text = str(listen_trouble(Address("tcp", "", 51348), failed(errno.EADDRINUSE)))
    assert text.startswith("port 51348 of all addresses is in use")
