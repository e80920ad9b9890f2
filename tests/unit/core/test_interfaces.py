"""Addresses as text, and what a plugin has to bring."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dispy import interfaces
from dispy.interfaces import (
    API_VERSION,
    Address,
    Command,
    Executor,
    ExecutorPlan,
    ExecutorRequest,
    FaultPolicy,
    LostAttempt,
    Peer,
    Transport,
    Verdict,
)

INTERFACES = [Transport, FaultPolicy, Command, Executor]


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("tcp", "node7", 9701), "tcp:node7:9701"),
        (Address("tcp", "192.0.2.7", 1), "tcp:192.0.2.7:1"),
        (Address("tcp", "2001:db8::7", 9701), "tcp:[2001:db8::7]:9701"),
        (Address("tcp", "fe80::1%eth0", 9701), "tcp:[fe80::1%eth0]:9701"),
        (Address("unix", "/run/dispy"), "unix:/run/dispy"),
        (Address("tcp", "::1"), "tcp:::1"),
    ],
)
def test_address_as_text(address: Address, text: str) -> None:
    assert str(address) == text


def test_addresses_are_values() -> None:
    address = Address("tcp", "node7", 9701)
    assert {address: 1}[Address("tcp", "node7", 9701)] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        address.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_interface_must_be_filled_in(interface: type) -> None:
    with pytest.raises(TypeError, match="abstract"):
        interface()


@pytest.mark.parametrize("interface", INTERFACES)
def test_an_interface_leaves_name_and_version_to_the_plugin(interface: type) -> None:
    assert {"NAME", "API_VERSION"} <= set(interface.__annotations__)
    assert not hasattr(interface, "NAME")
    assert not hasattr(interface, "API_VERSION"), "a plugin must tell for which version it was written"


def test_the_interfaces_have_a_version() -> None:
    assert isinstance(API_VERSION, int)
    assert interfaces.__doc__
    assert API_VERSION >= 1


def test_verdicts() -> None:
    assert [verdict.value for verdict in Verdict] == ["rerun", "abandon"]


def test_a_policy_decides_by_what_was_lost() -> None:
    class Careful(FaultPolicy):
        NAME = "careful"
        API_VERSION = API_VERSION
        HONOURS_REENTRANT = True

        def decide(self, lost: LostAttempt) -> Verdict:
            return Verdict.RERUN if lost.reentrant and lost.attempt < 3 else Verdict.ABANDON

    policy = Careful()
    assert policy.decide(LostAttempt(reentrant=True, pinned=False, attempt=1)) is Verdict.RERUN
    assert policy.decide(LostAttempt(reentrant=True, pinned=False, attempt=3)) is Verdict.ABANDON


def test_plans_do_not_share_what_can_change() -> None:
    first, second = ExecutorPlan(["python"]), ExecutorPlan(["python"])
    first.environment["PATH"] = "/bin"
    first.program.append("sh")
    assert (second.environment, second.program) == ({}, [])


def test_requests_and_peers_are_values() -> None:
    request = ExecutorRequest("compute", Path("folder"), "process")
    assert request == ExecutorRequest("compute", Path("folder"), "process")
    assert Peer("127.0.0.1", is_local=True) != Peer("127.0.0.1", is_local=False)
