"""What arrives on streams: written to spool files as it comes, so that memory holds a window of it at most."""

from __future__ import annotations

from dispy.errors import RemoteProtocolError
from dispy.model import LinkId
from dispy.wire.messages import AssignJobs, FilesComing, Message, OpenComputation, SendFile, ShareData
from dispy_node.engine.events import StreamFailed, StreamStored, StreamThrownAway
from dispy_node.storage import SpoolWriter, StateFolder, explain_os_error

MAX_ANNOUNCED = 262_144
"""Streams of one link that are announced and have not ended: some 30 MB, which the engine counts. A client has one for
each file that it sends along, and for each job in flight whose arguments are large, of which it allows itself 4096 for
a cluster. How many of them are open at once is bounded by `dispy.wire.streams.MAX_OPEN_STREAMS`."""


class StreamInbox:
    """The streams of one link. A stream must be announced by a message before its first byte."""

    def __init__(self, link: LinkId, state: StateFolder) -> None:
        self._link = link
        self._state = state
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
                    self._announced[offer.stream] = offer.size
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

    def drop(self, stream: int) -> None:
        """Throw away what has come on a stream, and what still comes."""
        if stream in self._announced:
            self._dropped.add(stream)
            writer = self._writers.pop(stream, None)
            if writer is not None:
                writer.abandon()

    def add_chunk(self, stream: int, data: bytes | bytearray | memoryview) -> None:
        """Store a piece. A full disk is remembered, and told at the end of the stream.

        Raises:
            RemoteProtocolError: the stream was not announced, or is longer than announced.
        """
        size = self._announced.get(stream)
        if size is None:
            raise RemoteProtocolError(f"data on stream {stream}, which no message has announced")
        if stream in self._dropped or stream in self._failed:
            return
        try:
            writer = self._writers.get(stream)
            if writer is None:
                writer = self._writers[stream] = self._state.open_spool(size)
            if writer.written_bytes + len(data) > size:
                raise RemoteProtocolError(f"stream {stream} is longer than the {size} bytes announced")
            writer.write(data)
        except OSError as error:
            self._failed[stream] = explain_os_error(error, "data could not be stored")
            lost = self._writers.pop(stream, None)
            if lost is not None:
                lost.abandon()

    def finish(self, stream: int, reason: str) -> StreamStored | StreamFailed | StreamThrownAway:
        """End a stream; return what the engine must hear.

        Raises:
            RemoteProtocolError: the stream was not announced, or is shorter than announced.
        """
        size = self._announced.pop(stream, None)
        if size is None:
            raise RemoteProtocolError(f"end of stream {stream}, which no message has announced")
        if stream in self._dropped:
            self._dropped.discard(stream)
            self._failed.pop(stream, None)
            return StreamThrownAway(self._link, stream)
        reason = self._failed.pop(stream, "") or reason
        if reason:
            broken = self._writers.pop(stream, None)
            if broken is not None:
                broken.abandon()
            return StreamFailed(self._link, stream, reason)
        try:
            writer = self._writers.pop(stream, None) or self._state.open_spool(size)
        except OSError as error:
            return StreamFailed(self._link, stream, explain_os_error(error, "data could not be stored"))
        if writer.written_bytes != size:
            writer.abandon()
            raise RemoteProtocolError(f"stream {stream} has {writer.written_bytes} bytes instead of {size}")
        return StreamStored(self._link, stream, writer.finish())

    def close(self) -> None:
        """The link is gone: remove what has half arrived."""
        for writer in self._writers.values():
            writer.abandon()
        self._writers.clear()
