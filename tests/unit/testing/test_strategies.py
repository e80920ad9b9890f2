"""The strategies make what they promise, and all of it."""

from __future__ import annotations

import typing

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from dispy.model import Role
from dispy.wire.greeting import find_defect
from dispy.wire.messages import AssignJobs, Goodbye, Heartbeat, Message, NodeChanged
from dispy_testing import strategies
from dispy_testing.strategies import MESSAGE_TYPES, chunkings, hellos, messages, mutations

SEARCH = settings(
    max_examples=20_000, database=None, phases=[Phase.generate]
)  # no need of the smallest example


@pytest.mark.parametrize("kind", MESSAGE_TYPES, ids=lambda kind: kind.__name__)
def test_messages_makes_every_kind(kind):
    assert type(find(messages(kind), lambda _: True, settings=SEARCH)) is kind


def test_message_types_are_all_of_them():
    assert set(MESSAGE_TYPES) == set(typing.get_args(Message))


@given(messages(Goodbye, Heartbeat))
def test_messages_keeps_to_the_kinds_asked_for(message):
    assert type(message) in (Goodbye, Heartbeat)


def test_messages_fills_lists_and_both_sides_of_unions():
    assert find(messages(AssignJobs), lambda message: len(message.jobs) == 2, settings=SEARCH)
    for given_ in (True, False):
        assert find(
            messages(NodeChanged),
            lambda message, want=given_: (message.avail is None) != want,
            settings=SEARCH,
        )


def test_a_field_of_a_new_kind_is_an_error():
    with pytest.raises(NotImplementedError, match="no strategy for a field of type <class 'set'>"):
        strategies._values(set[int])


@given(st.sampled_from(Role), st.data())
def test_hellos_are_correct(role, data):
    hello = data.draw(hellos(role))
    assert hello.role == role
    assert find_defect(hello) == ""


@given(st.binary(max_size=40), st.data())
def test_chunkings_lose_nothing(written, data):
    pieces = data.draw(chunkings(written))
    assert b"".join(pieces) == written
    assert all(pieces)


@pytest.mark.parametrize("count", [1, 2, 10])
def test_chunkings_cut_into_few_and_many(count):
    assert find(chunkings(b"0123456789"), lambda pieces: len(pieces) == count, settings=SEARCH)


@given(st.binary(max_size=40), st.data())
def test_mutations_are_bytes_and_near(written, data):
    damaged = data.draw(mutations(written))
    assert type(damaged) is bytes
    assert len(damaged) <= len(written) + 4 * 16


@pytest.mark.parametrize(
    "wanted",
    [
        lambda damaged: len(damaged) == 10 and damaged != b"0123456789",
        lambda damaged: len(damaged) < 10 and damaged.startswith(b"012") and damaged.endswith(b"89"),
        lambda damaged: len(damaged) == 11 and damaged.endswith(b"56789") and damaged.startswith(b"01234"),
        lambda damaged: len(damaged) > 11 and set(damaged) <= set(b"0123456789"),
        lambda damaged: damaged == b"012",
    ],
    ids=["changed", "dropped", "inserted", "repeated", "cut off"],
)
def test_mutations_do_all_kinds_of_damage(wanted):
    find(mutations(b"0123456789"), wanted, settings=SEARCH)
