"""Puts large results together: a result whose body travels on a stream is held back until the stream has ended."""

from __future__ import annotations

import msgspec

from dispy.errors import RemoteProtocolError
from dispy.model import Outcome
from dispy.wire.messages import JobResult, JobResults, JobsStarted, JobStart, Message


class ResultInbox:
    """The streams that arrive on one link of a client.

    What has half arrived when the link breaks is dropped: the node keeps results until they are acknowledged, and
    tells them again on the next link.
    """

    def __init__(self) -> None:
        self._awaited: dict[int, tuple[str, JobResult, bytearray]] = {}

    def hold_back(self, message: JobResults) -> list[Message]:
        """Return what can be handled at once; keep results whose body is still to come.

        Of a job whose result is held back it is told that it has started: whatever overtakes the result, the
        scheduler must not take the job for one that can safely be started elsewhere.
        """
        streamed = [result for result in message.results if result.stream]
        if not streamed:
            return [message]
        for result in streamed:
            self._awaited[result.stream] = (message.computation, result, bytearray())
        now: list[Message] = []
        starts = [JobStart(one.job, one.attempt, one.started_at) for one in streamed if one.started_at > 0.0]
        if starts:
            now.append(JobsStarted(message.computation, starts))
        rest = [result for result in message.results if not result.stream]
        if rest:
            now.append(JobResults(message.computation, rest))
        return now

    def add_chunk(self, stream: int, data: bytes | bytearray | memoryview) -> None:
        """Take a piece.

        Raises:
            RemoteProtocolError: no result was announced on this stream, or more comes than was announced.
        """
        entry = self._awaited.get(stream)
        if entry is None:
            raise RemoteProtocolError(f"data on stream {stream}, which no message has announced")
        _computation, result, body = entry
        body += data
        if len(body) > result.size:
            raise RemoteProtocolError(f"stream {stream} is longer than the {result.size} bytes announced")

    def finish(self, stream: int, reason: str) -> JobResults:
        """End a stream; return its result: whole, or, if the node could not send it, as broken for that reason.

        Raises:
            RemoteProtocolError: as `add_chunk`, or less came than was announced.
        """
        entry = self._awaited.pop(stream, None)
        if entry is None:
            raise RemoteProtocolError(f"end of stream {stream}, which no message has announced")
        computation, result, body = entry
        if reason:
            # The link goes on, so the node will not tell the result again: without this the job would run for ever.
            detail = f"its result could not be read at the node: {reason}"
            broken = msgspec.structs.replace(
                result, outcome=int(Outcome.BROKEN), detail=detail, stream=0, size=0
            )
            return JobResults(computation, [broken])
        if len(body) != result.size:
            raise RemoteProtocolError(f"stream {stream} has {len(body)} bytes instead of {result.size}")
        # The bytearray is passed on as it is: a copy of a gigabyte would double what the client holds.
        whole = msgspec.structs.replace(result, body=body, stream=0, size=0)
        return JobResults(computation, [whole])
