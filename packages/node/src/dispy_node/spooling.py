"""What arrives on streams: written to spool files as it comes, so that memory holds a window of it at most."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from dispy.errors import RemoteProtocolError
from dispy.model import LinkId
from dispy.wire.messages import AssignJobs, FilesComing, Message, OpenComputation, SendFile, ShareData
from dispy_node.engine.events import StreamFailed, StreamStored, StreamThrownAway
from dispy_node.engine.records import PartKey, Spooled
from dispy_node.parts import Parts
from dispy_node.storage import SpoolWriter, StateFolder, explain_os_error

MAX_ANNOUNCED = 262_144
"""Streams of one link that are announced and have not ended: some 30 MB, which the engine counts. A client has one for
each file that it sends along, and for each job in flight whose arguments are large, of which it allows itself 4096 for
a cluster. How many of them are open at once is bounded by `dispy.wire.streams.MAX_OPEN_STREAMS`."""


@dataclass(frozen=True, slots=True)
class Joined:
    """A file whose last part has come; whether the parts make the file that was offered is to be seen."""

    link: LinkId
    stream: int
    key: PartKey
    spooled: Spooled


class StreamInbox:
    """The streams of one link. A stream must be announced by a message before its first byte.

    Args:
        parts: where files that have half arrived are kept when the link ends.

    Attributes:
        closed: the link is gone, or about to end; what still comes is dropped.
    """

    def __init__(self, link: LinkId, state: StateFolder, parts: Parts) -> None:
        self.closed = False
        self._link = link
        self._state = state
        self._parts = parts
        self._keys: dict[int, PartKey] = {}
        """Stream -> the file on it, which is worth keeping."""
        self._begun: dict[int, Spooled] = {}
        """Stream -> the part that it goes on with, until its first bytes come."""
        self._joined: set[int] = set()
        """Streams that go on with a part."""
        self._announced: dict[int, int] = {}
        self._writers: dict[int, SpoolWriter] = {}
        self._failed: dict[int, str] = {}
        self._dropped: set[int] = set()

    def announce(self, message: Message) -> None:
        """Note the streams that a message tells of.

        Raises:
            RemoteProtocolError: there are too many that have not ended.
        """
        match message:
            case OpenComputation():
                if message.code_stream:
                    self._announced[message.code_stream] = message.code_size
                if message.setup_stream:
                    self._announced[message.setup_stream] = message.setup_size
                for offer in message.files:
                    if offer.stream:
                        self._announced[offer.stream] = offer.size
            case FilesComing():
                for offer in message.files:
                    self._announced[offer.stream] = offer.size - offer.skip
            case SendFile():
                self._announced[message.file.stream] = message.file.size
            case ShareData():
                self._announced[message.stream] = message.size
            case AssignJobs():
                for job in message.jobs:
                    if job.stream:
                        self._announced[job.stream] = job.size
        if len(self._announced) > MAX_ANNOUNCED:
            raise RemoteProtocolError(
                f"peer has announced more than {MAX_ANNOUNCED} streams that it has not sent: send fewer files at once"
            )

    def receive(self, stream: int, key: PartKey, part: Spooled | None) -> None:
        """Keep the file on a stream that was announced if the link ends before it is whole; it goes on with *part*."""
        self._keys[stream] = key
        if part is not None:
            self._announced[stream] = key.size
            self._begun[stream] = part
            self._joined.add(stream)

    def drop(self, stream: int) -> None:
        """Throw away what has come on a stream, and what still comes."""
        if stream in self._announced:
            self._dropped.add(stream)
            self._abandon(stream)

    def _abandon(self, stream: int) -> None:
        """Remove what there is of a stream."""
        self._keys.pop(stream, None)
        self._joined.discard(stream)
        writer, begun = self._writers.pop(stream, None), self._begun.pop(stream, None)
        if writer is not None:
            writer.abandon()
        if begun is not None:
            self._state.remove_spooled(begun)

    def add_chunk(self, stream: int, data: bytes | bytearray | memoryview) -> None:
        """Store a piece. A full disk is remembered, and told at the end of the stream.

        Raises:
            RemoteProtocolError: the stream was not announced, or is longer than announced.
        """
        if self.closed:
            return
        size = self._announced.get(stream)
        if size is None:
            raise RemoteProtocolError(f"data on stream {stream}, which no message has announced")
        if stream in self._dropped or stream in self._failed:
            return
        try:
            writer = self._writer(stream, size)
            if writer.written_bytes + len(data) > size:
                raise RemoteProtocolError(f"stream {stream} is longer than the {size} bytes announced")
            self._write(writer, data)
        except OSError as error:
            self._failed[stream] = explain_os_error(error, "data could not be stored")
            self._abandon(stream)

    def _writer(self, stream: int, size: int) -> SpoolWriter:
        """Give what writes a stream, opened now if need be.

        Raises:
            OSError: it cannot be opened.
        """
        writer = self._writers.get(stream)
        if writer is None:
            begun = self._begun.get(stream)
            writer = self._state.reopen_spool(begun, size) if begun else self._state.open_spool(size)
            self._writers[stream] = writer
            self._begun.pop(stream, None)
        return writer

    def _write(self, writer: SpoolWriter, data: bytes | bytearray | memoryview) -> None:
        """Write a piece; if the disk is full, at the cost of what is kept for later only.

        Raises:
            OSError: the disk is full, or broken.
        """
        before = writer.written_bytes
        try:
            writer.write(data)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._parts.make_room():
                raise
            writer.write(memoryview(data)[writer.written_bytes - before :])

    def finish(
        self, stream: int, reason: str
    ) -> StreamStored | StreamFailed | StreamThrownAway | Joined | None:
        """End a stream; return what the engine must hear, None when the link is about to end.

        What is `Joined` it must hear of when it is known whether the file is right.

        Raises:
            RemoteProtocolError: the stream was not announced, or is shorter than announced.
        """
        if self.closed:
            return None
        size = self._announced.pop(stream, None)
        if size is None:
            raise RemoteProtocolError(f"end of stream {stream}, which no message has announced")
        if stream in self._dropped:
            self._dropped.discard(stream)
            self._failed.pop(stream, None)
            return StreamThrownAway(self._link, stream)
        reason = self._failed.pop(stream, "") or reason
        if reason:
            self._abandon(stream)
            return StreamFailed(self._link, stream, reason)
        try:
            writer = self._writer(stream, size)
        except OSError as error:
            self._abandon(stream)
            return StreamFailed(self._link, stream, explain_os_error(error, "data could not be stored"))
        if writer.written_bytes != size:
            self._abandon(stream)
            raise RemoteProtocolError(f"stream {stream} has {writer.written_bytes} bytes instead of {size}")
        del self._writers[stream]
        spooled, key = writer.finish(), self._keys.pop(stream, None)
        if key is None or stream not in self._joined:
            return StreamStored(self._link, stream, spooled)
        self._joined.discard(stream)
        return Joined(self._link, stream, key, spooled)

    def close(self) -> None:
        """The link is gone: keep the files that have half arrived, and remove what else has."""
        self.closed = True
        for stream, writer in self._writers.items():
            key = self._keys.get(stream)
            if key is None:
                writer.abandon()
            else:
                self._parts.keep(key, writer.finish())
        for stream, part in self._begun.items():
            self._parts.keep(self._keys[stream], part)
        self._writers.clear()
        self._begun.clear()
