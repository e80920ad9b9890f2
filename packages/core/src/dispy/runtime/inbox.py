"""Puts together what arrives on streams: a message whose body travels on one is held back until that has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from dispy.errors import RemoteProtocolError, UsageError
from dispy.logger import logger
from dispy.model import Outcome
from dispy.wire.messages import FILE, JobNews, JobResult, JobResults, JobsStarted, JobStart, Message, News


class Landing(Protocol):
    """A file on its way to its place; see `dispy.runtime.landing`."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; raises OSError."""

    def finish(self) -> None:
        """Put the file in its place; raises OSError, UsageError or RemoteProtocolError."""

    def abandon(self) -> None:
        """Remove what has come so far."""


@dataclass(frozen=True, slots=True)
class NewsEnd:
    """News that is no message for the engine: a file, or something that could not be received."""

    computation: str
    news: News
    taken: bool


Land = Callable[[str, News], Landing]
"""Begins to receive a file of a computation; raises UsageError or OSError if it is refused."""


def refuse(computation: str, news: News) -> Landing:
    """Take no files."""
    raise UsageError(f"file {news.path!r} is not taken")


class ResultInbox:
    """The streams that arrive on one link of a client.

    What has half arrived when the link breaks is dropped: the node keeps what it tells until it is acknowledged, and
    tells it again on the next link.

    Args:
        land: where files go.
    """

    def __init__(self, land: Land = refuse) -> None:
        self._land = land
        self._awaited: dict[int, _Result | _Partial | _File] = {}

    def hold_back(self, message: Message) -> list[Message]:
        """Return what can be handled at once; keep what has a body that is still to come.

        Of a job whose result is held back it is told that it has started: whatever overtakes the result, the
        scheduler must not take the job for one that can safely be started elsewhere.

        Raises:
            RemoteProtocolError: a file has no stream.
        """
        if isinstance(message, JobResults):
            return self._hold_results(message)
        return self._hold_news(message) if isinstance(message, JobNews) else [message]

    def _hold_results(self, message: JobResults) -> list[Message]:
        streamed = [result for result in message.results if result.stream]
        if not streamed:
            return [message]
        for result in streamed:
            self._awaited[result.stream] = _Result(message.computation, result)
        now: list[Message] = []
        starts = [JobStart(one.job, one.attempt, one.started_at) for one in streamed if one.started_at > 0.0]
        if starts:
            now.append(JobsStarted(message.computation, starts))
        rest = [result for result in message.results if not result.stream]
        if rest:
            now.append(JobResults(message.computation, rest))
        return now

    def _hold_news(self, message: JobNews) -> list[Message]:
        computation = message.computation
        now = []
        for news in message.news:
            if news.kind == FILE and not news.stream:
                raise RemoteProtocolError(f"file {news.path!r} of job {news.job} comes without a stream")
            if not news.stream:
                now.append(news)
            elif news.kind == FILE:
                self._awaited[news.stream] = _File(computation, news, self._land)
            else:
                self._awaited[news.stream] = _Partial(computation, news)
        return [JobNews(computation, now)] if now else []

    def add_chunk(self, stream: int, data: bytes | bytearray | memoryview) -> None:
        """Take a piece.

        Raises:
            RemoteProtocolError: nothing was announced on this stream, or more comes than was announced.
        """
        entry = self._awaited.get(stream)
        if entry is None:
            raise RemoteProtocolError(f"data on stream {stream}, which no message has announced")
        entry.received += len(data)
        if entry.received > entry.size:
            raise RemoteProtocolError(f"stream {stream} is longer than the {entry.size} bytes announced")
        entry.add(data)

    def finish(self, stream: int, reason: str) -> Message | NewsEnd:
        """End a stream; return what it was for: whole, or as broken if the node could not send it, for that reason.

        Raises:
            RemoteProtocolError: as `add_chunk`, or less came than was announced, or something else.
        """
        entry = self._awaited.pop(stream, None)
        if entry is None:
            raise RemoteProtocolError(f"end of stream {stream}, which no message has announced")
        if not reason and entry.received != entry.size:
            entry.close()
            raise RemoteProtocolError(f"stream {stream} has {entry.received} bytes instead of {entry.size}")
        return entry.finish(reason)

    def close(self) -> None:
        """Drop what has half arrived."""
        for entry in self._awaited.values():
            entry.close()
        self._awaited.clear()


class _Result:
    """A result whose body is on its way."""

    def __init__(self, computation: str, result: JobResult) -> None:
        self.size, self.received = result.size, 0
        self._computation, self._result = computation, result
        self._body = bytearray()

    def add(self, data: bytes | bytearray | memoryview) -> None:
        self._body += data

    def finish(self, reason: str) -> Message:
        if reason:
            # The link goes on, so the node will not tell the result again: without this the job would run for ever.
            detail = f"its result could not be read at the node: {reason}"
            result = msgspec.structs.replace(
                self._result, outcome=int(Outcome.BROKEN), detail=detail, stream=0, size=0
            )
        else:
            # The bytearray is passed on as it is: a copy of a gigabyte would double what the client holds.
            result = msgspec.structs.replace(self._result, body=self._body, stream=0, size=0)
        return JobResults(self._computation, [result])

    def close(self) -> None:
        self._body.clear()


class _Partial:
    """An intermediate result whose body is on its way."""

    def __init__(self, computation: str, news: News) -> None:
        self.size, self.received = news.size, 0
        self._computation, self._news = computation, news
        self._body = bytearray()

    def add(self, data: bytes | bytearray | memoryview) -> None:
        self._body += data

    def finish(self, reason: str) -> Message | NewsEnd:
        if reason:
            logger.warning(
                "an intermediate result of job %s could not be received: %s", self._news.job, reason
            )
            return NewsEnd(self._computation, self._news, taken=False)
        news = msgspec.structs.replace(self._news, body=self._body, stream=0, size=0)
        return JobNews(self._computation, [news])

    def close(self) -> None:
        self._body.clear()


class _File:
    """A file on its way; one that is refused, or cannot be stored, is read to its end and thrown away."""

    def __init__(self, computation: str, news: News, land: Land) -> None:
        self.size, self.received = news.size, 0
        self._computation, self._news = computation, news
        self._landing: Landing | None = None
        try:
            self._landing = land(computation, news)
        except (OSError, UsageError) as error:
            self._tell(error)

    def add(self, data: bytes | bytearray | memoryview) -> None:
        if self._landing is None:
            return
        try:
            self._landing.write(data)
        except OSError as error:
            self.close()
            self._tell(error)

    def finish(self, reason: str) -> NewsEnd:
        landing = self._landing
        if reason:
            self.close()
            self._tell(reason)
        elif landing is not None:
            self._landing = None
            try:
                landing.finish()
                return NewsEnd(self._computation, self._news, taken=True)
            except (OSError, UsageError) as error:
                self._tell(error)
        return NewsEnd(self._computation, self._news, taken=False)

    def close(self) -> None:
        if self._landing is not None:
            self._landing.abandon()
            self._landing = None

    def _tell(self, reason: object) -> None:
        logger.warning("file %r of job %s was not taken: %s", self._news.path, self._news.job, reason)
