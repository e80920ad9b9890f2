"""Streams that arrive at a node."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.engine import placing
from dispy.errors import RemoteProtocolError
from dispy.model import INLINE_BODY_BYTES, MAX_FRAME_BYTES, ClientId, LinkId
from dispy.wire import streams
from dispy.wire.messages import AssignJobs, FileOffer, FilesComing, JobAssignment, OpenComputation
from dispy.wire.owner import UNKNOWN
from dispy_node import spooling
from dispy_node.engine.events import StreamFailed, StreamStored, StreamThrownAway
from dispy_node.engine.records import PartKey, Spooled
from dispy_node.parts import Parts
from dispy_node.spooling import Joined, StreamInbox
from dispy_node.storage import SpoolWriter, StateFolder

LINK = LinkId(3)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path)
    yield folder
    folder.close()


def spool_files(state: StateFolder) -> list[Path]:
    return list(state.spool.iterdir())


def parts_of(state: StateFolder) -> Parts:
    return Parts(state.remove_spooled, lambda: 0.0, least_bytes=1)


def inbox_with_job(state: StateFolder, size: int) -> StreamInbox:
    inbox = StreamInbox(LINK, state, parts_of(state))
    inbox.announce(AssignJobs("c", [JobAssignment(1, 1, b"", stream=4, size=size)]))
    return inbox


def test_stream_is_stored_whole(state: StateFolder) -> None:
    inbox = inbox_with_job(state, 6)
    inbox.add_chunk(4, b"abc")
    inbox.add_chunk(4, b"def")
    stored = inbox.finish(4, "")
    assert isinstance(stored, StreamStored)
    assert (stored.link, stored.stream, stored.spooled.size) == (LINK, 4, 6)
    assert Path(stored.spooled.path).read_bytes() == b"abcdef"


def test_empty_file_is_stored_too(state: StateFolder) -> None:
    inbox = StreamInbox(LINK, state, parts_of(state))
    offer = FileOffer("empty", 0, 0o644, 0.0, 9)
    inbox.announce(
        OpenComputation("c", "f", "function", "process", b"", code_stream=8, code_size=1, files=[offer])
    )
    stored = inbox.finish(9, "")
    assert isinstance(stored, StreamStored)
    assert stored.spooled.size == 0


def test_stream_that_breaks_off_leaves_nothing(state: StateFolder) -> None:
    inbox = inbox_with_job(state, 6)
    inbox.add_chunk(4, b"abc")
    assert inbox.finish(4, "file changed") == StreamFailed(LINK, 4, "file changed")
    assert not spool_files(state)


def test_full_disk_fails_the_stream_and_not_the_link(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: SpoolWriter, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    inbox = inbox_with_job(state, 6)
    monkeypatch.setattr(SpoolWriter, "write", write)
    inbox.add_chunk(4, b"abc")
    inbox.add_chunk(4, b"def")
    failed = inbox.finish(4, "")
    assert isinstance(failed, StreamFailed)
    assert "full" in failed.reason
    assert not spool_files(state)


def test_dropped_stream_is_read_and_thrown_away(state: StateFolder) -> None:
    inbox = inbox_with_job(state, 6)
    inbox.add_chunk(4, b"abc")
    inbox.drop(4)
    inbox.add_chunk(4, b"def")
    assert inbox.finish(4, "") == StreamThrownAway(LINK, 4)
    assert not spool_files(state)
    inbox.drop(99)  # never announced: nothing to drop


def test_bytes_without_announcement_are_the_peers_fault(state: StateFolder) -> None:
    inbox = StreamInbox(LINK, state, parts_of(state))
    with pytest.raises(RemoteProtocolError, match="announced"):
        inbox.add_chunk(1, b"x")
    with pytest.raises(RemoteProtocolError, match="announced"):
        inbox.finish(1, "")


@pytest.mark.parametrize("data", [b"abc", b"abcdefg"])
def test_wrong_length_is_the_peers_fault(state: StateFolder, data: bytes) -> None:
    inbox = inbox_with_job(state, 6)
    with pytest.raises(RemoteProtocolError, match="stream 4"):
        inbox.add_chunk(4, data)
        inbox.finish(4, "")
    inbox.close()
    assert not spool_files(state)


def test_announcements_are_bounded(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "MAX_ANNOUNCED", 3)
    inbox = StreamInbox(LINK, state, parts_of(state))

    def announce(*streams: int) -> None:
        inbox.announce(AssignJobs("c", [JobAssignment(1, 1, b"", stream=stream) for stream in streams]))

    announce(1, 2, 3)
    inbox.finish(1, "")
    inbox.drop(2)
    inbox.finish(2, "")
    announce(4, 5)
    with pytest.raises(RemoteProtocolError, match="announced more than 3 streams"):
        announce(6)


def test_correct_clients_stay_below_the_bounds() -> None:
    assert streams.MAX_SENDING_STREAMS * 4 <= streams.MAX_OPEN_STREAMS, (
        "older ones may have sent more at once"
    )
    jobs = placing.SPOOLED_BYTES_MAX // INLINE_BODY_BYTES
    assert jobs * 50 < spooling.MAX_ANNOUNCED, "large arguments of many clusters"
    offer = msgspec.msgpack.encode(FileOffer("x", 1, 1, 1.0, 1 << 20))
    assert MAX_FRAME_BYTES // len(offer) < spooling.MAX_ANNOUNCED, "all files that one message can offer"


def test_lost_link_leaves_no_half_files(state: StateFolder) -> None:
    inbox = inbox_with_job(state, 6)
    inbox.add_chunk(4, b"abc")
    inbox.close()
    assert not spool_files(state)


# ---- files that go on where a link broke

KEY = PartKey(ClientId("c1"), UNKNOWN, b"X", 6)


def inbox_with_file(state: StateFolder, parts: Parts, part: Spooled | None = None) -> StreamInbox:
    inbox = StreamInbox(LINK, state, parts)
    inbox.announce(FilesComing("a", [FileOffer("x", 6, 0o644, 0.0, 2, b"X", part.size if part else 0)]))
    inbox.receive(2, KEY, part)
    return inbox


@given(st.lists(st.lists(st.binary(max_size=3), max_size=3), max_size=6))
def test_a_file_comes_whole_over_any_number_of_links(sent: list[list[bytes]]) -> None:
    content = b"".join(chunk for chunks in sent for chunk in chunks)
    key = replace(KEY, size=len(content))
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(StateFolder(Path(folder))) as state:
        parts = parts_of(state)
        for number, chunks in enumerate([*sent, []], 1):
            part = parts.take(key)
            inbox = StreamInbox(LINK, state, parts)
            offer = FileOffer("x", len(content), 0o644, 0.0, number, b"X", part.size if part else 0)
            inbox.announce(FilesComing("a", [offer]))
            inbox.receive(number, key, part)
            for chunk in chunks:
                inbox.add_chunk(number, chunk)
            if number <= len(sent):
                inbox.close()
                inbox.add_chunk(number, b"what comes late")
                assert inbox.finish(number, "") is None
            else:
                finished = inbox.finish(number, "")
                assert isinstance(finished, Joined if content else StreamStored)
                assert Path(finished.spooled.path).read_bytes() == content
                assert spool_files(state) == [Path(finished.spooled.path)]


@pytest.mark.parametrize("chunk", [b"", b"d"])
def test_what_is_dropped_or_fails_leaves_no_part(state: StateFolder, chunk: bytes) -> None:
    parts = parts_of(state)
    for end in (
        lambda inbox: inbox.drop(2),
        lambda inbox: inbox.finish(2, "changed at the client"),
    ):
        writer = state.open_spool(6)
        writer.write(b"abc")
        inbox = inbox_with_file(state, parts, writer.finish())
        if chunk:
            inbox.add_chunk(2, chunk)
        end(inbox)
        inbox.close()
        assert parts.take(KEY) is None
        assert not spool_files(state)


def test_a_part_that_cannot_be_opened_fails_its_stream(state: StateFolder) -> None:
    inbox = inbox_with_file(state, parts_of(state), Spooled(str(state.spool / "gone"), 3))
    inbox.add_chunk(2, b"def")
    failed = inbox.finish(2, "")
    assert isinstance(failed, StreamFailed)
    assert "No such file" in failed.reason


@pytest.mark.parametrize("has_parts", [True, False])
def test_a_full_disk_takes_the_room_of_what_is_kept(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch, has_parts: bool
) -> None:
    parts = parts_of(state)
    if has_parts:
        writer = state.open_spool(6)
        writer.write(b"abc")
        parts.keep(KEY, writer.finish())
    write = os.write

    def write_or_fail(descriptor: int, data: memoryview) -> int:
        if len(spool_files(state)) > 1 or not has_parts:
            if len(data) > 2:
                return write(descriptor, data[:2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    inbox = inbox_with_job(state, 4)
    inbox._parts = parts
    monkeypatch.setattr(os, "write", write_or_fail)
    inbox.add_chunk(4, b"1234")
    finished = inbox.finish(4, "")
    if has_parts:
        assert isinstance(finished, StreamStored)
        assert Path(finished.spooled.path).read_bytes() == b"1234"
    else:
        assert isinstance(finished, StreamFailed)
        assert "the disk of the node is full" in finished.reason


def test_files_without_a_stream_announce_none(state: StateFolder) -> None:
    inbox = StreamInbox(LinkId(1), state, parts_of(state))
    offers = [FileOffer("x", 3, 0o644, 0.0, 0, b"X"), FileOffer("y", 3, 0o644, 0.0, 1, b"Y")]
    inbox.announce(OpenComputation("a", "f", "function", "process", b"", files=offers, dest_path="there"))
    with pytest.raises(RemoteProtocolError, match="stream 2, which no message has announced"):
        inbox.add_chunk(2, b"abc")
    inbox.announce(FilesComing("a", [FileOffer("x", 3, 0o644, 0.0, 2, b"X")]))
    inbox.add_chunk(2, b"abc")
    assert isinstance(inbox.finish(2, ""), StreamStored)
