"""The handle of one job: what `submit` returns."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar

from dispy.errors import JobAbandoned, JobBroken, JobCancelled, JobError
from dispy.model import JobStatus

if TYPE_CHECKING:
    from dispy.engine.effects import JobChange
    from dispy.wire.messages import JobResult

LAZY = frozenset({"result", "stdout", "stderr", "exception", "error"})
"""Attributes that are decoded when one of them, or the status, is read after the job's end."""

_event_lock = threading.Lock()
"""Held while an event is made for a job, which happens only when somebody waits."""

_decode_lock = threading.RLock()
"""Held while a result is decoded. Re-entrant: loading a result runs code that may look at other jobs."""


class DispyJob:
    """One call of a computation.

    A job is tiny as long as nobody looks at it: its event is made when somebody waits, and its result is decoded
    in the thread that first asks for it.

    Attributes:
        id: anything; assign what you know the job by. At first a number.
        result: what the function returned, or the program's exit status; None if the job failed. Assign None to
            free memory.
        stdout: what the job printed: str for functions, bytes for programs; None if it never ran.
        stderr: likewise.
        exception: text of the traceback, or of what went wrong; None unless the job failed.
        error: the exception itself, with the remote traceback as its cause, or a `dispy.errors.JobError`; None
            unless the job failed.
        ip_addr: address of the node, or None.
        node: name of the node, or None.
        submit_time: seconds since the epoch, by the client's clock.
        start_time: seconds since the epoch, by the node's clock, or None.
        end_time: likewise.
    """

    Created: ClassVar = JobStatus.CREATED
    Running: ClassVar = JobStatus.RUNNING
    ProvisionalResult: ClassVar = JobStatus.PROVISIONAL_RESULT
    Cancelled: ClassVar = JobStatus.CANCELLED
    Terminated: ClassVar = JobStatus.TERMINATED
    Abandoned: ClassVar = JobStatus.ABANDONED
    Finished: ClassVar = JobStatus.FINISHED

    __slots__ = (
        "_done",
        "_finish",
        "_raw",
        "_status",
        "_text",
        "_uid",
        "end_time",
        "error",
        "exception",
        "id",
        "ip_addr",
        "node",
        "result",
        "start_time",
        "stderr",
        "stdout",
        "submit_time",
    )

    id: Any
    result: Any
    stdout: str | bytes | None
    stderr: str | bytes | None
    exception: str | None
    error: BaseException | None

    def __init__(self, uid: int, job_id: Any = None, *, text_output: bool = True) -> None:
        self._uid = uid
        self._text = text_output
        self._status = JobStatus.CREATED
        self._done = False
        self._finish: threading.Event | None = None
        self._raw: tuple[JobResult | None, str] | None = None
        """Result and reason, from the job's end until they are decoded."""
        self.id = uid if job_id is None else job_id
        self.ip_addr: str | None = None
        self.node: str | None = None
        self.submit_time = time.time()
        self.start_time: float | None = None
        self.end_time: float | None = None

    # ---- for applications

    @property
    def status(self) -> JobStatus:
        """One of the constants of this class: Created, Running, ... Finished."""
        if self._raw is not None:
            self._decode()
        status = self._status
        # The engine's thread may be between two lines of _settle: nobody shall see the end before its result.
        return status if self._done or status < JobStatus.TERMINATED else JobStatus.RUNNING

    @property
    def finish(self) -> threading.Event:
        """Event that is set when the job is done, before callbacks run."""
        event = self._finish
        if event is None:
            with _event_lock:
                event = self._finish
                if event is None:
                    event = self._finish = threading.Event()
            # Whoever ends the job sets _done first and looks for an event afterwards; here it is the other way
            # round, so one of the two sees the other.
            if self._done:
                event.set()
        return event

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is done; return False if *timeout* (seconds) passed first."""
        return self._done or self.finish.wait(timeout) or self._done

    def __call__(self, clear: bool = False) -> Any:
        """Wait until the job is done and return its result: None if it failed, see ``exception`` then.

        With *clear*, `finish` is cleared afterwards.
        """
        self.wait()
        result = self.result
        if clear:
            self.finish.clear()
        return result

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, DispyJob):
            return NotImplemented
        return self._uid < other._uid

    def __repr__(self) -> str:
        where = f" at {self.node or self.ip_addr}" if self.ip_addr else ""
        return f"<DispyJob {self.id!r} {self._status.name.title().replace('_', '')}{where}>"

    def __getattr__(self, name: str) -> Any:
        # Only called for attributes that are not set: those of LAZY, until the result is decoded.
        if name not in LAZY:
            raise AttributeError(
                f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
            )
        if not self._done:
            return None
        with _decode_lock:
            self._decode()
            return object.__getattribute__(self, name)

    # ---- for the cluster, in the engine's thread

    def _start(self, change: JobChange) -> None:
        """Take a status that is not the last."""
        self._status = change.status
        self._place(change)
        self.start_time = change.job.started_at or None

    def _settle(self, change: JobChange) -> None:
        """Take the last status; nothing is decoded. It may come once more for a job that was abandoned."""
        result = change.result
        self._place(change)
        if result is not None:
            self.start_time = result.started_at or None
            self.end_time = result.ended_at or None
        self._status = change.status
        if self._done:
            self._replace_end(result, change.reason)
        else:
            self._raw = (result, change.reason)
            self._done = True
        event = self._finish
        if event is not None:
            event.set()

    def _place(self, change: JobChange) -> None:
        node = change.node
        self.ip_addr, self.node = (None, None) if node is None else (node.peer_host, node.name)

    def _replace_end(self, result: JobResult | None, reason: str) -> None:
        with _decode_lock:
            self._raw = (result, reason)
            for name in LAZY:
                try:
                    delattr(self, name)
                except AttributeError:
                    continue  # it was never decoded

    # ---- decoding

    def _decode(self) -> None:
        with _decode_lock:
            if self._raw is None:
                return
            result, reason = self._raw
            if result is None:
                self._store_reason(reason)
            else:
                self._store_result(result)
            # Last, because other threads take it as a sign that everything is there.
            self._raw = None

    def _store_result(self, result: JobResult) -> None:
        from dispy.packing.results import decode_end

        end = decode_end(result, f"{self.node} ({self.ip_addr})")
        self.result = end.value
        self.exception = end.exception
        self.error = end.error
        self.stdout = self._output(end.stdout)
        self.stderr = self._output(end.stderr)
        if end.error is not None and self._status is JobStatus.FINISHED:
            self._status = JobStatus.TERMINATED  # a result that cannot be loaded here

    def _store_reason(self, reason: str) -> None:
        kind: type[JobError] = JobBroken
        if self._status is JobStatus.CANCELLED:
            kind, reason = JobCancelled, reason or "the job was cancelled before it ran"
        elif self._status is JobStatus.ABANDONED:
            kind, reason = JobAbandoned, reason or "the node was lost, and the job may not run again"
        self.result = self.stdout = self.stderr = None
        self.exception = reason or "the job failed for a reason that is not known"
        self.error = kind(self.exception)

    def _output(self, data: bytes | None) -> str | bytes | None:
        return data.decode("utf-8", "replace") if self._text and data is not None else data
