"""Frames and batches: what goes out comes in again, and nothing else does."""

from __future__ import annotations

import struct
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import LocalProtocolError, RemoteProtocolError
from dispy.model import CHUNK_BYTES
from dispy.wire.frames import (
    CONTROL,
    GREETING_BYTES,
    HEADER,
    PREFACE,
    FrameDecoder,
    decode_batch,
    encode_batch,
    encode_chunk_header,
)
from dispy.wire.messages import (
    AckResults,
    AssignJobs,
    CancelJobs,
    Goodbye,
    Heartbeat,
    JobAssignment,
    JobResult,
    JobResults,
    JobsRejected,
    JobsStarted,
    JobStart,
    StreamCredit,
)
from dispy_testing.strategies import chunkings, messages, mutations

FRAMES = st.lists(
    st.tuples(st.sampled_from([0, 1, 2**32 - 1]), st.binary(min_size=1, max_size=50)), max_size=8
)


def written(frames):
    return PREFACE + b"".join(HEADER.pack(len(payload), channel) + payload for channel, payload in frames)


def greeted(max_frame_bytes=1000):
    """Return a decoder that has seen the preface and a first frame."""
    decoder = FrameDecoder(max_frame_bytes)
    assert decoder.feed(written([(CONTROL, b"hello")])) == [(CONTROL, b"hello")]
    return decoder


def joined(frames):
    """Join what follows each other on a channel that carries chunks: there it does not matter how it was cut."""
    found = []
    for channel, payload in frames:
        if channel != CONTROL and found and found[-1][0] == channel:
            found[-1] = channel, found[-1][1] + bytes(payload)
        else:
            found.append((channel, bytes(payload)))
    return found


class TestDecoder:
    @given(st.data(), FRAMES, st.sampled_from([bytes, bytearray, memoryview]))
    def test_any_chunking_gives_the_same_bytes(self, data, frames, kind):
        decoder = FrameDecoder()
        found = []
        for piece in data.draw(chunkings(written(frames))):
            found += decoder.feed(kind(piece))
        assert joined(found) == joined(frames)
        assert decoder.is_between_frames
        assert all(type(payload) is bytes for channel, payload in found if channel == CONTROL)

    def test_batches_may_be_overwritten_where_they_were_read(self):
        buffer = bytearray(written([(CONTROL, b"abc"), (CONTROL, b"def")])[:-1])
        decoder = FrameDecoder()
        found = decoder.feed(buffer)
        buffer[:] = b"z" * len(buffer)
        assert found == [(CONTROL, b"abc")]
        assert decoder.feed(b"f") == [(CONTROL, b"def")]

    def test_chunks_are_given_as_they_come_and_not_copied(self):
        decoder = greeted()
        data = HEADER.pack(6, 5) + b"abc"
        ((channel, piece),) = decoder.feed(data)
        assert (channel, piece) == (5, b"abc")
        assert piece.obj is data
        assert not decoder.is_between_frames
        assert decoder.feed(b"def" + HEADER.pack(1, 7)) == [(5, b"def")]
        assert decoder.feed(b"x") == [(7, b"x")]
        assert decoder.is_between_frames

    def test_half_a_frame_is_between_nothing(self):
        decoder = greeted()
        decoder.feed(b"\0")
        assert not decoder.is_between_frames

    @given(st.data(), FRAMES)
    def test_damage_gives_only_remote_protocol_errors(self, data, frames):
        decoder = FrameDecoder(1000)
        for piece in data.draw(mutations(written(frames)).flatmap(chunkings)):
            try:
                decoder.feed(piece)
            except RemoteProtocolError:
                break


class TestPreface:
    @pytest.mark.parametrize(
        ("foreign", "hint"),
        [
            (
                b"GET / HTTP/1.1\r\n",
                "peer sent b'GET / HT', which is not the dispy protocol (looks like HTTP)",
            ),
            (b"OPTIONS * HTTP/1.1", "looks like HTTP"),
            (b"HTTP/1.1 400 Bad Request", "looks like HTTP"),
            (
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
                "it is TLS, and this side is open: start it without --open",
            ),
            (b"\x15\x03\x01\x00\x02\x02\x46", "it is TLS, and this side is open: have it use the key"),
            (b"SSH-2.0-OpenSSH_9.6\r\n", "looks like SSH"),
        ],
    )
    def test_other_protocols_are_named(self, foreign, hint):
        with pytest.raises(RemoteProtocolError) as caught:
            FrameDecoder().feed(foreign)
        assert hint in str(caught.value)

    def test_unknown_bytes_are_shown(self):
        with pytest.raises(RemoteProtocolError) as caught:
            FrameDecoder().feed(b"\x01\x02hello world")
        assert str(caught.value) == r"peer sent b'\x01\x02hello ', which is not the dispy protocol"

    def test_the_first_wrong_byte_is_enough(self):
        decoder = FrameDecoder()
        assert decoder.feed(b"DISPY") == []
        assert not decoder.is_between_frames
        with pytest.raises(RemoteProtocolError, match=r"b'DISPY\\n'"):
            decoder.feed(b"\n")  # a path that rewrites line ends

    @given(st.binary(min_size=1).filter(lambda data: not PREFACE.startswith(data[:8])))
    def test_arbitrary_bytes_are_refused(self, data):
        with pytest.raises(RemoteProtocolError, match="is not the dispy protocol"):
            FrameDecoder().feed(data)


class TestLimits:
    def test_a_batch_may_have_the_limit(self):
        assert greeted(1000).feed(HEADER.pack(1000, CONTROL) + bytes(1000)) == [(CONTROL, bytes(1000))]

    def test_the_header_of_a_large_batch_is_refused(self):
        with pytest.raises(
            RemoteProtocolError, match="a frame of 1001 bytes on channel 0, the limit is 1000"
        ):
            greeted(1000).feed(HEADER.pack(1001, CONTROL))

    def test_a_chunk_has_a_limit_of_its_own(self):
        assert greeted(1000).feed(HEADER.pack(CHUNK_BYTES, 5)) == []
        with pytest.raises(RemoteProtocolError, match=f"the limit is {CHUNK_BYTES}"):
            greeted(1000).feed(HEADER.pack(CHUNK_BYTES + 1, 5))

    def test_the_first_frame_is_small(self):
        decoder = FrameDecoder()
        with pytest.raises(RemoteProtocolError, match=f"the limit is {GREETING_BYTES}"):
            decoder.feed(PREFACE + HEADER.pack(GREETING_BYTES + 1, CONTROL))

    def test_nothing_is_allocated_for_what_a_header_announces(self):
        decoder = greeted(2**31)
        before = sys.getsizeof(decoder._buffer)
        decoder.feed(HEADER.pack(2**31, CONTROL))
        assert sys.getsizeof(decoder._buffer) - before < 100

    @pytest.mark.parametrize("channel", [0, 1])
    def test_empty_frames_are_refused(self, channel):
        with pytest.raises(RemoteProtocolError, match=f"empty frame on channel {channel}"):
            greeted().feed(HEADER.pack(0, channel))


class TestBatch:
    @given(st.lists(messages(), min_size=1, max_size=8))
    def test_comes_back(self, batch):
        (frame,) = encode_batch(batch)
        length, channel = HEADER.unpack_from(frame)
        assert (length, channel) == (len(frame) - HEADER.size, CONTROL)
        assert decode_batch(bytes(frame[HEADER.size :])) == batch

    def test_nothing_is_no_frame(self):
        assert encode_batch([]) == []

    @given(st.lists(messages(), min_size=1, max_size=20), st.integers(1000, 2000))
    def test_is_split_at_the_limit_and_keeps_order(self, batch, limit):
        frames = encode_batch(batch, limit)
        assert all(len(frame) - HEADER.size <= limit for frame in frames)
        assert [message for frame in frames for message in decode_batch(frame[HEADER.size :])] == batch

    def test_fills_a_frame_before_it_begins_another(self):
        batch = [Goodbye("x" * 100)] * 10
        one = len(encode_batch(batch[:1])[0])
        frames = encode_batch(batch, 3 * one)
        assert [len(decode_batch(frame[HEADER.size :])) for frame in frames] == [3, 3, 3, 1]

    @pytest.mark.parametrize(
        "message",
        [
            AssignJobs("c", [JobAssignment(number, 1, bytes(number)) for number in range(300)]),
            JobResults(
                "c", [JobResult(number, 1, 0, 0, "", 1.0, 2.0, bytes(number)) for number in range(300)]
            ),
            JobsStarted("c", [JobStart(number, 1, 0.5) for number in range(600)]),
            CancelJobs("c", [(number, 1) for number in range(1000)]),
            AckResults("c", [(number, 1) for number in range(1000)]),
            JobsRejected("c", [(number, 1) for number in range(1000)], "why"),
        ],
        ids=lambda message: type(message).__name__,
    )
    def test_a_large_message_is_sent_in_parts(self, message):
        field = next(name for name in ("jobs", "results", "starts", "attempts") if hasattr(message, name))
        frames = encode_batch([Heartbeat(), message, Heartbeat()], 1500)
        first, *parts, last = [part for frame in frames for part in decode_batch(frame[HEADER.size :])]
        assert first == last == Heartbeat()
        assert len(parts) > 1
        assert [item for part in parts for item in getattr(part, field)] == getattr(message, field)
        emptied = msgspec.structs.replace(message, **{field: []})
        assert all(msgspec.structs.replace(part, **{field: []}) == emptied for part in parts)

    @pytest.mark.parametrize(
        "message",
        [
            AssignJobs("c", [JobAssignment(1, 1, bytes(2000))]),
            AssignJobs("c" * 2000, []),
            Goodbye("x" * 2000),
        ],
        ids=["one job", "no job", "no list"],
    )
    def test_what_cannot_be_divided_is_our_own_fault(self, message):
        with pytest.raises(
            LocalProtocolError, match=r"^\w+ of 20\d\d bytes does not fit into a frame of 1000 bytes"
        ):
            encode_batch([message], 1000)

    @pytest.mark.parametrize(
        "message",
        [Goodbye("\udc80"), StreamCredit(2**64, 1), Goodbye(object())],
        ids=["surrogate", "range", "type"],
    )
    def test_what_msgpack_cannot_carry_is_our_own_fault(self, message):
        with pytest.raises(LocalProtocolError, match=f"{type(message).__name__} cannot be encoded: "):
            encode_batch([message])

    def test_chunk_header(self):
        assert encode_chunk_header(7, 258) == b"\0\0\x01\x02\0\0\0\x07"


class TestBadBatch:
    @given(st.binary(max_size=200))
    def test_arbitrary_bytes_give_only_remote_protocol_errors(self, payload):
        try:
            decode_batch(payload)
        except RemoteProtocolError:
            pass

    @given(st.data(), st.lists(messages(), min_size=1, max_size=4))
    def test_damage_gives_only_remote_protocol_errors(self, data, batch):
        (frame,) = encode_batch(batch)
        try:
            assert decode_batch(data.draw(mutations(bytes(frame[HEADER.size :]))))
        except RemoteProtocolError:
            pass

    @pytest.mark.parametrize(
        ("payload", "reason"),
        [
            (b"\x90", "empty batch"),
            (b"\x92", "truncated"),
            (b"\x90x", "trailing"),
            (b"\xc0", "Expected `array`"),
            (b"\x91\x91\xa4haha", "Invalid value 'haha'"),
            (b"\x91\x92\xa3bye\x05", "Expected `str`, got `int`"),
            (b"\x91\x92\xa3bye\xa1\xff", "invalid start byte"),
            (b"\xdd\xff\xff\xff\xff", "truncated"),
            (b"\x91\x92\xa4beat" + b"\x91" * 100_000, "recursion"),
        ],
    )
    def test_is_refused_with_the_reason(self, payload, reason):
        with pytest.raises(RemoteProtocolError, match=reason):
            decode_batch(payload)

    def test_lengths_inside_a_batch_allocate_nothing(self):
        """A list that claims 2**32 - 1 elements would take 32 GiB if it were believed."""
        claim = b"\x91\x93\xa3ack\xa1c\xdd" + struct.pack(">I", 2**32 - 1)
        with pytest.raises(RemoteProtocolError, match="truncated"):
            decode_batch(claim)
