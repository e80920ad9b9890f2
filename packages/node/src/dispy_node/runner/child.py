"""What happens inside a child: it waits for a job, runs it, and answers."""

from __future__ import annotations

import gc
import sys
from os import dup2, getpid, read, write
from time import time

from dispy_node.runner.bare import Libc, signals
from dispy_node.runner.body import BROKEN
from dispy_node.runner.call import Caller
from dispy_node.runner.equipment import equip, unequip
from dispy_node.runner.frames import ANSWER, EQUIP, EQUIP_ANEW, JOB, KEY
from dispy_node.runner.news import News, take_answer
from dispy_node.runner.program import NotExecuted, execute
from dispy_node.runner.replies import GO_ON, HEAD, MAGIC, OUTPUT_WAITS, SKIPPED, make_result, reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    import types
    from typing import TextIO

    from dispy_node.runner.namespace import Computation
    from dispy_node.runner.settings import Settings

SIGINT, signal = signals.SIGINT, signals.signal

NO_BYTES = b"\0\0\0\0"
READ_BYTES = 16 * 1024
"""Enough for most jobs, or a batch of tiny ones. The buffer of a larger read comes from the kernel and goes back to
it each time, which costs more than reading twice."""

STARTED_AT = 0
"""Byte in a worker's cells: number of the job that it has started last."""
CLOCK_AT = 8
"""Eight bytes in a worker's cells: when it started that job, seconds since the epoch."""
WITHDRAWN_AT = 64
"""From here on a byte for each job number: 1 if the job is withdrawn or cancelled."""
NUMBERS = 128
"""Jobs of a worker are numbered from 0 to 127 and over again; it never has nearly as many at once."""
NOTHING_STARTED = 255
CELLS_BYTES = WITHDRAWN_AT + NUMBERS


class ChannelClosed(Exception):
    """The runner has no more jobs for this child."""


class Child:
    """What a child is made of; made in the runner, for its next children, before it forks.

    Everything that a child does costs it dearly at first: each page of memory that it writes to, be it only a
    count of references, is copied. So here is prepared what can be, and `serve_one` calls no function without need.

    Args:
        settings: what the daemon said.
        computation: what to call; None if jobs are runs of a program.
        libc: for the buffers of C code.
        modules: how many modules there are as long as none but ours is imported; -1 if others are already.
    """

    def __init__(self, settings: Settings, computation: Computation | None, libc: Libc, modules: int) -> None:
        self._channel = -1
        self._settings = settings
        self._libc = libc
        self._modules = modules
        self._buffer = b""
        self._streams = (sys.stdout, sys.stderr)
        self._is_shown = False
        self._caller: Caller | None = None
        if computation is not None:
            self._caller = caller = self._make_caller(computation)
            self.news = News(settings, caller, self._send, self._receive_answer, lambda: self._channel)

    def connect(self, computation: Computation) -> None:
        """Arrange what jobs of this process, and of those that are forked from it, can say while they run."""
        if computation.inside is not None:
            computation.inside.speaker = self.news
        if hasattr(signals, "SIGURG"):
            # Ignored by whoever has no handler, such as what a job executes.
            signal(signals.SIGURG, self.show)
        if self._settings.log_level >= 0:
            from dispy_node.runner import logs

            logs.forward(self._settings.log_level, self.news.tell_log)

    def serve_one(self, channel: int) -> None:
        """Wait for a job, run it, answer.

        Args:
            channel: the child's end of the channel.

        Raises:
            ChannelClosed: there is none.
        """
        self._channel = channel
        data = read(channel, READ_BYTES)
        if len(data) >= JOB.size:
            job, attempt, kind, length = JOB.unpack_from(data)
        if len(data) < JOB.size or len(data) != JOB.size + length:
            self._buffer = data
            job, attempt, kind, body = self._receive()
        else:
            body = data[JOB.size :]
        if kind in (EQUIP, EQUIP_ANEW):
            equip(body)
            job, attempt, kind, body = self._receive()
        caller = self._caller
        if caller is None:
            self._run_program(job, attempt, kind, body)
            return
        caller.process = getpid()
        gc.enable()
        flags, record = caller.call(job, attempt, kind, body, time())
        if kind:
            caller.put_away()
        self._flush()
        self._send(HEAD.pack(MAGIC, len(record), flags) + record)

    def _make_caller(self, computation: Computation) -> Caller:
        return Caller(computation, self._settings, None)

    def show(self, number: int, frame: types.FrameType | None) -> None:
        """Handle SIGURG: somebody looks at the output of the job, so each line is to be written when it ends."""
        self._is_shown = True
        try:
            self._buffer_lines(True)
        except RuntimeError:
            # This thread is in the middle of writing, so another one waits until it has done so.
            import _thread

            _thread.start_new_thread(self._buffer_lines, (True,))

    def _buffer_lines(self, wanted: bool) -> None:
        """Write out all buffers, and have lines written when they end, or (not *wanted*) when a buffer is full.

        Raises:
            RuntimeError: the caller has interrupted a write to one of the streams.
        """
        stdout, stderr = self._streams
        for stream in (stdout, sys.stdout, sys.stderr):
            if stream is None or stream is stderr:  # which has it always
                continue
            try:
                stream.reconfigure(line_buffering=wanted)  # type: ignore[attr-defined,union-attr,unused-ignore]
            except (AttributeError, TypeError, ValueError, OSError):
                # The job has closed it or put something of its own in its place, which is its own affair.
                continue
        self._libc.buffer_lines(wanted)

    def _run_program(self, job: int, attempt: int, kind: int, body: bytes) -> None:
        started_at = time()
        try:
            execute(self._settings, job, attempt, kind, body)
        except NotExecuted as error:
            detail = str(error).encode("utf-8", "replace")
        except OSError as error:
            detail = f"the program's arguments cannot be read: {error}".encode("utf-8", "replace")
        key = KEY.pack(job, attempt)
        self._send(reply(0, make_result(key, BROKEN, 0, (started_at, time()), detail, False, b"")))

    def _receive(self) -> tuple[int, int, int, bytes]:
        """Wait for a record.

        Raises:
            ChannelClosed: there will be none.
        """
        while True:
            data = self._buffer
            if len(data) >= JOB.size:
                job, attempt, kind, length = JOB.unpack_from(data)
                end = JOB.size + length
                if len(data) >= end:
                    self._buffer = data[end:]
                    return job, attempt, kind, data[JOB.size : end]
            more = read(self._channel, READ_BYTES)
            if not more:
                raise ChannelClosed
            self._buffer = data + more

    def _receive_answer(self, number: int) -> bytes:
        """Read once; give the answer to the news with this number, if it has come."""
        _, _, kind, body = self._receive()
        return take_answer(number, kind, body)

    def _send(self, data: bytes) -> None:
        sent = write(self._channel, data)
        while sent < len(data):
            sent += write(self._channel, data[sent:])

    def _flush(self) -> bool:
        """Bring all output into the pipes; tell whether the streams of the start have taken it."""
        stdout, stderr = self._streams
        done = True
        try:
            stdout.flush()
            stderr.flush()
        except Exception:
            # The job has closed one of them.
            done = False
            _flush_stream(stderr)
        if sys.stdout is not stdout:
            _flush_stream(sys.stdout)
        if sys.stderr is not stderr:
            _flush_stream(sys.stderr)
        if len(sys.modules) != self._modules:
            # Only code of modules that are none of ours can have used C's stdio.
            self._libc.flush_all()
        return done


class Worker(Child):
    """A child that runs many jobs."""

    def serve(self, channel: int, cells: mmap.mmap) -> None:
        """Run jobs until the runner closes the channel.

        Args:
            channel: the child's end of the channel.
            cells: memory shared with the runner, see `STARTED_AT` and the following. The runner sets a job's byte
                to have it skipped, and to tell which job a SIGINT means, because the worker may by then be at the
                next.

        Raises:
            ChannelClosed: that has happened.
        """
        from fcntl import F_DUPFD_CLOEXEC, fcntl, ioctl
        from termios import FIONREAD

        assert self._caller is not None
        self._ioctl, self._request, self._count = ioctl, FIONREAD, bytearray(4)
        # Jobs may close 0, 1 and 2, or put something else there.
        self._standard = tuple([fcntl(descriptor, F_DUPFD_CLOEXEC, 3) for descriptor in (0, 1, 2)])
        self._stdin = sys.stdin
        self._channel = channel
        self._cells = cells
        self._number = -1
        self._before: dict[str, str | None] = {}
        self._ahead, self._at = b"", 0
        self._interruptible = False
        self._caller.process = self._process = getpid()
        clock = memoryview(cells)[CLOCK_AT : CLOCK_AT + 8].cast("d")
        call, size, unpack = self._caller.call, JOB.size, JOB.unpack_from
        signal(SIGINT, self._interrupt)
        gc.enable()
        data, at = b"", 0
        while True:
            if len(data) - at < size or len(data) - at < size + unpack(data, at)[3]:
                more = read(channel, READ_BYTES)
                if not more:
                    raise ChannelClosed
                data, at = data[at:] + more, 0
                continue
            job, attempt, kind, length = unpack(data, at)
            body = data[at + size : at + size + length]
            at += size + length
            if kind == ANSWER:
                continue  # the job that had asked has not waited for it
            if kind in (EQUIP, EQUIP_ANEW):
                self._before = equip(body)
                continue
            self._ahead, self._at = data, at
            self._number = number = (self._number + 1) % NUMBERS
            clock[0] = started_at = time()
            try:
                self._interruptible = True
                # First say that this job is started, then look whether it may: see `workers`.
                cells[STARTED_AT] = number
                withdrawn = cells[WITHDRAWN_AT + number]
                if not withdrawn:
                    flags, record = call(job, attempt, kind, body, started_at)
            except KeyboardInterrupt:
                # It came before the first line of `call` that knows what to do with it.
                withdrawn = 1
            self._interruptible = False
            if self._before:
                unequip(self._before)
                self._before = {}
            if kind:
                self._caller.put_away()
            if self._ahead is not data:  # more has come while the job waited for answers
                data, at = self._ahead, self._at
            if withdrawn:
                self._send(reply(SKIPPED, KEY.pack(job, attempt)))
                continue
            done = self._flush()
            self._restore_descriptors()
            if not done:
                self._flush()  # what a closed descriptor did not take is still in the buffer
            if self._output_waits():
                self._send(reply(flags | OUTPUT_WAITS, record))
                data, at = self._wait_for_reader(data[at:]), 0
            else:
                self._send(HEAD.pack(MAGIC, len(record), flags) + record)
            self._restore_streams()
            if self._is_shown:  # the next job has its own onlookers
                self._is_shown = False
                self._buffer_lines(False)

    def _make_caller(self, computation: Computation) -> Caller:
        return Caller(computation, self._settings, self._settle)

    def _output_waits(self) -> bool:
        """Tell whether there are bytes in one of the pipes; that can be asked at either end."""
        ioctl, request, count = self._ioctl, self._request, self._count
        for descriptor in (1, 2):
            ioctl(descriptor, request, count)
            if count != NO_BYTES:
                return True
        return False

    def _restore_descriptors(self) -> None:
        """Give the next job 0, 1 and 2 as they were, whatever the last one did with them.

        To look first whether it did anything would cost more.
        """
        stdin, stdout, stderr = self._standard
        dup2(stdin, 0)
        dup2(stdout, 1)
        dup2(stderr, 2)

    def _restore_streams(self) -> None:
        """Give the next job working streams, whatever the last one did with them."""
        if self._stdin is None or self._stdin.closed:
            self._stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdin = self._stdin
        stdout, stderr = self._streams
        if stdout.closed or stderr.closed:
            self._streams = stdout, stderr = open_streams()
        if sys.stdout is not stdout or sys.stderr is not stderr:
            sys.stdout, sys.stderr = stdout, stderr

    def _wait_for_reader(self, data: bytes) -> bytes:
        """Wait until the runner has read the output of the last job.

        Args:
            data: records that have been read already.

        Returns:
            those, and what came meanwhile.
        """
        self._buffer = data
        kept: list[bytes] = []
        while True:
            job, attempt, kind, body = self._receive()
            if kind == GO_ON:
                return b"".join((*kept, self._buffer))
            kept.append(JOB.pack(job, attempt, kind, len(body)) + body)

    def _receive_answer(self, number: int) -> bytes:
        """Read once; jobs that come before the answer are kept."""
        more = read(self._channel, READ_BYTES)
        if not more:
            raise ChannelClosed
        data = self._ahead[self._at :] + more
        start, answer = 0, b""
        kept: list[bytes] = []
        while len(data) - start >= JOB.size:
            _, _, kind, length = JOB.unpack_from(data, start)
            end = start + JOB.size + length
            if end > len(data):
                break
            if kind == ANSWER:
                answer = answer or take_answer(number, kind, data[start + JOB.size : end])
            else:
                kept.append(data[start:end])
            start = end
        self._ahead, self._at = b"".join((*kept, data[start:])), 0
        return answer

    def _settle(self) -> None:
        self._interruptible = False

    def _interrupt(self, number: int, frame: types.FrameType | None) -> None:
        """Handle SIGINT: it is for one job, and that may be over."""
        if self._interruptible and self._cells[WITHDRAWN_AT + self._number] and getpid() == self._process:
            self._interruptible = False
            raise KeyboardInterrupt


def open_streams() -> tuple[TextIO, TextIO]:
    """Open text streams on descriptors 1 and 2, and make them Python's; buffered as always on pipes.

    UTF-8 whatever the locale of the daemon is, because the client reads them so.
    """
    stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = stdout  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = stderr  # type: ignore[misc]
    return stdout, stderr


def _flush_stream(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except Exception:
        # The job has closed the stream or put something strange in its place: then there is nothing to flush,
        # and it has harmed nobody but itself.
        return
