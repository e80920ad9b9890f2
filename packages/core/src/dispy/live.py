"""What jobs print while they run: from pieces of bytes, in the engine's thread, to text for whoever looks on.

A piece may end within a character, bytes may be missing where a node was faster than the network, and the last part
does not come live but with the result of the job. `Feed` makes one text of all that.
"""

from __future__ import annotations

import codecs
import itertools
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from dispy.engine import events as ev
from dispy.engine.effects import TellOutput
from dispy.engine.watching import OUTPUT_WINDOW_BYTES
from dispy.model import OUTPUT_BYTES, JobId
from dispy.packing.results import ResultBody
from dispy.wire.messages import STDERR, STDOUT

if TYPE_CHECKING:
    from dispy.job import DispyJob
    from dispy.wire.messages import JobResult

STREAMS = {"stdout": STDOUT, "stderr": STDERR}

AGAIN = "\n[... the job was started again ...]\n"
"""Stands in the text where the output of another attempt begins."""

_GAP = re.compile(rb"\n\[\.\.\. (\d+) bytes of output dropped \.\.\.\]\n")

_numbers = itertools.count(1)

Tell = Callable[[ev.Event], None]
"""Has an event handled in the engine's thread; safe from any thread, does nothing if that has ended."""


def rest_of(output: bytes, at: int) -> bytes:
    """Give what follows after byte number *at* of all that a job has printed.

    Args:
        output: as it is in the result: if it was too much, the middle is dropped, with a line in its place.
    """
    half = OUTPUT_BYTES // 2
    gap = _GAP.match(output, half) if len(output) > OUTPUT_BYTES else None
    if gap is None or at <= half:
        return output[at:]
    start = half + int(gap[1])
    if at >= start:
        return output[gap.end() + at - start :]
    return describe_gap(start - at).encode() + output[gap.end() :]


def describe_gap(missed: int) -> str:
    """Give the line that stands for what is missing."""
    return f"\n[... {missed} bytes of output dropped ...]\n"


class Feed:
    """Makes text of one stream of a job.

    Attributes:
        attempt: whose output it is, 0 before any has come.
        at: how many bytes have become text, or are missing.
    """

    def __init__(self) -> None:
        self.attempt = 0
        self.at = 0
        self._credited = 0
        self._decoder = _make_decoder()

    def take(self, piece: TellOutput) -> str:
        """Give the text of the next piece."""
        text = self._turn_to(piece.attempt)
        if piece.missed:
            text += self._decoder.decode(b"", final=True) + describe_gap(piece.missed)
        self.at += piece.missed + len(piece.data)
        return text + self._decoder.decode(piece.data)

    def use(self, number: int, tell: Tell) -> None:
        """Let more come, if what has come is half of what may."""
        if self.at - self._credited >= OUTPUT_WINDOW_BYTES // 2:
            self._credited = self.at
            tell(ev.OutputUsed(number, self.attempt, self.at))

    def finish(self, result: JobResult | None, stream: int) -> str:
        """Give the text of what has not come before the job ended."""
        text, rest = "", b""
        if result is not None:
            text = self._turn_to(result.attempt)
            try:
                body = ResultBody.parse(result.body)
            except ValueError:  # whoever asks for the result hears of that
                body = ResultBody()
            rest = rest_of(body.stdout if stream == STDOUT else body.stderr, self.at)
            self.at += len(rest)
        return text + self._decoder.decode(rest, final=True)

    def _turn_to(self, attempt: int) -> str:
        before, self.attempt = self.attempt, attempt
        if before in (0, attempt):
            return ""
        rest = self._decoder.decode(b"", final=True)
        self.at = self._credited = 0
        self._decoder = _make_decoder()
        return rest + AGAIN


class Tail:
    """Looks at one or both streams of one job for `DispyJob.tail`.

    Args:
        tell: reaches the engine.
    """

    def __init__(self, job: DispyJob, streams: tuple[int, ...], tell: Tell) -> None:
        self._job = job
        self._tell = tell
        self._feeds = {next(_numbers): (stream, Feed()) for stream in streams}
        self._changed = threading.Condition()
        self._pieces: deque[TellOutput] = deque()
        self._end: tuple[JobResult | None] | None = None

    def begin(self) -> None:
        """Begin to look."""
        for number, (stream, _) in self._feeds.items():
            self._tell(ev.WatchWanted(JobId(self._job._uid), self._job, number, stream, self))

    def take(self, piece: TellOutput) -> None:
        """Take what has come; in the engine's thread."""
        with self._changed:
            self._pieces.append(piece)
            self._changed.notify_all()

    def end(self, result: JobResult | None) -> None:
        """Take the end of the job; only the first counts."""
        with self._changed:
            if self._end is None:
                self._end = (result,)
            self._changed.notify_all()

    def read(self, timeout: float | None) -> Iterator[str]:
        """Give text until the job has ended.

        Raises:
            TimeoutError: nothing came for so long (seconds).
        """
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._pieces or self._end is not None, timeout):
                    raise TimeoutError(f"no output and no end of the job within {timeout:g} s")
                piece = self._pieces.popleft() if self._pieces else None
            if piece is None:
                break
            feed = self._feeds[piece.number][1]
            text = feed.take(piece)
            if text:
                yield text
            feed.use(piece.number, self._tell)
        assert self._end is not None
        for stream, feed in self._feeds.values():
            text = feed.finish(self._end[0], stream)
            if text:
                yield text

    def close(self) -> None:
        """Look no longer."""
        if self._end is None:
            for number in self._feeds:
                self._tell(ev.WatchDropped(number))


class _View:
    """One job of a cluster with ``on_output``."""

    def __init__(self, calls: OutputCalls, job: DispyJob) -> None:
        self.calls = calls
        self.job = job
        self.feeds = {name: (stream, Feed()) for name, stream in STREAMS.items()}

    def take(self, piece: TellOutput) -> None:
        """Take what has come; in the engine's thread."""
        self.calls.take(self, piece)


class OutputCalls:
    """Calls ``on_output`` for the jobs of a cluster. Its methods belong to the engine's thread.

    Jobs that have ended before their node told that they run are not watched: all they have printed is in the result.

    Args:
        function: called with a job, the name of a stream and text.
        call_soon: has a function called in the thread for callbacks, with these arguments.
        tell: reaches the engine.
    """

    def __init__(
        self,
        function: Callable[[Any, str, str], object],
        call_soon: Callable[..., None],
        tell: Tell,
    ) -> None:
        self._function = function
        self._call_soon = call_soon
        self._tell = tell
        self._views: dict[int, _View] = {}

    def started(self, job: DispyJob) -> None:
        """Begin to look at a job, which runs."""
        if job._uid in self._views:
            return  # it was started again
        view = self._views[job._uid] = _View(self, job)
        for stream, _ in view.feeds.values():
            self._tell(ev.WatchWanted(JobId(job._uid), job, next(_numbers), stream, view))

    def ended(self, job: DispyJob, result: JobResult | None) -> None:
        """Have the rest told."""
        view = self._views.pop(job._uid, None) or _View(self, job)
        if result is not None or any(feed.attempt for _, feed in view.feeds.values()):
            for name in STREAMS:
                self._call_soon(self.on_output_end, view, name, result)

    def take(self, view: _View, piece: TellOutput) -> None:
        """Have a piece told."""
        self._call_soon(self.on_output, view, piece)

    # In the thread for callbacks, where their names are logged if what they call raises.

    def on_output(self, view: _View, piece: TellOutput) -> None:
        """Call with a piece."""
        name = next(name for name, stream in STREAMS.items() if stream == piece.stream)
        feed = view.feeds[name][1]
        text = feed.take(piece)
        try:
            if text:
                self._function(view.job, name, text)
        finally:
            feed.use(piece.number, self._tell)

    def on_output_end(self, view: _View, name: str, result: JobResult | None) -> None:
        """Call with what has not come before the job ended."""
        stream, feed = view.feeds[name]
        text = feed.finish(result, stream)
        if text:
            self._function(view.job, name, text)


def _make_decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")
