"""Decodes how a job ended: result, output, and the exception with its traceback.

The body of a result has four sections and a trailer with their lengths (see docs/protocol.md); an empty body
stands for four empty sections. It is decoded in the thread that asks for the result. What comes for a cluster with
``results="safe"`` is never unpickled.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dispy.errors import (
    JobBroken,
    JobCancelled,
    JobDied,
    JobError,
    JobKilled,
    JobLimitExceeded,
    JobMemoryExceeded,
    JobRaised,
    JobTimeout,
)
from dispy.model import Limit, Outcome
from dispy.packing.safe import decode, decode_exception
from dispy.printable import printable_lines

if TYPE_CHECKING:
    from dispy.wire.messages import JobResult

TRAILER = struct.Struct("<QIII")
"""Lengths of value, error, stdout and stderr, at the end of a body."""


@dataclass(frozen=True, slots=True)
class ResultBody:
    """The sections of a result's body.

    Attributes:
        value: result or exception, pickled or as `dispy.packing.safe` reads it, or empty.
        error: traceback as UTF-8.
        stdout: what the job printed.
        stderr: likewise.
    """

    value: bytes | memoryview = b""
    error: bytes = b""
    stdout: bytes = b""
    stderr: bytes = b""

    @classmethod
    def parse(cls, data: bytes) -> ResultBody:
        """Take a body apart; the value is not copied.

        Raises:
            ValueError: *data* is no body.
        """
        if not data:
            return cls()
        start = len(data) - TRAILER.size
        if start < 0:
            raise ValueError(f"a result of {len(data)} bytes is cut off")
        value, error, stdout, stderr = TRAILER.unpack_from(data, start)
        if value + error + stdout + stderr != start:
            raise ValueError(
                f"a result of {len(data)} bytes claims to have {value + error + stdout + stderr}"
            )
        view = memoryview(data)
        first, second, third = value, value + error, value + error + stdout
        return cls(
            view[:first], bytes(view[first:second]), bytes(view[second:third]), bytes(view[third:start])
        )

    def pack(self) -> bytes:
        """Undo `parse`."""
        sections = self.value, self.error, self.stdout, self.stderr
        if not any(map(len, sections)):
            return b""
        return b"".join((*sections, TRAILER.pack(*map(len, sections))))


class RemoteTraceback(Exception):
    """The cause of a job's exception: its text is the traceback at the node."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return "\n" + self.text


@dataclass(slots=True)
class JobEnd:
    """How a job ended, as the application sees it.

    Attributes:
        value: result of the function, or exit status of the program; None if the job failed.
        stdout: what it printed; None if it never ran.
        stderr: likewise.
        exception: text of the traceback, or of what went wrong; None if the job succeeded.
        error: the exception, or a `dispy.errors.JobError`; None if the job succeeded.
    """

    value: Any = None
    stdout: bytes | None = None
    stderr: bytes | None = None
    exception: str | None = None
    error: BaseException | None = None


def decode_end(result: JobResult, where: str, *, safe: bool = False) -> JobEnd:
    """Decode the result of a job that ran at the node *where* (as people know it); never raises.

    Args:
        safe: the node had to encode it without pickle.
    """
    try:
        body = ResultBody.parse(result.body)
    except ValueError as damage:
        return _failed(JobEnd(), JobBroken(f"the result arrived damaged: {damage}"), result, where)
    end = JobEnd()
    if result.started_at:
        end.stdout, end.stderr = body.stdout, body.stderr
    text = body.error.decode("utf-8", "replace")
    try:
        if result.outcome == Outcome.RETURNED:
            end.value = decode(body.value) if safe else load_value(body.value)
            return end
        if result.outcome == Outcome.EXITED:
            end.value = result.code
            return end
        error = _error_of(result, body.value, text, safe=safe)
    except JobBroken as broken:
        return _failed(end, broken, result, where)
    return _failed(end, error, result, where, text)


def describe(result: JobResult, where: str) -> str:
    """Tell which job, attempt and node a result is from."""
    return f"job {result.job}, attempt {result.attempt}, at node {where}"


def load_value(data: bytes | memoryview) -> Any:
    """Unpickle the result of a job.

    Raises:
        JobBroken: it cannot be loaded here; the message names what is missing.
    """
    try:
        return pickle.loads(data)
    except Exception as error:  # code of the result's classes may raise anything
        raise JobBroken(_why_unloadable(data, error)) from error


def rebuild_exception(data: bytes | memoryview, text: str) -> BaseException:
    """Return the exception that a job raised, with its remote traceback as cause; else a JobRaised with *text*."""
    try:
        error = pickle.loads(data) if len(data) else None
    except Exception as failure:  # as above
        error = JobRaised(text)
        error.add_note(f"the exception itself could not be rebuilt here: {type(failure).__name__}: {failure}")
        return error
    return _with_cause(error, text)


def rebuild_safely(data: bytes | memoryview, text: str) -> BaseException:
    """Do as `rebuild_exception` with one that came without pickle.

    Raises:
        JobBroken: it did not.
    """
    return _with_cause(decode_exception(data), text)


def _with_cause(error: object, text: str) -> BaseException:
    if not isinstance(error, BaseException):
        return JobRaised(text)
    try:
        error.__cause__ = RemoteTraceback(text)
    except Exception:  # its class forbids it
        return JobRaised(text)
    return error


def _error_of(result: JobResult, value: bytes | memoryview, text: str, *, safe: bool) -> BaseException:
    if result.outcome == Outcome.RAISED:
        return rebuild_safely(value, text) if safe else rebuild_exception(value, text)
    detail = printable_lines(result.detail)
    if result.outcome == Outcome.DIED:
        kind = JobKilled if result.code < 0 else JobDied
        return kind(detail or _death(result.code), result.code)
    if result.outcome == Outcome.EXCEEDED:
        return _excess(result)
    if result.outcome == Outcome.CANCELLED:
        return JobCancelled(detail or "the job was cancelled")
    if result.outcome == Outcome.BROKEN:
        return JobBroken(detail or "the job could not be run")
    return JobBroken(f"the node reports outcome {result.outcome}, which is not known here; upgrade dispy")


def _excess(result: JobResult) -> JobLimitExceeded:
    """Make the error of a job that went beyond a limit."""
    kind: type[JobLimitExceeded] = {
        int(Limit.TIMEOUT): JobTimeout,
        int(Limit.CPU_TIME): JobTimeout,
        int(Limit.MEMORY): JobMemoryExceeded,
    }.get(result.code, JobLimitExceeded)
    known = result.code in set(Limit)
    return kind(
        result.detail or "the job went beyond a limit", Limit(result.code).name.lower() if known else ""
    )


def _death(code: int) -> str:
    if code < 0:
        return f"the job's process was ended by signal {-code}"
    return f"the job's process ended with exit status {code} and no result"


def _failed(end: JobEnd, error: BaseException, result: JobResult, where: str, text: str = "") -> JobEnd:
    end.exception = text or (str(error) if isinstance(error, JobError) else type(error).__name__)
    end.error = error
    try:
        error.add_note(describe(result, where))
    except Exception as refusal:  # an exception class of the user's that forbids notes
        end.error = JobRaised(text)
        end.error.add_note(f"{describe(result, where)} ({refusal})")
    return end


class _NameRecorder(pickle.Unpickler):
    """Unpickles once more, to find out which name was being looked up when it failed."""

    failed = ""

    def find_class(self, module: str, name: str) -> Any:
        """Look the name up."""
        try:
            return super().find_class(module, name)
        except Exception:
            self.failed = f"{module}.{name}"
            raise


def _why_unloadable(data: bytes | memoryview, error: Exception) -> str:
    import io

    recorder = _NameRecorder(io.BytesIO(data))
    try:
        recorder.load()
    except Exception as again:  # the same failure as before, as a rule
        error = again
    said = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError):
        return (
            f"the result cannot be loaded here: it needs module {error.name!r}, which is not installed at the "
            "client; install it, or return plain data"
        )
    if recorder.failed:
        return (
            f"the result cannot be loaded here: {recorder.failed!r} is not known at the client ({said}); "
            "define it there too, or return plain data"
        )
    return f"the result cannot be loaded here ({said}); return plain data"
