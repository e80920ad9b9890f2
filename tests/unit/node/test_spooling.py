"""Streams that arrive at a node."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dispy.engine import placing
from dispy.errors import RemoteProtocolError
from dispy.model import INLINE_BODY_BYTES, MAX_FRAME_BYTES, LinkId
from dispy.wire import streams
from dispy.wire.messages import AssignJobs, FileOffer, FilesComing, JobAssignment, OpenComputation
from dispy_node import spooling
from dispy_node.engine.events import StreamFailed, StreamStored, StreamThrownAway
from dispy_node.spooling import StreamInbox
from dispy_node.storage import SpoolWriter, StateFolder

LINK = LinkId(3)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path)
    yield folder
    folder.close()


def spool_files(state: StateFolder) -> list[Path]:
    return list(state.spool.iterdir())


def inbox_with_job(state: StateFolder, size: int) -> StreamInbox:
    inbox = StreamInbox(LINK, state)
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
    inbox = StreamInbox(LINK, state)
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
    inbox = StreamInbox(LINK, state)
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
    inbox = StreamInbox(LINK, state)

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


def test_files_without_a_stream_announce_none(state: StateFolder) -> None:
    inbox = StreamInbox(LinkId(1), state)
    offers = [FileOffer("x", 3, 0o644, 0.0, 0, b"X"), FileOffer("y", 3, 0o644, 0.0, 1, b"Y")]
    inbox.announce(OpenComputation("a", "f", "function", "process", b"", files=offers, dest_path="there"))
    with pytest.raises(RemoteProtocolError, match="stream 2, which no message has announced"):
        inbox.add_chunk(2, b"abc")
    inbox.announce(FilesComing("a", [FileOffer("x", 3, 0o644, 0.0, 2, b"X")]))
    inbox.add_chunk(2, b"abc")
    assert isinstance(inbox.finish(2, ""), StreamStored)
