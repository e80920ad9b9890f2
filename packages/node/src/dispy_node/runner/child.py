"""What happens inside a child: it waits for a job, runs it, and answers."""

from __future__ import annotations

import gc
import os
import sys
from time import time

from dispy_node.runner.bare import Libc, pending, signals
from dispy_node.runner.body import BROKEN
from dispy_node.runner.call import Caller
from dispy_node.runner.frames import JOB, KEY
from dispy_node.runner.program import NotExecuted, execute
from dispy_node.runner.replies import GO_ON, OUTPUT_WAITS, SKIPPED, make_result, reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap
    import types
    from typing import TextIO

    from dispy_node.runner.namespace import Computation
    from dispy_node.runner.settings import Settings

READ_BYTES = 128 * 1024
"""More than the largest inline job, so that nearly every job is one read."""

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
    """A child that has just been forked: descriptors and signals are already its own.

    Args:
        channel: descriptor of its end of the channel.
        settings: what the daemon said.
        computation: what to call; None if jobs are runs of a program.
        libc: for the buffers of C code.
    """

    def __init__(self, channel: int, settings: Settings, computation: Computation | None, libc: Libc) -> None:
        self._channel = channel
        self._settings = settings
        self._computation = computation
        self._libc = libc
        self._buffer = b""
        self._streams = (sys.stdout, sys.stderr)
        self._process = os.getpid()

    def serve_one(self) -> None:
        """Wait for a job, run it, answer."""
        job, attempt, kind, body = self._receive()
        if self._computation is None:
            self._run_program(job, attempt, kind, body)
            return
        caller = Caller(self._computation, self._settings, _ignore_interrupts)
        gc.enable()
        flags, record = caller.call(job, attempt, kind, body, time())
        self._send(reply(flags | self._flush(), record))

    def _run_program(self, job: int, attempt: int, kind: int, body: bytes) -> None:
        started_at = time()
        try:
            execute(self._settings, kind, body)
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
            more = os.read(self._channel, READ_BYTES)
            if not more:
                raise ChannelClosed
            self._buffer = data + more

    def _send(self, data: bytes) -> None:
        sent = os.write(self._channel, data)
        while sent < len(data):
            sent += os.write(self._channel, data[sent:])

    def _flush(self) -> int:
        """Bring all output into the pipes; tell by a flag whether any is in them."""
        stdout, stderr = self._streams
        _flush_stream(stdout)
        _flush_stream(stderr)
        if sys.stdout is not stdout:
            _flush_stream(sys.stdout)
        if sys.stderr is not stderr:
            _flush_stream(sys.stderr)
        self._libc.flush_all()
        return OUTPUT_WAITS if _waits(1) or _waits(2) else 0


class Worker(Child):
    """A child that runs many jobs.

    Args:
        cells: memory shared with the runner, see `STARTED_AT` and the following. The runner sets a job's byte to
            have it skipped, and to tell which job a SIGINT means, because the worker may by then be at the next.
    """

    def __init__(
        self, channel: int, settings: Settings, computation: Computation, libc: Libc, cells: mmap.mmap
    ) -> None:
        super().__init__(channel, settings, computation, libc)
        self._caller = Caller(computation, settings, self._settle)
        self._cells = cells
        self._clock = memoryview(cells)[CLOCK_AT : CLOCK_AT + 8].cast("d")
        self._number = -1
        self._interruptible = False

    def serve(self) -> None:
        """Run jobs until the runner closes the channel.

        Raises:
            ChannelClosed: that has happened.
        """
        signals.signal(signals.SIGINT, self._interrupt)
        gc.enable()
        call, clock, cells = self._caller.call, self._clock, self._cells
        while True:
            job, attempt, kind, body = self._receive()
            if kind == GO_ON:
                continue
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
            if withdrawn:
                self._send(reply(SKIPPED, KEY.pack(job, attempt)))
                continue
            waits = self._flush()
            self._send(reply(flags | waits, record))
            if waits:
                self._wait_for_reader()
            self._restore_streams()

    def _restore_streams(self) -> None:
        """Give the next job working streams, whatever the last one did with them."""
        stdout, stderr = self._streams
        if stdout.closed or stderr.closed:
            self._streams = stdout, stderr = open_streams()
        if sys.stdout is not stdout or sys.stderr is not stderr:
            sys.stdout, sys.stderr = stdout, stderr

    def _wait_for_reader(self) -> None:
        """Wait until the runner has read the output of the last job; jobs that come meanwhile are kept."""
        held = []
        while True:
            job, attempt, kind, body = self._receive()
            if kind == GO_ON:
                break
            held.append(JOB.pack(job, attempt, kind, len(body)) + body)
        if held:
            self._buffer = b"".join((*held, self._buffer))

    def _settle(self) -> None:
        self._interruptible = False

    def _interrupt(self, number: int, frame: types.FrameType | None) -> None:
        """Handle SIGINT: it is for one job, and that may be over."""
        if self._interruptible and self._cells[WITHDRAWN_AT + self._number] and os.getpid() == self._process:
            self._interruptible = False
            raise KeyboardInterrupt


def open_streams() -> tuple[TextIO, TextIO]:
    """Open text streams on descriptors 1 and 2, and make them Python's; buffered as always on pipes.

    UTF-8 whatever the locale of the daemon is, because the client reads them so.
    """
    stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
    stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    sys.stdout = sys.__stdout__ = stdout  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = stderr  # type: ignore[misc]
    return stdout, stderr


def _ignore_interrupts() -> None:
    signals.signal(signals.SIGINT, signals.SIG_IGN)


def _flush_stream(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except Exception:
        # The job has closed the stream or put something strange in its place: then there is nothing to flush,
        # and it has harmed nobody but itself.
        return


def _waits(descriptor: int) -> bool:
    try:
        return pending(descriptor) > 0
    except OSError:
        # The job has closed it, or made it something that has no such count: no pipe of ours that bytes wait in.
        return False
