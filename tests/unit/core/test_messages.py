"""What the messages promise to peers of other versions."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given

from dispy.wire.messages import PROTOCOL_VERSION, ComputationReady, Goodbye, Hello, JobAssignment, Message
from dispy_testing.strategies import MESSAGE_TYPES, messages

ENCODER = msgspec.msgpack.Encoder()
DECODER = msgspec.msgpack.Decoder(Message)


def tag(kind: type[Message]) -> str:
    return str(kind.__struct_config__.tag)


@given(messages())
def test_comes_back_equal(message):
    assert DECODER.decode(ENCODER.encode(message)) == message


def test_tags_are_unique_and_short():
    tags = [tag(kind) for kind in MESSAGE_TYPES]
    assert len(set(tags)) == len(tags)
    assert max(map(len, tags)) <= 10


@pytest.mark.parametrize("kind", MESSAGE_TYPES, ids=tag)
def test_travels_as_an_array_that_begins_with_its_tag(kind):
    config = kind.__struct_config__
    assert config.array_like
    assert config.frozen
    assert not config.forbid_unknown_fields


def test_elements_of_a_newer_peer_are_ignored():
    assert DECODER.decode(ENCODER.encode(["ready", "c1", "new", [1, 2], {"a": None}])) == ComputationReady(
        "c1"
    )


def test_elements_that_an_older_peer_does_not_send_have_defaults():
    assert DECODER.decode(ENCODER.encode(["bye", "why"])) == Goodbye("why", final=False)
    assert msgspec.msgpack.decode(ENCODER.encode([7, 1, b"x"]), type=JobAssignment) == JobAssignment(
        7, 1, b"x", 0, 0
    )


def test_an_unknown_tag_is_refused():
    with pytest.raises(msgspec.ValidationError, match="Invalid value 'haha'"):
        DECODER.decode(ENCODER.encode(["haha", 1]))


def test_fields_of_the_greeting_keep_their_places():
    """Any two versions must be able to read each other's greeting, to say that they do not fit."""
    assert Hello.__struct_fields__[:14] == (
        "protocol_min",
        "protocol_max",
        "role",
        "ident",
        "epoch",
        "name",
        "version",
        "python",
        "platform",
        "max_frame_bytes",
        "heartbeat_s",
        "cpus",
        "addresses",
        "avail",
    )
    assert tag(Hello) == "hello"
    assert PROTOCOL_VERSION >= 1
