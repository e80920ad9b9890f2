"""One call of the computation's function, and what it came to."""

from __future__ import annotations

import os
from os import getpid
from time import time

from dispy_node.runner import explain
from dispy_node.runner.bare import dumps, load, loads
from dispy_node.runner.body import BROKEN, DIED, RAISED, RETURNED, TRAILER, make_body, write_body
from dispy_node.runner.frames import CARRIES, RESULT
from dispy_node.runner.replies import DETAIL_BYTES, INTERRUPTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any

    from dispy_node.runner.carried import Carried
    from dispy_node.runner.namespace import Computation
    from dispy_node.runner.settings import Settings

PROTOCOL = 5


def _generate() -> Generator[None]:
    yield


async def _wait() -> None: ...


async def _generate_async() -> AsyncGenerator[None]:
    yield


GENERATOR = type(_generate())
"""Types of what a function returns that has not run yet, or not to its end; without ``types``, for the start's sake."""
ASYNC_GENERATOR = type(_generate_async())
_waiting = _wait()
COROUTINE = type(_waiting)
_waiting.close()  # so that Python does not warn that it was never awaited


class Caller:
    """Calls the function for job after job and makes results of what happens.

    Args:
        computation: what to call.
        settings: where results go and how large they may be.
        settle: called as soon as the function has returned or raised; afterwards no KeyboardInterrupt comes. None if
            one that comes so late may end the process: then the job counts as cancelled, as was asked for.

    Attributes:
        process: id of the process whose job it is.
        job, attempt: what was called last.
    """

    def __init__(
        self, computation: Computation, settings: Settings, settle: Callable[[], None] | None
    ) -> None:
        self._compute = computation.compute
        self._dump: Callable[[object], bytes] = self._pickle
        self._dump_exception: Callable[[BaseException], bytes] = self._pickle
        self._safe_results = computation.safe_results
        if self._safe_results:
            from dispy_node.runner import safe  # here, because nearly all runners do without

            self._dump, self._dump_exception = safe.encode, safe.encode_exception
        self._sources = computation.sources
        self._inside = computation.inside
        self._carried: Carried | None = None
        self._lacking = computation.lacking
        self._settings = settings
        self._settle = settle
        self.process = self.job = self.attempt = 0

    def call(self, job: int, attempt: int, kind: int, body: bytes, started_at: float) -> tuple[int, bytes]:
        """Run a job.

        Returns:
            flags for the reply, and the result as `frames.pack_result` makes it.
        """
        self.job, self.attempt = job, attempt
        try:
            args, kwargs = loads(body) if not kind else self._load_other(kind, body)
            if kwargs is None:
                args, kwargs = self._load_shared(*args)
        except Exception as error:
            if self._settle is not None:
                self._settle()
            return 0, self._broken(job, attempt, started_at, explain.arguments(error, self._settings.place))
        except BaseException as error:
            if self._settle is not None:
                self._settle()
            return self._failed(job, attempt, started_at, error)
        try:
            value = self._compute(*args, **kwargs)
            if self._settle is not None:
                self._settle()
        except BaseException as error:
            if self._settle is not None:
                self._settle()
            if getpid() != self.process:
                os._exit(0)
            return self._failed(job, attempt, started_at, error)
        ended_at = time()
        if getpid() != self.process:
            # A job may fork and come back here twice; only the process that was given the job answers.
            os._exit(0)
        kind_of_value = type(value)
        if kind_of_value is GENERATOR or kind_of_value is COROUTINE or kind_of_value is ASYNC_GENERATOR:
            flags = _close(value)
            name = getattr(self._compute, "__name__", "the computation")
            return flags, self._broken(
                job, attempt, started_at, explain.lazy_result(kind_of_value.__name__, name)
            )
        try:
            data = self._dump(value)
        except Exception as error:
            return 0, self._broken(job, attempt, started_at, self._explain_misfit(value, error))
        size = len(data)
        if size + TRAILER.size > self._settings.inline_bytes:
            return 0, self._finish(job, attempt, RETURNED, 0, (started_at, ended_at), b"", data, b"")
        # The path of nearly all jobs; what `_finish` does, in one expression.
        head = RESULT.pack(job, attempt, RETURNED, 0, started_at, ended_at, 0, False, size + TRAILER.size)
        return 0, head + data + TRAILER.pack(size, 0, 0, 0)

    def _load_other(self, kind: int, body: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Unpickle arguments that do not come alone, or not in the frame."""
        if not kind & CARRIES:
            return self._load_spooled(body)
        from dispy_node.runner.carried import Carried

        self._carried = Carried(self._settings, self.job, self.attempt)
        args, kwargs = self._carried.arguments(kind, body, self._inside)
        return args, kwargs

    def put_away(self) -> None:
        """Remove what the last job had brought along for itself."""
        if self._carried is not None:
            carried, self._carried = self._carried, None
            carried.put_away()

    def _load_spooled(self, path: bytes) -> tuple[tuple[object, ...], dict[str, object]]:
        """Unpickle from a file, which is gone afterwards: it belongs to this attempt alone.

        Large bytes are read straight into the objects that they become; a mapped file would be copied.
        """
        with open(path, "rb") as source:
            os.unlink(path)
            args, kwargs = load(source)
            return args, kwargs

    def _load_shared(self, data: bytes, buffers: list[int]) -> tuple[tuple[object, ...], dict[str, object]]:
        """Unpickle arguments that refer to shared data."""
        from dispy_node.runner import shared  # here, because most runners do without

        return shared.load_arguments(data, buffers, self._settings.spool)

    def _pickle(self, value: object) -> bytes:
        try:
            return dumps(value, PROTOCOL)
        except Exception:
            # Functions and classes that the job made; if that fails too, its error says more. It takes 20 ms to import.
            from dispy.packing.pickler import dump_by_value

            return dump_by_value(value)

    def dump(self, value: object) -> bytes:
        """Turn a value into bytes, as is done with results.

        Raises:
            TypeError: that cannot be done.
        """
        try:
            return self._dump(value)
        except Exception as error:
            raise TypeError(self._explain_misfit(value, error)) from error

    def _explain_misfit(self, value: object, error: Exception) -> str:
        if self._safe_results:
            return str(error)
        return explain.unpicklable(value, error, self._settings.place)

    def _failed(self, job: int, attempt: int, started_at: float, error: BaseException) -> tuple[int, bytes]:
        times = (started_at, time())
        if isinstance(error, SystemExit):
            code = _exit_code(error)
            detail = f"the job called sys.exit({'' if error.code is None else repr(error.code)})"
            return 0, self._finish(
                job, attempt, DIED, code, times, detail.encode("utf-8", "replace"), b"", b""
            )
        flags = INTERRUPTED if _is_interrupt(error) else 0
        if self._lacking and isinstance(error, NameError) and error.name in self._lacking:
            error.add_note(explain.lacking(error.name, self._lacking[error.name]))
        else:
            explain.add_hint(error, self._settings.place)
        text = explain.trace(error, __file__, self._sources).encode("utf-8", "backslashreplace")
        try:
            data = self._dump_exception(error)
        except Exception:
            # The client then has the traceback's text only, which is why an empty value is allowed here.
            data = b""
        return flags, self._finish(job, attempt, RAISED, 0, times, b"", data, text)

    def _broken(self, job: int, attempt: int, started_at: float, detail: str) -> bytes:
        times = (started_at, time())
        return self._finish(job, attempt, BROKEN, 0, times, detail.encode("utf-8", "replace"), b"", b"")

    def _finish(
        self,
        job: int,
        attempt: int,
        outcome: int,
        code: int,
        times: tuple[float, float],
        detail: bytes,
        value: bytes,
        error: bytes,
    ) -> bytes:
        """Make a result; what is too large for a frame goes to a file."""
        size = len(value) + len(error) + TRAILER.size
        if size <= self._settings.inline_bytes:
            body, is_path = make_body(value, error), False
        else:
            path = os.path.join(self._settings.spool, result_name(job, attempt))
            try:
                write_body(path, (value, error, TRAILER.pack(len(value), len(error), 0, 0)))
            except OSError as failure:
                text = explain.spool(failure, "the job's result", size, self._settings.place)
                return self._broken(job, attempt, times[0], text)
            body, is_path = os.fsencode(path), True
        detail = detail[:DETAIL_BYTES]
        head = RESULT.pack(job, attempt, outcome, code, *times, len(detail), is_path, len(body))
        return head + detail + body


def result_name(job: int, attempt: int) -> str:
    """Name the file for a large result inside the private spool folder."""
    return f"{job}-{attempt}.result"


def _exit_code(error: SystemExit) -> int:
    """Tell the exit status that Python would give: 0 for none, 1 for a text."""
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _close(value: Any) -> int:
    """Close a coroutine or generator, so that Python does not warn that it was never awaited; give flags."""
    try:
        if type(value) is not ASYNC_GENERATOR:  # to close that one, an event loop is needed
            value.close()
    except BaseException as error:
        # What its finally clause makes of it helps nobody: the job is refused for another reason.
        return INTERRUPTED if _is_interrupt(error) else 0
    return 0


def _is_interrupt(error: BaseException) -> bool:
    """Tell whether KeyboardInterrupt is what ended the job, perhaps inside other exceptions."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, KeyboardInterrupt):
            return True
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return False
