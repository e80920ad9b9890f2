"""How a job of ``dispy run`` ended, and the two forms in which that is written down."""

from __future__ import annotations

import base64
import json
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from dispy.job import DispyJob
from dispy.model import JobStatus
from dispy.printable import printable_lines


@dataclass(frozen=True, slots=True)
class JobEnd:
    """A job that is over.

    Attributes:
        number: its place in the order of jobs, from 1.
        exit_status: what the program returned, or minus the number of the signal that ended it; None if it did
            not come to an end of its own.
        node: name of the node that ran it; empty if none did.
        address: its address.
        started_at: the node's clock, seconds since the epoch; None if it was not started.
        error: why it has no exit status; empty if it has one.
    """

    number: int
    arguments: Sequence[str]
    status: JobStatus
    exit_status: int | None
    stdout: bytes
    stderr: bytes
    node: str
    address: str
    started_at: float | None
    ended_at: float | None
    error: str

    @classmethod
    def of(cls, number: int, arguments: Sequence[str], job: DispyJob) -> JobEnd:
        """Take what is needed of *job*, which must be over."""
        status = JobStatus(job.status)
        finished = status is JobStatus.FINISHED
        exit_status = job.result if finished and isinstance(job.result, int) else None
        return cls(
            number=number,
            arguments=arguments,
            status=status,
            exit_status=exit_status,
            stdout=_as_bytes(job.stdout),
            stderr=_as_bytes(job.stderr),
            node=job.node or "",
            address=job.ip_addr or "",
            started_at=job.start_time or None,
            ended_at=job.end_time or None,
            error="" if exit_status is not None else _reason(job, status),
        )

    @property
    def is_success(self) -> bool:
        """True if the program said that all is well."""
        return self.exit_status == 0

    def describe(self) -> str:
        """Say in a few words how it ended."""
        if self.exit_status is None:
            return f"{self.status.name.lower()}: {printable_lines(self.error)}"
        if self.exit_status < 0:
            return f"ended by {_signal_name(-self.exit_status)}"
        return f"exit status {self.exit_status}"

    def title(self) -> str:
        """Name the job as the user knows it."""
        return f"job {self.number} ({shlex.join(self.arguments) or 'no arguments'})"


def _as_bytes(output: bytes | str | None) -> bytes:
    return output.encode("utf-8", "surrogateescape") if isinstance(output, str) else output or b""


def _reason(job: DispyJob, status: JobStatus) -> str:
    return (
        (str(job.error) if job.error is not None else "")
        or job.exception
        or f"the job is {status.name.lower()}"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or one of another system
        return f"signal {number}"


class Screen(Protocol):
    """Whatever else is drawn on the terminal that output may go to."""

    def make_room(self) -> None:
        """Take away what is drawn, before output is written."""

    def written(self, data: bytes, stream: BinaryIO) -> None:
        """Hear what was written, and where to."""


class Printer(Protocol):
    """Writes down jobs that are over."""

    def print(self, end: JobEnd) -> None:
        """Write one, at once."""


class TextPrinter:
    """Writes what jobs wrote: their output to *out*, their errors to *err*.

    Args:
        headings: write a line before each job's output (``--verbose``); else only failures are told, on *err*.
        tell_failures: False if failures are not to be told either.
    """

    def __init__(
        self,
        out: BinaryIO,
        err: BinaryIO,
        screen: Screen,
        *,
        headings: bool = False,
        tell_failures: bool = True,
    ) -> None:
        self._out = out
        self._err = err
        self._screen = screen
        self._headings = headings
        self._tell_failures = tell_failures

    def print(self, end: JobEnd) -> None:
        """Write one job."""
        out, err = end.stdout, end.stderr
        if self._headings:
            out = _encode(self._heading(end)) + out
        elif self._tell_failures and not end.is_success:
            if err and not err.endswith(b"\n"):
                err += b"\n"
            err += _failure(end)
        write(self._out, out, self._screen)
        write(self._err, err, self._screen)

    def _heading(self, end: JobEnd) -> str:
        where = f" at {end.node}" if end.node else ""
        took = f", {end.ended_at - end.started_at:.2f} s" if end.started_at and end.ended_at else ""
        return f"--- {end.title()}: {end.describe()}{where}{took}\n"


class JsonPrinter:
    """Writes one JSON object per line for each job to *out*; `to_json` tells its keys.

    Args:
        tell_failures: False if failures are not to be told on *err* as well.
    """

    def __init__(self, out: BinaryIO, err: BinaryIO, screen: Screen, *, tell_failures: bool = True) -> None:
        self._out = out
        self._err = err
        self._screen = screen
        self._tell_failures = tell_failures

    def print(self, end: JobEnd) -> None:
        """Write one job."""
        write(self._out, json.dumps(to_json(end)).encode() + b"\n", self._screen)
        if self._tell_failures and not end.is_success:
            write(self._err, _failure(end), self._screen)


def to_json(end: JobEnd) -> dict[str, Any]:
    """Return what ``--json`` tells of a job.

    Output that is not UTF-8 has U+FFFD in place of the bytes that are not; then ``stdout_base64`` or
    ``stderr_base64`` holds it exactly.
    """
    told: dict[str, Any] = {
        "job": end.number,
        "arguments": list(end.arguments),
        "status": end.status.name.lower(),
        "exit_status": end.exit_status,
    }
    for name, data in (("stdout", end.stdout), ("stderr", end.stderr)):
        try:
            told[name] = data.decode()
        except UnicodeDecodeError:
            told[name] = data.decode(errors="replace")
            told[f"{name}_base64"] = base64.b64encode(data).decode()
    told |= {
        "node": end.node or None,
        "address": end.address or None,
        "start_time": end.started_at,
        "end_time": end.ended_at,
        "error": end.error or None,
    }
    return told


def write(stream: BinaryIO, data: bytes, screen: Screen) -> None:
    """Write *data* to *stream* and flush it; nothing is done for no data.

    Raises:
        OSError: it could not be written; BrokenPipeError if the reader has gone.
    """
    if not data:
        return
    screen.make_room()
    stream.write(data)
    stream.flush()
    screen.written(data, stream)


def _failure(end: JobEnd) -> bytes:
    return _encode(f"dispy: {end.title()}: {end.describe()}\n")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
