"""The handle of one job: what `submit` returns."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from dispy.errors import ClusterClosed, JobAbandoned, JobBroken, JobCancelled, JobError, UsageError
from dispy.inside import job_path, node_ip_addr, node_logger, node_name, provisional_result, send_file
from dispy.logger import logger
from dispy.model import JobStatus
from dispy.runtime.waiting import check_may_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dispy.engine.effects import JobChange
    from dispy.live import Tail
    from dispy.partials import Partials
    from dispy.wire.messages import JobResult

__all__ = [
    "DispyJob",
    "job_path",
    "node_ip_addr",
    "node_logger",
    "node_name",
    "provisional_result",
    "send_file",
]

LAZY = frozenset({"_result", "stdout", "stderr", "exception", "error"})
"""Attributes that are decoded when one of them, or the status, is read after the job's end."""


class _Process:
    """This process; after a fork the child is another one.

    Attributes:
        lock: for moments in which more than one attribute of a job is changed, but no code of users runs.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()


_here = _Process()


def _come_from_fork() -> None:
    global _here
    _here = _Process()


os.register_at_fork(after_in_child=_come_from_fork)


class _Raw:
    """The end of a job, until it is decoded.

    Attributes:
        lock: held while it is decoded, which runs code of users: so each has its own, and none as long as
            nobody asks. Re-entrant, so that a thread which waits for itself can be told so.
        decoding: that is going on.
    """

    __slots__ = ("decoding", "lock", "reason", "result", "status")

    def __init__(self, status: JobStatus, result: JobResult | None, reason: str) -> None:
        self.status = status
        self.result = result
        self.reason = reason
        self.lock: threading.RLock | None = None
        self.decoding = False


class _Decoded(NamedTuple):
    status: JobStatus
    result: Any
    stdout: str | bytes | None
    stderr: str | bytes | None
    exception: str | None
    error: BaseException | None


class DispyJob:
    """One call of a computation.

    A job is tiny as long as nobody looks at it: its event is made when somebody waits, and its result is decoded
    in the thread that first asks for it.

    Attributes:
        id: anything; assign what you know the job by. At first a number.
        result: what the function returned, or the program's exit status; None if the job failed. Assign None to
            free memory. As long as the job runs, the last intermediate result that a callback was called with.
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
        "_home",
        "_partials",
        "_raw",
        "_result",
        "_safe",
        "_status",
        "_text",
        "_uid",
        "end_time",
        "error",
        "exception",
        "id",
        "ip_addr",
        "node",
        "start_time",
        "stderr",
        "stdout",
        "submit_time",
    )

    id: Any
    _result: Any
    stdout: str | bytes | None
    stderr: str | bytes | None
    exception: str | None
    error: BaseException | None

    def __init__(
        self, uid: int, job_id: Any = None, *, text_output: bool = True, safe_results: bool = False
    ) -> None:
        self._uid = uid
        self._text = text_output
        self._safe = safe_results
        self._status = JobStatus.CREATED
        self._done = False
        self._finish: threading.Event | None = None
        self._home = _here
        self._raw: _Raw | None = None
        self._partials: Partials | None = None
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
        partials = self._partials
        if partials is not None and partials.shown is not None and partials.shown[0] == threading.get_ident():
            return JobStatus.PROVISIONAL_RESULT
        if not self._done:
            status = self._status
            # The engine's thread may be between two lines of _settle: nobody shall see the end before its result.
            return status if status < JobStatus.TERMINATED else JobStatus.RUNNING
        self._decode()
        return self._status

    @property
    def result(self) -> Any:
        """What the job came to; see the class."""
        partials = self._partials
        if partials is not None:
            if partials.shown is not None and partials.shown[0] == threading.get_ident():
                return partials.shown[1]
            if not self._done:
                return partials.last
        return self._result

    @result.setter
    def result(self, value: Any) -> None:
        self._result = value

    @property
    def finish(self) -> threading.Event:
        """Event that is set when the job is done, before callbacks run."""
        event = self._finish
        if event is None:
            with _here.lock:
                event = self._finish
                if event is None:
                    event = self._finish = threading.Event()
            # Whoever ends the job sets _done first and looks for an event afterwards; here it is the other way
            # round, so one of the two sees the other.
            if self._done:
                event.set()
        return event

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job is done; return False if *timeout* (seconds) passed first.

        Raises:
            ClusterClosed: it was submitted in another process, before a fork: nothing is heard of it here.
            UsageError: it is not done, and what could move it on is the thread that is to wait.
        """
        if self._done:
            return True
        if self._home is not _here:
            raise ClusterClosed(
                f"job {self.id!r} was submitted in another process, before a fork: "
                "make a cluster here and submit it again"
            )
        check_may_wait("job.wait()")
        return self.finish.wait(timeout) or self._done

    def __call__(self, clear: bool = False) -> Any:
        """Wait until the job is done and return its result: None if it failed, see ``exception`` then.

        With *clear*, `finish` is cleared afterwards.

        Raises:
            ClusterClosed, UsageError: as `wait`.
        """
        self.wait()
        result = self.result
        if clear:
            self.finish.clear()
        return result

    def stream(self, timeout: float | None = None) -> Iterator[Any]:
        """Give the intermediate results of the job, in order, until it has ended; see `result` then.

        Those that have come before are given too; each is given once, whoever asks. Those that nobody asks for are
        kept as long as the job.

        Args:
            timeout: longest time to wait for the next one, in seconds.

        Raises:
            TimeoutError: nothing came within *timeout*.
            JobBroken: one cannot be loaded here; later ones can be had from another call.
            ClusterClosed, UsageError: as `wait`.
        """
        if not self._done and self._home is not _here:
            self.wait(0)  # which says what is wrong
        if not self._done:
            check_may_wait("job.stream()")
        from dispy.partials import decode_partial

        for body in self._get_partials().take(timeout=timeout):
            yield decode_partial(body, safe=self._safe)

    def tail(self, stream: str = "stdout", timeout: float | None = None) -> Iterator[str]:
        """Give what the job prints, from its start, as it comes, until the job has ended.

        What comes is text, also of programs, in pieces that need not be lines; joined they are what the job has
        printed. Bytes that are no UTF-8 are replaced. If the job prints faster than the network or the caller takes
        it, the middle may be left out, with a line in its place; each caller of `tail` gets all.

        Args:
            stream: "stdout", "stderr", or "both" as they come.
            timeout: longest time to wait for the next piece, in seconds.

        Raises:
            TimeoutError: nothing came within *timeout*.
            ClusterClosed, UsageError: as `wait`; or *stream* is something else.
        """
        if stream not in ("stdout", "stderr", "both"):
            raise UsageError(f"stream must be 'stdout', 'stderr' or 'both', not {stream!r}")
        if not self._done:
            if self._home is not _here:
                self.wait(0)  # which says what is wrong
            check_may_wait("job.tail()")
        return self._follow(("stdout", "stderr") if stream == "both" else (stream,), timeout)

    def _follow(self, names: tuple[str, ...], timeout: float | None) -> Iterator[str]:
        from dispy.live import STREAMS, Tail
        from dispy.runtime import thread

        tail = Tail(self, tuple(STREAMS[name] for name in names), thread.tell)
        with _here.lock:
            _tails[self] = (*_tails.get(self, ()), tail)
        try:
            if not self._done:
                tail.begin()
                yield from tail.read(timeout)
                return
            for name in names:
                output = getattr(self, name) or ""
                yield output.decode("utf-8", "replace") if isinstance(output, bytes) else output
        finally:
            tail.close()
            with _here.lock:
                others = tuple(other for other in _tails[self] if other is not tail)
                if others:
                    _tails[self] = others
                else:
                    del _tails[self]

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
        while True:
            self._decode()
            try:
                return object.__getattribute__(self, name)
            except AttributeError:
                if self._raw is None:  # else the end was replaced just now
                    raise

    # ---- for the cluster, in the engine's thread

    def _start(self, change: JobChange) -> None:
        """Take a status that is not the last."""
        self._status = change.status
        self._place(change)
        self.start_time = change.job.started_at or None

    def _get_partials(self) -> Partials:
        from dispy.partials import Partials

        with _here.lock:
            if self._partials is None:
                self._partials = Partials()
        if self._done:  # it may have ended meanwhile, without having known of these
            self._partials.end()
        return self._partials

    def _add_partial(self, body: bytes) -> None:
        """Take an intermediate result."""
        self._get_partials().add(body)
        if not self._done and self._status is JobStatus.RUNNING:
            self._status = JobStatus.PROVISIONAL_RESULT

    def _call_with_partial(self, body: bytes, function: Callable[..., object], *args: Any) -> None:
        """Call *function* while the job looks, in this thread, as it did when an intermediate result came."""
        from dispy.partials import decode_partial

        partials = self._get_partials()
        try:
            value = decode_partial(body, safe=self._safe)
        except JobBroken as error:
            logger.warning("an intermediate result of job %s is left out: %s", self.id, error)
            return
        partials.last = value
        partials.shown = (threading.get_ident(), value)
        try:
            function(*args)
        finally:
            partials.shown = None

    def _settle(self, change: JobChange) -> None:
        """Take the last status; nothing is decoded. It may come once more for a job that was abandoned."""
        result = change.result
        self._place(change)
        if result is not None:
            self.start_time = result.started_at or None
            self.end_time = result.ended_at or None
        raw = _Raw(change.status, result, change.reason)
        if self._done:
            self._replace_end(raw)
        else:
            self._raw = raw
            self._status = change.status
            # Last, because other threads take it as a sign that everything is there.
            self._done = True
        event = self._finish
        if event is not None:
            event.set()
        if self._partials is not None:
            self._partials.end()
        if _tails:
            for tail in _tails.get(self, ()):
                tail.end(result)

    def _place(self, change: JobChange) -> None:
        node = change.node
        self.ip_addr, self.node = (None, None) if node is None else (node.peer_host, node.name)

    def _replace_end(self, raw: _Raw) -> None:
        with _here.lock:
            for name in LAZY:
                try:
                    delattr(self, name)
                except AttributeError:
                    continue  # it was never decoded
            self._raw = raw
            self._status = raw.status

    # ---- decoding

    def _decode(self) -> None:
        """See to it that the end is decoded; in another thread that may be going on, then wait for it.

        Raises:
            UsageError: it is this thread that decodes it.
        """
        while (raw := self._raw) is not None:
            with _here.lock:
                if raw.lock is None:
                    raw.lock = threading.RLock()
            with raw.lock:
                if self._raw is not raw:
                    continue
                if raw.decoding:
                    raise UsageError(f"the result of job {self.id!r} is needed to load this very result")
                raw.decoding = True
                try:
                    self._store(raw, self._make_end(raw))
                finally:
                    raw.decoding = False

    def _store(self, raw: _Raw, end: _Decoded) -> None:
        with _here.lock:
            if self._raw is raw:  # else there is a later end by now
                self._status, self._result, self.stdout, self.stderr, self.exception, self.error = end
                self._raw = None

    def _make_end(self, raw: _Raw) -> _Decoded:
        if raw.result is None:
            return _end_without_result(raw.status, raw.reason)
        from dispy.packing.results import decode_end

        end = decode_end(raw.result, f"{self.node} ({self.ip_addr})", safe=self._safe)
        status = raw.status
        if end.error is not None and status is JobStatus.FINISHED:
            status = JobStatus.TERMINATED  # a result that cannot be loaded here
        return _Decoded(
            status, end.value, self._output(end.stdout), self._output(end.stderr), end.exception, end.error
        )

    def _output(self, data: bytes | None) -> str | bytes | None:
        return data.decode("utf-8", "replace") if self._text and data is not None else data


_tails: dict[DispyJob, tuple[Tail, ...]] = {}
"""Who looks at which job; here, as most jobs have nobody."""


def _end_without_result(status: JobStatus, reason: str) -> _Decoded:
    kind: type[JobError] = JobBroken
    if status is JobStatus.CANCELLED:
        kind, reason = JobCancelled, reason or "the job was cancelled before it ran"
    elif status is JobStatus.ABANDONED:
        kind, reason = JobAbandoned, reason or "the node was lost, and the job may not run again"
    reason = reason or "the job failed for a reason that is not known"
    return _Decoded(status, None, None, None, reason, kind(reason))
