"""Which greetings fit together, and what is said of those that do not."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import RemoteProtocolError
from dispy.model import MAX_FRAME_BYTES, Role
from dispy.wire.greeting import check_greeting, describe_peer, find_defect
from dispy.wire.messages import Hello
from dispy_testing.strategies import hellos

NODES = frozenset({Role.NODE})


def hello(role="node", low=2, high=3, **changes):
    fields = {"name": "pc7", "version": f"{high}.0", "max_frame_bytes": MAX_FRAME_BYTES, "heartbeat_s": 5.0}
    fields |= changes
    return Hello(low, high, role, "ab" * 16, 1, python="3.11.2", platform="linux", **fields)


@pytest.mark.parametrize(
    ("ours", "theirs", "version"),
    [((1, 1), (1, 1), 1), ((1, 2), (1, 1), 1), ((1, 2), (2, 3), 2), ((2, 3), (1, 2), 2), ((2, 3), (2, 3), 3)],
)
def test_neighbours_agree_on_the_highest_version(ours, theirs, version):
    assert check_greeting(hello("client", *ours), hello("node", *theirs), NODES) == version


def test_a_mismatch_names_both_sides_and_the_older():
    with pytest.raises(RemoteProtocolError) as caught:
        check_greeting(hello("client", 3, 4), hello("node", 1, 2), NODES)
    assert str(caught.value) == (
        "this client (dispy 4.0, protocol 3 to 4) and the node 'pc7' (dispy 2.0, protocol 1 to 2) "
        "have no protocol version in common; upgrade dispy of the node 'pc7'"
    )
    with pytest.raises(RemoteProtocolError, match=r"dispy 9\.0, protocol 9.*; upgrade dispy of this client$"):
        check_greeting(hello("client", 3, 4), hello("node", 9, 9), NODES)


@given(hellos(Role.CLIENT), hellos(Role.NODE))
def test_correct_peers_of_neighbouring_versions_fit(client, node):
    version = check_greeting(client, node, NODES)
    assert version == check_greeting(node, client, frozenset({Role.CLIENT}))
    assert client.protocol_min <= version <= client.protocol_max


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(sorted),
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(sorted),
)
def test_both_sides_come_to_the_same_verdict(ours, theirs):
    client, node = hello("client", *ours), hello("node", *theirs)
    verdicts = []
    for here, there in ((client, node), (node, client)):
        try:
            verdicts.append(check_greeting(here, there, frozenset(Role)))
        except RemoteProtocolError:
            verdicts.append(None)
    assert verdicts[0] == verdicts[1]


def test_a_wrong_role_is_refused():
    with pytest.raises(
        RemoteProtocolError, match="peer is the client 'pc7', but this client expects a node there"
    ):
        check_greeting(hello("client"), hello("client"), NODES)
    with pytest.raises(RemoteProtocolError, match="expects a client or node there"):
        check_greeting(hello("client"), hello("spy"), frozenset(Role))


@pytest.mark.parametrize(
    ("changes", "defect"),
    [
        ({"protocol_min": 0}, "protocol versions 0 to 3, which is no range"),
        ({"protocol_min": 4}, "protocol versions 4 to 3, which is no range"),
        ({"heartbeat_s": 0.04}, "a heartbeat of 0.04 s, not within 0.05 to 3600 s"),
        ({"heartbeat_s": 3601.0}, "a heartbeat of 3601 s"),
        ({"heartbeat_s": math.nan}, "a heartbeat of nan s"),
        ({"heartbeat_s": -1.0}, "a heartbeat of -1 s"),
        (
            {"max_frame_bytes": MAX_FRAME_BYTES - 1},
            f"a frame limit of {MAX_FRAME_BYTES - 1} bytes, less than {MAX_FRAME_BYTES}",
        ),
    ],
)
def test_defects_are_found(changes, defect):
    assert find_defect(msgspec.structs.replace(hello(), **changes)).startswith(defect)


def test_limits_themselves_are_allowed():
    assert find_defect(hello(heartbeat_s=0.05)) == ""
    assert find_defect(hello(heartbeat_s=3600.0)) == ""


def test_a_defect_of_the_peer_is_a_remote_protocol_error():
    with pytest.raises(RemoteProtocolError, match="greeting of the node 'pc7' has a heartbeat of 0 s"):
        check_greeting(hello("client"), hello(heartbeat_s=0.0), NODES)


def test_a_strangers_words_are_cut():
    assert len(describe_peer(hello("x" * 1000, name="y" * 1000))) < 140
