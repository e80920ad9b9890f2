"""What a job tells while it runs: intermediate results, files, lines for the log of the node.

The child writes a record to its channel, as it does with results, and waits for the answer. What is too large for a
frame goes to a file in the spool folder, which the daemon takes over.
"""

from __future__ import annotations

import errno
import os
import select
from os import getpid

from dispy_node.runner import explain
from dispy_node.runner.bare import signals
from dispy_node.runner.body import write_body
from dispy_node.runner.frames import ANSWER, FILE, KEY, LEVEL, LOGGED, PARTIAL, pack_news
from dispy_node.runner.replies import DETAIL_BYTES, NEWS, SAID, reply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from dispy_node.runner.settings import Settings

    class Caller(Protocol):
        """Knows the job, and in which process it may speak."""

        job: int
        attempt: int
        process: int

        def dump(self, value: object) -> bytes:
            """Encode an intermediate result; raises TypeError."""


COPY_BYTES = 1024 * 1024
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when the disk of the node, or a limit, is reached."""
MAX_PATH_BYTES = 1024
"""Longest relative path; as `dispy.wire.paths` has it."""


class NotSent(Exception):
    """Something could not be sent for a reason that the job learns by -1; the text is for its standard error."""


class News:
    """Speaks for the job that a child runs.

    Args:
        settings: what the daemon said.
        caller: knows the job.
        send: writes to the runner.
        receive: waits for the answer with this number; the channel has something to read.
        channel: gives the descriptor of the channel.
        number: of the news before, which also is in the names of spool files.
    """

    def __init__(
        self,
        settings: Settings,
        caller: Caller,
        send: Callable[[bytes], None],
        receive: Callable[[int], bytes],
        channel: Callable[[], int],
        number: int = 0,
    ) -> None:
        self._settings = settings
        self._caller = caller
        self._send = send
        self._receive = receive
        self._channel = channel
        self._number = number
        self._spooled = 0
        self._lock: Any = None
        """Held by who waits for an answer."""
        self._writing: Any = None
        """Held for a moment, by who numbers and writes a record."""
        self._speaker = 0

    def tell_result(self, value: object) -> bool:
        """Send an intermediate result; tell whether the node has it.

        Raises:
            TypeError: it cannot be sent.
            NotSent: there is no room for it.
        """
        self._check_process("dispy_provisional_result")
        body = self._caller.dump(value)
        if len(body) <= self._settings.inline_bytes:
            return self._ask(lambda: {"kind": PARTIAL, "body": body})

        def prepare() -> dict[str, Any]:
            path = self._spool_path()
            try:
                write_body(path, (body,))
            except OSError as error:
                what = "an intermediate result"
                raise NotSent(explain.spool(error, what, len(body), self._settings.place)) from error
            return {"kind": PARTIAL, "body": os.fsencode(path), "is_path": True}

        return self._ask(prepare)

    def tell_file(self, path: str) -> bool:
        """Send a file; tell whether the client has it.

        Raises:
            OSError: it cannot be read.
            NotSent: there is no room for it, or its name cannot be sent.
        """
        self._check_process("dispy_send_file")
        place = place_of(path, self._settings.folder)
        with open(path, "rb", buffering=0, opener=_open_file) as source:
            status = os.fstat(source.fileno())
            if status.st_mode & 0o170000 != 0o100000:
                raise OSError(errno.EINVAL, "not a regular file", path)
            limit = self._settings.max_file_bytes
            if limit and status.st_size > limit:
                raise NotSent(
                    f"file {path!r} has {status.st_size} bytes, more than the {limit} of --max-file-size of "
                    f"{self._settings.place}"
                )

            def prepare() -> dict[str, Any]:
                target = self._spool_path()
                digest = self._copy(source.fileno(), target, path, status.st_size)
                if _version(os.fstat(source.fileno())) != _version(status):
                    _remove(target)
                    raise NotSent(
                        f"file {path!r} has changed while it was read: make it complete before that"
                    )
                return {
                    "kind": FILE,
                    "body": os.fsencode(target),
                    "is_path": True,
                    "path": place,
                    "mode": status.st_mode & 0o777,
                    "modified_at": status.st_mtime,
                    "digest": digest,
                }

            return self._ask(prepare)

    def say(self, level: int, text: str) -> bool:
        """Send a line for the log of the node; False if this is not the process of a job."""
        if getpid() != self._caller.process:
            return False
        data = text.encode("utf-8", "replace")[: DETAIL_BYTES // 4]
        self._locked()
        with self._writing:
            self._write(reply(SAID, self._key() + LEVEL.pack(max(0, min(level, 255))) + data))
        return True

    def tell_log(self, body: bytes) -> None:
        """Send a record of `logging`, and do not wait. Processes that the job has forked send nothing."""
        if getpid() != self._caller.process:
            return
        self._locked()
        if (
            not self._writing._is_owned()
        ):  # else this thread is just writing, and a finaliser has something to say
            self._write_news(kind=LOGGED, body=body)

    def _write_news(self, **parts: Any) -> int:
        """Write a record under the next number, and give that."""
        with self._writing:
            self._number += 1
            self._write(reply(NEWS, pack_news(self._key(), self._number, **parts)))
            return self._number

    def _check_process(self, what: str) -> None:
        if getpid() != self._caller.process:
            raise RuntimeError(
                f"{what} was called in another process than the job's own; call it in the function of the cluster"
            )

    def _key(self) -> bytes:
        return KEY.pack(self._caller.job, self._caller.attempt)

    def _spool_path(self) -> str:
        self._spooled += 1
        # Other processes of the job, each a command of its own, may tell something at the same time.
        name = f"{self._caller.job}-{self._caller.attempt}-{getpid()}-{self._spooled}.news"
        return os.path.join(self._settings.spool, name)

    def _locked(self) -> Any:
        # Made when it is needed, and anew in each process: a fork may have copied one that was taken.
        if self._lock is None or self._speaker != getpid():
            import _thread

            self._lock, self._writing, self._speaker = _thread.allocate_lock(), _thread.RLock(), getpid()
        return self._lock

    def _ask(self, prepare: Callable[[], dict[str, Any]]) -> bool:
        """Send what *prepare* gives and wait for the answer. Other threads that ask wait meanwhile."""
        with self._locked():
            number = self._write_news(**prepare())
            waiting = select.poll()
            waiting.register(self._channel(), select.POLLIN)
            while True:
                waiting.poll()
                mask = signals.pthread_sigmask(signals.SIG_BLOCK, (signals.SIGINT,))
                try:
                    answer = self._receive(number)
                finally:
                    signals.pthread_sigmask(signals.SIG_SETMASK, mask)
                if answer:
                    return answer == b"\x01"

    def _write(self, data: bytes) -> None:
        """Write a record as a whole: a KeyboardInterrupt comes before or after it."""
        mask = signals.pthread_sigmask(signals.SIG_BLOCK, (signals.SIGINT,))
        try:
            self._send(data)
        finally:
            signals.pthread_sigmask(signals.SIG_SETMASK, mask)

    def _copy(self, source: int, target: str, path: str, most: int) -> bytes:
        """Copy a file, of so many bytes, to the spool folder, where nobody changes it; give the hash of the copy."""
        import hashlib

        digest = hashlib.sha256()
        size = 0
        made = False
        try:
            copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            made = True
            try:
                while data := os.read(source, min(COPY_BYTES, most - size)):
                    digest.update(data)
                    view = memoryview(data)
                    size += len(view)
                    while view:
                        view = view[os.write(copy, view) :]
            finally:
                os.close(copy)
        except BaseException as error:
            if made:
                _remove(target)
            if isinstance(error, OSError) and error.errno in FULL:
                what = f"file {path!r}"
                raise NotSent(explain.spool(error, what, size, self._settings.place)) from error
            raise
        return digest.digest()


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns


def take_answer(number: int, kind: int, body: bytes) -> bytes:
    """Give the answer in a record if it is the one with this number, else nothing."""
    if kind != ANSWER or int.from_bytes(body[:4], "little") != number:
        return b""
    return body[4:5]


def place_of(path: str, folder: str) -> str:
    """Tell where a file belongs: below the folder its relative path, elsewhere its base name.

    Raises:
        NotSent: the name cannot be sent.
    """
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    name = os.path.basename(path)
    base = os.path.realpath(folder)
    above = os.path.realpath(os.path.dirname(path) or os.curdir)
    inner = os.path.relpath(above, base) if (above + os.sep).startswith(base + os.sep) else os.curdir
    place = name if inner == os.curdir else f"{inner}/{name}"
    try:
        data = place.encode()
    except UnicodeEncodeError as error:
        raise NotSent(f"file {path!r} is not sent: its name is no text") from error
    if len(data) > MAX_PATH_BYTES:
        raise NotSent(f"file {path[:80]!r}... is not sent: its name is longer than {MAX_PATH_BYTES} bytes")
    return place


def _open_file(path: str, flags: int) -> int:
    """Open without waiting, as a named pipe would make us do."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
