"""Default deny: who may send what."""

from __future__ import annotations

from typing import get_args

import pytest

from dispy.model import AccessRole, Role
from dispy.wire.messages import AssignJobs, Heartbeat, Hello, JobResults, Message, Reconcile
from dispy.wire.rights import (
    EVERYTHING,
    NEEDED,
    allowed_messages,
    describe_refusal,
    describe_roles,
    entry_role,
    expand,
)


def test_every_message_has_an_entry() -> None:
    assert set(NEEDED) == set(get_args(Message))


def test_roles_include_lower_ones() -> None:
    assert expand({AccessRole.ADMIN}) == EVERYTHING - {AccessRole.NODE}
    assert expand({AccessRole.OPERATE}) == {AccessRole.OPERATE, AccessRole.SUBMIT, AccessRole.OBSERVE}
    assert expand({AccessRole.NODE}) == {AccessRole.NODE}
    assert expand(()) == frozenset()


def test_nothing_is_allowed_without_roles_but_what_a_link_needs() -> None:
    for role in Role:
        assert {NEEDED[kind] for kind in allowed_messages(role, ())} == {None}


def test_a_node_never_sends_what_a_client_sends() -> None:
    assert AssignJobs not in allowed_messages(Role.NODE, EVERYTHING)
    assert JobResults not in allowed_messages(Role.CLIENT, EVERYTHING)
    assert JobResults in allowed_messages(Role.NODE, {AccessRole.NODE})


def test_observers_may_connect_and_nothing_else() -> None:
    allowed = allowed_messages(Role.CLIENT, {AccessRole.OBSERVE})
    assert {Hello, Heartbeat} <= allowed
    assert Reconcile not in allowed


@pytest.mark.parametrize(
    ("role", "needed"), [(Role.NODE, AccessRole.NODE), (Role.CLIENT, AccessRole.OBSERVE)]
)
def test_what_it_takes_to_greet(role: Role, needed: AccessRole) -> None:
    assert entry_role(role) is needed


def test_refusals_tell_what_is_missing() -> None:
    assert describe_refusal(AssignJobs, Role.CLIENT, {AccessRole.OBSERVE}) == (
        "client sent AssignJobs, which needs the role submit; its certificate says observe"
    )
    assert describe_refusal(AssignJobs, Role.NODE, EVERYTHING) == (
        "node sent AssignJobs, which a node never sends"
    )
    assert describe_roles(()) == "it has not proved any role"
