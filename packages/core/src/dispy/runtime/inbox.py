"""Puts together what arrives on streams: a message whose body travels on one is held back until that has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from dispy.errors import RemoteProtocolError, UsageError
from dispy.logger import logger
from dispy.model import INLINE_BODY_BYTES, Outcome
from dispy.printable import printable
from dispy.runtime.holding import Account, HeldBody, ResultMemory
from dispy.wire.messages import FILE, JobNews, JobResult, JobResults, JobsStarted, JobStart, Message, News

MOST_INLINE_BYTES = 2 * INLINE_BODY_BYTES
"""Longest body that is taken without a stream; nodes send half as much."""

MOST_ANNOUNCED = 65_536
"""Streams of one link that are announced and have not ended: a node has one for each large result of a job in flight,
of which a client allows it 129 for each slot."""

MOST_DETAIL_CHARS = 64 * 1024
"""Longest text about how an attempt ended; the rest is cut off, as such texts are not counted."""

MOST_PATH_CHARS = 4096
MOST_DIGEST_BYTES = 64
"""Longest path and hash of a file that a job sends."""

NEWS_BYTES = 512
"""What an intermediate result takes besides its body, about."""


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

TOLD_CHARS = 256
"""Longest name of a file in a warning; the reason, which may name it again, has twice as many."""

Warn = Callable[..., None]
"""Logs a warning: a text, and what goes into it."""

IsAwaited = Callable[[str, int, int], bool]
"""Tells whether the node may have a result of an attempt (computation, job, attempt)."""


def refuse(computation: str, news: News) -> Landing:
    """Take no files."""
    raise UsageError(f"file {news.path!r} is not taken")


def await_all(computation: str, job: int, attempt: int) -> bool:
    """Take whatever is told."""
    return True


class ResultInbox:
    """The streams that arrive on one link of a client.

    What has half arrived when the link breaks is dropped: the node keeps what it tells until it is acknowledged, and
    tells it again on the next link.

    A node need not be honest. Of jobs that it cannot have nothing is kept, nor what there is no memory for.

    Args:
        land: where files go.
        is_awaited: which attempts the node may tell of.
        account: where bodies of this node count; they count as long as anybody refers to them.
        warn: logs what could not be taken, as `logging.Logger.warning` does.
    """

    def __init__(
        self,
        land: Land = refuse,
        is_awaited: IsAwaited = await_all,
        account: Account | None = None,
        warn: Warn = logger.warning,
    ) -> None:
        self._warn = warn
        self._land = land
        self._is_awaited = is_awaited
        self._account = account or ResultMemory(1 << 62).account(None)
        self._awaited: dict[int, _Result | _Partial | _File] = {}
        self._results: set[tuple[str, int, int]] = set()
        """Attempts whose results are on their way."""

    def hold_back(self, message: Message) -> list[Message | NewsEnd]:
        """Return what can be handled at once; keep what has a body that is still to come.

        Of a job whose result is held back it is told that it has started: whatever overtakes the result, the
        scheduler must not take the job for one that can safely be started elsewhere.

        Raises:
            RemoteProtocolError: a file has no stream, an inline body should have one, or a stream is announced twice.
        """
        if isinstance(message, JobResults):
            return self._hold_results(message)
        return self._hold_news(message) if isinstance(message, JobNews) else [message]

    def _hold_results(self, message: JobResults) -> list[Message | NewsEnd]:
        streamed = []
        if any(len(result.detail) > MOST_DETAIL_CHARS for result in message.results):
            message = JobResults(message.computation, [_cut(result) for result in message.results])
        for result in message.results:
            if result.stream:
                # What should not come here besides is not kept until the stream has ended: nobody counts it.
                streamed.append(msgspec.structs.replace(result, body=b"") if result.body else result)
            elif len(result.body) > MOST_INLINE_BYTES:
                raise RemoteProtocolError(
                    f"result of job {result.job} has {len(result.body)} bytes and no stream"
                )
        if not streamed:
            return [message]
        for result in streamed:
            self._hold_result(message.computation, result)
        now: list[Message | NewsEnd] = []
        starts = [JobStart(one.job, one.attempt, one.started_at) for one in streamed if one.started_at > 0.0]
        if starts:
            now.append(JobsStarted(message.computation, starts))
        rest = [result for result in message.results if not result.stream]
        if rest:
            now.append(JobResults(message.computation, rest))
        return now

    def _hold_result(self, computation: str, result: JobResult) -> None:
        key = (computation, result.job, result.attempt)
        again = key in self._results
        entry = _Result(computation, result, self._account, again=again)
        if again or not self._is_awaited(*key):
            entry.refuse("nobody waits for it")
        self._await(result.stream, entry)
        self._results.add(key)

    def _await(self, stream: int, entry: _Result | _Partial | _File) -> None:
        """Take note of a stream.

        Raises:
            RemoteProtocolError: it is announced already, or too many are.
        """
        trouble = ""
        if stream in self._awaited:
            trouble = f"stream {stream} is announced twice"
        elif len(self._awaited) >= MOST_ANNOUNCED:
            trouble = f"peer has announced more than {MOST_ANNOUNCED} streams that it has not sent"
        if trouble:
            entry.close()
            raise RemoteProtocolError(trouble)
        self._awaited[stream] = entry

    def _hold_news(self, message: JobNews) -> list[Message | NewsEnd]:
        computation = message.computation
        now: list[Message | NewsEnd] = []
        small: list[News] = []
        for news in message.news:
            if len(news.path) > MOST_PATH_CHARS or len(news.digest) > MOST_DIGEST_BYTES:
                raise RemoteProtocolError(f"news of job {news.job} has a path or hash that is far too long")
            if news.stream:
                lean = msgspec.structs.replace(news, body=b"") if news.body else news
                self._await(news.stream, self._expect(computation, lean))
            elif news.kind == FILE:
                raise RemoteProtocolError(f"file {news.path!r} of job {news.job} comes without a stream")
            elif (taken := self._take_inline(computation, news)) is not None:
                small.append(taken)
            else:
                now.append(NewsEnd(computation, news, taken=False))
        if small:
            now.append(JobNews(computation, small))
        return now

    def _expect(self, computation: str, news: News) -> _File | _Partial:
        if news.kind == FILE:
            return _File(computation, news, self._land, self._warn)
        partial = _Partial(computation, news, self._account, self._warn)
        if not self._is_awaited(computation, news.job, news.attempt):
            partial.refuse("")
        return partial

    def _take_inline(self, computation: str, news: News) -> News | None:
        """Count a small intermediate result, as many may gather before somebody looks; None if there is no room.

        Raises:
            RemoteProtocolError: it is not small.
        """
        if len(news.body) > MOST_INLINE_BYTES:
            raise RemoteProtocolError(f"news of job {news.job} has {len(news.body)} bytes and no stream")
        if not self._is_awaited(computation, news.job, news.attempt):
            return msgspec.structs.replace(news, body=b"")
        body = HeldBody(self._account)
        if not body.add(news.body, besides=NEWS_BYTES):
            _tell_lost(self._warn, news, describe_lack(self._account))
            return None
        return msgspec.structs.replace(news, body=body)

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
        if isinstance(entry, _Result) and not entry.again:
            self._results.discard(entry.key)
        return entry.finish(reason)

    def close(self) -> None:
        """Drop what has half arrived."""
        for entry in self._awaited.values():
            entry.close()
        self._awaited.clear()
        self._results.clear()


class _Body:
    """A body on its way, or, if there is no room for it or nobody wants it, what is thrown away to its end."""

    def __init__(self, size: int, account: Account) -> None:
        self.size, self.received = size, 0
        self._account = account
        self._body: HeldBody | None = HeldBody(account)
        self._refusal = ""
        if size > account.room():
            self.refuse(describe_lack(account))

    def refuse(self, why: str) -> None:
        """Keep nothing of it."""
        if self._body is not None:
            self._body.drop()
            self._body, self._refusal = None, why

    def add(self, data: bytes | bytearray | memoryview) -> None:
        if self._body is not None and not self._body.add(data):
            self.refuse(describe_lack(self._account))

    def close(self) -> None:
        self.refuse("")


class _Result(_Body):
    """A result whose body is on its way.

    Args:
        again: it is on its way on another stream, too, and this one has no effect.
    """

    def __init__(self, computation: str, result: JobResult, account: Account, *, again: bool) -> None:
        super().__init__(result.size, account)
        self.again = again
        self.key = (computation, result.job, result.attempt)
        self._computation, self._result = computation, result

    def finish(self, reason: str) -> Message:
        if self.again:
            return JobResults(self._computation, [])
        if reason or self._body is None:
            # The link goes on, so the node will not tell the result again: without this the job would run for ever.
            detail = (
                f"its result could not be read at the node: {reason}" if reason else self._describe_refusal()
            )
            result = msgspec.structs.replace(
                self._result, outcome=int(Outcome.BROKEN), detail=detail, stream=0, size=0
            )
        else:
            # It is passed on as it is: a copy of a gigabyte would double what the client holds.
            result = msgspec.structs.replace(self._result, body=self._body, stream=0, size=0)
        return JobResults(self._computation, [result])

    def _describe_refusal(self) -> str:
        return f"its result of {self.size} bytes was not taken: {self._refusal}"


class _Partial(_Body):
    """An intermediate result whose body is on its way."""

    def __init__(self, computation: str, news: News, account: Account, warn: Warn) -> None:
        super().__init__(news.size, account)
        self._computation, self._news = computation, news
        self._warn = warn

    def finish(self, reason: str) -> Message | NewsEnd:
        if reason or self._refusal:
            _tell_lost(self._warn, self._news, reason or self._refusal)
            return NewsEnd(self._computation, self._news, taken=False)
        # One that nobody waits for is told without a body: it is acknowledged, as it always was, and has no effect.
        news = msgspec.structs.replace(self._news, body=self._body or b"", stream=0, size=0)
        return JobNews(self._computation, [news])


class _File:
    """A file on its way; one that is refused, or cannot be stored, is read to its end and thrown away."""

    def __init__(self, computation: str, news: News, land: Land, warn: Warn) -> None:
        self._warn = warn
        self.size, self.received = news.size, 0
        self._computation, self._news = computation, news
        self._land: Land | None = land
        """None as soon as it was asked."""
        self._landing: Landing | None = None

    def _begin(self) -> None:
        """Open the file, if that is still to be done: of those announced only few arrive at once."""
        if self._land is None:
            return
        land, self._land = self._land, None
        try:
            self._landing = land(self._computation, self._news)
        except (OSError, UsageError) as error:
            self._tell(error)

    def add(self, data: bytes | bytearray | memoryview) -> None:
        self._begin()
        if self._landing is None:
            return
        try:
            self._landing.write(data)
        except OSError as error:
            self.close()
            self._tell(error)

    def finish(self, reason: str) -> NewsEnd:
        if not reason:
            self._begin()
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
        path, why = printable(self._news.path, TOLD_CHARS), printable(str(reason), 2 * TOLD_CHARS)
        self._warn("file %r of job %s was not taken: %s", path, self._news.job, why)


def _cut(result: JobResult) -> JobResult:
    if len(result.detail) <= MOST_DETAIL_CHARS:
        return result
    return msgspec.structs.replace(result, detail=f"{result.detail[:MOST_DETAIL_CHARS]} ...")


def _tell_lost(warn: Warn, news: News, reason: str) -> None:
    warn("an intermediate result of job %s could not be received: %s", news.job, reason)


def describe_lack(account: Account) -> str:
    """Tell that there is no room for more of a node, and what to do."""
    total = account.memory.total_bytes
    return (
        f"this client holds {account.memory.held_bytes} bytes of results, {account.held} of them from this node, and "
        f"dispy.config.ResultMemory is {total}, of which one node may fill half: let go of results that were looked "
        "at, return less, send files, or raise it"
    )
