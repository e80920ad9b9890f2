"""Plain values: versions, numbers that the original has as well, bytes in pieces."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.model import (
    CHUNK_BYTES,
    INLINE_BODY_BYTES,
    MAX_FRAME_BYTES,
    OPEN,
    AccessRole,
    Isolation,
    JobStatus,
    Limit,
    NodeStatus,
    Openness,
    Outcome,
    Pieces,
    PythonVersion,
    Role,
    StartMethod,
)

numbers = st.integers(0, 999)
versions = st.builds(PythonVersion, numbers, numbers, numbers)


@given(versions)
def test_version_is_read_as_it_is_written(version: PythonVersion) -> None:
    assert PythonVersion.parse(str(version)) == version


def test_version_may_come_without_its_last_number() -> None:
    assert PythonVersion.parse("3.12") == PythonVersion(3, 12, 0)
    assert str(PythonVersion(3, 12)) == "3.12.0"


@pytest.mark.parametrize("text", ["", "3", "3.", "3.12.1.0", "3.12rc1", "three.twelve", "."])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (some are refused by int)
        PythonVersion.parse(text)


@given(versions, versions)
def test_bytecode_is_shared_within_a_minor_version(one: PythonVersion, other: PythonVersion) -> None:
    same = (one.major, one.minor) == (other.major, other.minor)
    assert one.shares_bytecode_with(other) is other.shares_bytecode_with(one) is same


def test_bytecode_is_shared_whatever_the_last_number() -> None:
    assert PythonVersion(3, 12, 1).shares_bytecode_with(PythonVersion(3, 12, 9))
    assert not PythonVersion(3, 12, 1).shares_bytecode_with(PythonVersion(3, 13, 1))
    assert not PythonVersion(3, 12, 1).shares_bytecode_with(PythonVersion(4, 12, 1))


def test_statuses_have_the_numbers_of_the_original() -> None:
    assert {status.name: int(status) for status in JobStatus} == {
        "CREATED": 5,
        "RUNNING": 6,
        "PROVISIONAL_RESULT": 7,
        "CANCELLED": 8,
        "TERMINATED": 9,
        "ABANDONED": 10,
        "FINISHED": 11,
    }
    assert {status.name: int(status) for status in NodeStatus} == {
        "INITIALIZED": 4,
        "CLOSED": 16,
        "AVAIL_INFO": 17,
    }


def test_what_travels_keeps_its_values() -> None:
    assert [(outcome.name, int(outcome)) for outcome in Outcome] == [
        ("RETURNED", 0),
        ("EXITED", 1),
        ("RAISED", 2),
        ("DIED", 3),
        ("BROKEN", 4),
        ("CANCELLED", 5),
        ("EXCEEDED", 6),
    ]
    assert [(limit.name, int(limit)) for limit in Limit] == [
        ("TIMEOUT", 1),
        ("CPU_TIME", 2),
        ("MEMORY", 3),
        ("PROCESSES", 4),
    ]
    assert [str(role) for role in Role] == ["client", "node"]
    assert [str(isolation) for isolation in Isolation] == ["process", "worker"]
    assert [str(method) for method in StartMethod] == ["fork", "spawn"]


@given(st.lists(st.binary(max_size=20)))
def test_pieces_are_as_long_as_their_bytes(parts: list[bytes]) -> None:
    pieces = Pieces(tuple(parts))
    assert len(pieces) == len(b"".join(parts))
    assert pieces.parts == tuple(parts)
    assert bool(pieces) is any(parts)


def test_limits_fit_into_each_other() -> None:
    assert 0 < INLINE_BODY_BYTES < CHUNK_BYTES < MAX_FRAME_BYTES


@pytest.mark.parametrize(
    ("role", "others"),
    [
        (AccessRole.NODE, set()),
        (AccessRole.OBSERVE, set()),
        (AccessRole.SUBMIT, {AccessRole.OBSERVE}),
        (AccessRole.OPERATE, {AccessRole.OBSERVE, AccessRole.SUBMIT}),
        (AccessRole.ADMIN, {AccessRole.OBSERVE, AccessRole.SUBMIT, AccessRole.OPERATE}),
    ],
)
def test_access_role_includes_lesser_ones(role: AccessRole, others: set[AccessRole]) -> None:
    assert role.included == {role} | others


def test_no_role_of_a_client_makes_a_node_and_the_other_way_round() -> None:
    for role in AccessRole:
        assert (AccessRole.NODE in role.included) is (role is AccessRole.NODE)


def test_access_roles_are_written_as_in_certificates() -> None:
    assert [str(role) for role in AccessRole] == ["node", "observe", "submit", "operate", "admin"]


def test_open_is_one_value_that_no_text_equals() -> None:
    assert OPEN is Openness.OPEN
    assert pickle.loads(pickle.dumps(OPEN)) is copy.deepcopy(OPEN) is OPEN
    assert repr(OPEN) == "dispy.OPEN"
    assert OPEN not in ("open", "OPEN", "", None, True)
