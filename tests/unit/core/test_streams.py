"""Turns, credit and limits of streams; what their sources go through."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import LocalProtocolError, RemoteProtocolError
from dispy.model import CHUNK_BYTES
from dispy.wire.messages import StreamEnded
from dispy.wire.streams import (
    MAX_OPEN_STREAMS,
    MAX_SENDING_STREAMS,
    WINDOW_BYTES,
    IncomingStreams,
    OutgoingStreams,
    sendable_reason,
)


class Source:
    """Bytes that tell how often they were closed."""

    def __init__(self, data=b"", fail_at=None):
        self.data = io.BytesIO(data)
        self.fail_at = fail_at
        self.closed = 0

    def read(self, size):
        assert not self.closed
        if self.fail_at is not None and self.data.tell() >= self.fail_at:
            raise OSError(5, "Input/output error", "/spool/7")
        return self.data.read(size)

    def close(self):
        self.closed += 1


class Greedy(Source):
    def read(self, size):
        return bytes(size + 1)


def taken(streams, number_of_chunks):
    return [streams.next_chunk() for _ in range(number_of_chunks)]


class TestOutgoing:
    def test_one_chunk_then_the_end(self):
        streams, source = OutgoingStreams(), Source(b"hello")
        assert not streams.has_ready
        streams.add(1, source, 5)
        assert streams.has_ready
        assert streams.unsent_bytes(1) == 5
        assert streams.next_chunk() == (1, b"hello", StreamEnded(1))
        assert not streams.has_ready
        assert source.closed == 1
        assert streams.unsent_bytes(1) == streams.unsent_bytes(7) == 0

    def test_an_empty_stream_has_only_an_end(self):
        streams, source = OutgoingStreams(), Source()
        streams.add(1, source, 0)
        assert streams.next_chunk() == (1, b"", StreamEnded(1))
        assert source.closed == 1

    def test_chunks_have_their_size(self):
        streams = OutgoingStreams()
        streams.add(1, Source(bytes(CHUNK_BYTES + 1)), CHUNK_BYTES + 1)
        assert [(len(chunk), end) for _, chunk, end in taken(streams, 2)] == [
            (CHUNK_BYTES, None),
            (1, StreamEnded(1)),
        ]

    def test_no_more_than_was_announced_is_read(self):
        streams = OutgoingStreams()
        streams.add(1, Source(b"hello world"), 5)
        assert streams.next_chunk() == (1, b"hello", StreamEnded(1))

    def test_streams_take_turns(self):
        streams = OutgoingStreams()
        for number, chunks in ((1, 3), (2, 1), (3, 2)):
            streams.add(number, Source(bytes(chunks * CHUNK_BYTES)), chunks * CHUNK_BYTES)
        assert [number for number, _, _ in taken(streams, 6)] == [1, 2, 3, 1, 3, 1]

    def test_a_source_may_give_less_than_asked(self):
        source = Source(b"abcdef")
        source.read = lambda size: source.data.read(min(size, 2))
        streams = OutgoingStreams()
        streams.add(1, source, 6)
        assert taken(streams, 3) == [(1, b"ab", None), (1, b"cd", None), (1, b"ef", StreamEnded(1))]

    def test_only_so_many_at_once(self):
        streams = OutgoingStreams()
        size = WINDOW_BYTES + 1
        sources = [Source(bytes(size)) for _ in range(MAX_SENDING_STREAMS + 1)]
        for number, source in enumerate(sources, 1):
            streams.add(number, source, size)
        seen = {number for number, _, _ in taken(streams, MAX_SENDING_STREAMS * WINDOW_BYTES // CHUNK_BYTES)}
        assert seen == set(range(1, MAX_SENDING_STREAMS + 1))
        assert not streams.has_ready
        streams.add_credit(3, 1)
        assert streams.next_chunk() == (3, b"\0", StreamEnded(3))
        assert streams.next_chunk()[0] == MAX_SENDING_STREAMS + 1

    def test_without_credit_a_stream_waits(self):
        streams = OutgoingStreams()
        size = WINDOW_BYTES + 100
        streams.add(1, Source(bytes(size)), size)
        taken(streams, WINDOW_BYTES // CHUNK_BYTES)
        assert not streams.has_ready
        streams.add_credit(1, 30)
        assert streams.next_chunk() == (1, bytes(30), None)
        assert not streams.has_ready
        streams.add_credit(1, 60)
        streams.add_credit(1, 60)
        assert streams.next_chunk() == (1, bytes(70), StreamEnded(1))
        assert not streams.has_ready

    def test_credit_for_what_has_ended_is_late_and_harmless(self):
        streams = OutgoingStreams()
        streams.add(1, Source(b"x"), 1)
        streams.next_chunk()
        streams.add_credit(1, 1)
        assert not streams.has_ready

    @pytest.mark.parametrize(("number", "size"), [(0, 1), (-1, 1), (3, 1), (1, 0), (1, -1), (1, 2**63)])
    def test_senseless_credit_is_the_peers_fault(self, number, size):
        streams = OutgoingStreams()
        streams.add(1, Source(b"x"), 1)
        streams.add(2, Source(b"x"), 1)
        with pytest.raises(RemoteProtocolError, match="peer gave"):
            streams.add_credit(number, size)

    def test_credit_beyond_the_window_is_the_peers_fault(self):
        streams = OutgoingStreams()
        streams.add(1, Source(bytes(2 * CHUNK_BYTES)), 2 * CHUNK_BYTES)
        streams.next_chunk()
        streams.add_credit(1, CHUNK_BYTES)
        with pytest.raises(RemoteProtocolError, match="more credit for stream 1 than it has received bytes"):
            streams.add_credit(1, 1)

    def test_a_source_that_fails_ends_its_stream(self):
        streams, source = OutgoingStreams(), Source(bytes(2 * CHUNK_BYTES), fail_at=CHUNK_BYTES)
        streams.add(1, source, 2 * CHUNK_BYTES)
        streams.add(2, Source(b"well"), 4)
        reason = "what was sent cannot be read any more: [Errno 5] Input/output error: '/spool/7'"
        assert taken(streams, 3)[1:] == [(2, b"well", StreamEnded(2)), (1, b"", StreamEnded(1, reason))]
        assert source.closed == 1

    def test_a_source_that_is_short_ends_its_stream(self):
        streams, source = OutgoingStreams(), Source(b"hell")
        streams.add(1, source, 5)
        assert taken(streams, 2) == [
            (1, b"hell", None),
            (1, b"", StreamEnded(1, "what was sent ended 1 bytes too early")),
        ]
        assert source.closed == 1

    def test_a_source_that_gives_too_much_is_a_bug(self):
        streams, source = OutgoingStreams(), Greedy()
        streams.add(1, source, 5)
        with pytest.raises(LocalProtocolError, match="source of stream 1 gave 6 bytes when asked for 5"):
            streams.next_chunk()
        streams.close()
        assert source.closed == 1

    @pytest.mark.parametrize(("number", "size"), [(2, 1), (1, 1), (0, 1), (3, -1)])
    def test_numbers_must_increase(self, number, size):
        streams, source = OutgoingStreams(), Source()
        streams.add(2, Source(), 1)
        with pytest.raises(
            LocalProtocolError, match=f"stream {number} of {size} bytes cannot follow stream 2"
        ):
            streams.add(number, source, size)
        assert source.closed == 1

    def test_close_closes_all_sources_once(self):
        streams = OutgoingStreams()
        sources = [Source(b"x") for _ in range(MAX_SENDING_STREAMS + 2)]
        for number, source in enumerate(sources, 1):
            streams.add(number, source, 1)
        streams.next_chunk()
        streams.close()
        streams.close()
        assert not streams.has_ready
        assert [source.closed for source in sources] == [1] * len(sources)


class TestIncoming:
    def test_a_peer_may_send_its_window(self):
        streams = IncomingStreams()
        streams.take_chunk(1, WINDOW_BYTES)
        with pytest.raises(RemoteProtocolError, match="peer sent 1 bytes more on stream 1 than it may"):
            streams.take_chunk(1, 1)

    def test_credit_comes_back_in_halves(self):
        streams, half = IncomingStreams(), WINDOW_BYTES // 2
        streams.take_chunk(1, WINDOW_BYTES)
        assert streams.consume(1, half - 1) == 0
        assert streams.consume(1, 11) == half + 10
        streams.take_chunk(1, half + 10)
        with pytest.raises(RemoteProtocolError):
            streams.take_chunk(1, 1)

    @pytest.mark.parametrize(("number", "size"), [(1, 11), (1, -1), (2, 1), (0, 1)])
    def test_only_what_has_come_can_be_used_up(self, number, size):
        streams = IncomingStreams()
        streams.take_chunk(1, 20)
        streams.consume(1, 10)
        with pytest.raises(LocalProtocolError, match=f"{size} bytes of stream {number} cannot be used up"):
            streams.consume(number, size)

    def test_what_has_ended_needs_no_credit(self):
        streams = IncomingStreams()
        streams.take_chunk(1, WINDOW_BYTES)
        streams.take_end(1)
        assert streams.consume(1, WINDOW_BYTES) == 0

    @pytest.mark.parametrize("number", [0, 1, 4])
    def test_numbers_must_increase(self, number):
        streams = IncomingStreams()
        streams.take_chunk(3, 1)
        streams.take_chunk(5, 1)
        message = f"peer sent on stream {number}, which has ended or never begun"
        with pytest.raises(RemoteProtocolError, match=message):
            streams.take_chunk(number, 1)
        with pytest.raises(RemoteProtocolError, match=message):
            streams.take_end(number)

    def test_nothing_follows_the_end(self):
        streams = IncomingStreams()
        streams.take_end(1)
        streams.take_chunk(2, 1)
        streams.take_end(2)
        for number in (1, 2):
            with pytest.raises(RemoteProtocolError):
                streams.take_chunk(number, 1)
            with pytest.raises(RemoteProtocolError):
                streams.take_end(number)

    def test_only_so_many_are_open(self):
        streams = IncomingStreams()
        for number in range(1, MAX_OPEN_STREAMS + 1):
            streams.take_chunk(number, 1)
        streams.take_end(7)
        streams.take_chunk(2000, 1)
        with pytest.raises(RemoteProtocolError, match=f"more than {MAX_OPEN_STREAMS} streams open"):
            streams.take_chunk(2001, 1)


@given(st.text(st.characters(exclude_categories=()), max_size=50), st.integers(1, 100))
def test_any_reason_can_be_sent(text, times):
    reason = sendable_reason(text * times)
    reason.encode()
    assert len(reason) <= 6 * 2000
    if text.isascii():
        assert (text * times).startswith(reason)
