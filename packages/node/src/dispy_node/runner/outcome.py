"""What became of a job, as the record that goes to the daemon."""

from __future__ import annotations

import os
from time import time

from dispy_node.runner import explain
from dispy_node.runner.body import (
    BROKEN,
    CANCELLED,
    DIED,
    EXCEEDED,
    EXITED,
    TRAILER,
    append_output,
    make_body,
    split_body,
    write_body,
)
from dispy_node.runner.call import result_name
from dispy_node.runner.frames import KEY
from dispy_node.runner.replies import INTERRUPTED, OUTCOME_AT, GarbledReplies, make_result, split_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dispy_node.runner.jobs import Job
    from dispy_node.runner.settings import Settings


class Ending:
    """Makes results.

    Args:
        settings: where large results go, and how large the others may be.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def answered(self, job: Job, flags: int, record: bytes, stdout: bytes, stderr: bytes) -> bytes:
        """Add to a child's own result what only the runner knows: the output, and whether it was cancelled.

        Raises:
            GarbledReplies: the record is none.
        """
        code, started_at, ended_at, detail, is_path, body = split_result(record)
        outcome = record[OUTCOME_AT]
        if is_path and os.fsdecode(body) != self._path(job):
            raise GarbledReplies("a result in a place that is not its own")
        times = (started_at, ended_at)
        if job.excess is not None:  # whatever it has made of KeyboardInterrupt
            if is_path:
                self._remove_leftover(job)
            return self._exceeded(job, job.excess, times, stdout, stderr)
        if job.cancelled and (flags & INTERRUPTED or outcome == DIED):
            if is_path:
                self._remove_leftover(job)
            return self._result(job, CANCELLED, code, times, b"", (b"", b"", stdout, stderr))
        if not is_path:
            try:
                value, error, _, _ = split_body(body)
            except ValueError as reason:
                raise GarbledReplies(str(reason)) from reason
            return self._result(job, outcome, code, times, detail, (value, error, stdout, stderr))
        if stdout or stderr:
            try:
                append_output(os.fsdecode(body), stdout, stderr)
            except OSError as failure:
                return self._not_stored(job, times, failure, len(stdout) + len(stderr))
            except ValueError as reason:
                raise GarbledReplies(str(reason)) from reason
        return make_result(job.key, outcome, code, times, detail, is_path, body)

    def died(self, job: Job, code: int, started_at: float, stdout: bytes, stderr: bytes) -> bytes:
        """Make the result of a job whose process ended without one, or that was a program.

        Args:
            code: exit status, or minus the number of a signal.
        """
        self._remove_leftover(job)
        times = (started_at, time())
        output = (b"", b"", stdout, stderr)
        if job.excess is not None:
            return self._exceeded(job, job.excess, times, stdout, stderr)
        if job.cancelled and code != 0:
            return self._result(job, CANCELLED, code, times, b"", output)
        if self._settings.program:
            return self._result(job, EXITED, code, times, b"", output)
        if job.cancelled:
            return self._result(job, CANCELLED, code, times, b"", output)
        return self._result(job, DIED, code, times, explain.death(code).encode(), output)

    def _exceeded(
        self, job: Job, excess: tuple[int, str], times: tuple[float, float], stdout: bytes, stderr: bytes
    ) -> bytes:
        """Make the result of a job that has gone beyond a limit."""
        limit, text = excess
        detail = text.encode("utf-8", "replace")
        return self._result(job, EXCEEDED, limit, times, detail, (b"", b"", stdout, stderr))

    def broken(self, job: Job, detail: str, stdout: bytes = b"", stderr: bytes = b"") -> bytes:
        """Make the result of a job that could not be run to its end."""
        now = time()
        times = (job.started_at or now, now)
        return self._result(
            job, BROKEN, 0, times, detail.encode("utf-8", "replace"), (b"", b"", stdout, stderr)
        )

    def cancelled(self, job: Job) -> bytes:
        """Make the result of a job that was cancelled before it was started."""
        if job.excess is not None:  # its process had not come to it
            now = time()
            return self._exceeded(job, job.excess, (now, now), b"", b"")
        # Daemon and client take a time of start as a sign that it ran: then it is Terminated, else Cancelled.
        return make_result(job.key, CANCELLED, 0, (0.0, 0.0), b"", False, b"")

    def recalled(self, job: Job) -> bytes:
        """Make the result of a job that is given back: it was not started and never will be."""
        return make_result(job.key, CANCELLED, 0, (0.0, 0.0), b"", False, b"")

    def _result(
        self,
        job: Job,
        outcome: int,
        code: int,
        times: tuple[float, float],
        detail: bytes,
        parts: tuple[bytes, bytes, bytes, bytes],
    ) -> bytes:
        size = sum(map(len, parts)) + TRAILER.size
        if size <= self._settings.inline_bytes:
            return make_result(job.key, outcome, code, times, detail, False, make_body(*parts))
        path = self._path(job)
        try:
            write_body(path, (*parts, TRAILER.pack(*map(len, parts))))
        except OSError as failure:
            return self._not_stored(job, times, failure, size)
        return make_result(job.key, outcome, code, times, detail, True, os.fsencode(path))

    def _not_stored(self, job: Job, times: tuple[float, float], failure: OSError, size: int) -> bytes:
        detail = explain.spool(failure, "the job's result with its output", size, self._settings.place)
        return make_result(job.key, BROKEN, 0, times, detail.encode("utf-8", "replace"), False, b"")

    def _path(self, job: Job) -> str:
        return os.path.join(self._settings.spool, result_name(*KEY.unpack(job.key)))

    def _remove_leftover(self, job: Job) -> None:
        """Remove the result that the process may have been writing, or has written."""
        try:
            os.unlink(self._path(job))
        except OSError:
            # The usual case: there is none.
            return
