"""Where programs speak with the runner: the command ``dispy-job``, and the socket at which the runner hears it.

A program that a job runs finds the command on its PATH, and in ``DISPY_JOB`` which job it is. The command (`tell`)
writes what a child of a function job would write to its channel, and waits for the answer. It reaches the runner by a
socket in the spool folder, which only the user of the jobs can enter, rather than by a descriptor: shells keep those,
but most languages close them when they start a program. The same is true in a sandbox, which has that folder.
"""

from __future__ import annotations

import os
import sys

from dispy_node.runner.bare import READABLE, sockets
from dispy_node.runner.frames import ANSWER, FILE, JOB, KEY, PARTIAL, unpack_news
from dispy_node.runner.replies import KEY_BYTES, NEWS, GarbledReplies, cut_replies

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dispy_node.runner.bare import Poll
    from dispy_node.runner.jobs import Job
    from dispy_node.runner.settings import Settings

VARIABLE = "DISPY_JOB"
"""Environment variable of programs: job and attempt, and the spool folder, as ``JOB.ATTEMPT:FOLDER``."""
COMMAND = "dispy-job"
SOCKET_NAME = "desk"
"""In the spool folder, as the next two."""
SETTINGS_NAME = "desk.json"
COMMANDS_FOLDER = "bin"

MAX_VISITORS = 64
"""So many commands are heard at once; others wait for a moment."""
WAITING = 128
"""So many may wait."""
READ_BYTES = 64 * 1024
NUMBER_AT = KEY_BYTES
"""Where the number stands in the payload of NEWS."""
NUMBER_BYTES = 4


class Visitor:
    """A command that is connected.

    Attributes:
        rest: beginning of what has not come completely.
        job: whose news it has told; None as long as it has told nothing.
        number: the number that it gave the news for which it waits.
    """

    __slots__ = ("descriptor", "job", "number", "rest")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.rest = b""
        self.job: Job | None = None
        self.number = b""


class Desk:
    """Hears the commands of all jobs of a runner.

    Args:
        settings: what the daemon said; from here on, its spool folder has what the command needs, and PATH leads to
            that.

    Raises:
        OSError: that cannot be made.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        _make_command(settings)
        self._listener = listen(settings.spool)
        self._is_listening = False
        self._visitors: dict[int, Visitor] = {}
        self._waiting: dict[tuple[bytes, int], Visitor] = {}
        """Job's key and the desk's number of its news -> who waits for the answer."""
        self._numbers: dict[bytes, int] = {}
        """Job's key -> number of its last news. Several commands of one job may speak at once."""

    def open(
        self, poll: Poll, find: Callable[[bytes], Job | None], pass_on: Callable[[Job, bytes], None]
    ) -> None:
        """Begin to listen.

        Args:
            poll: where descriptors are registered.
            find: gives the job of a key if it runs.
            pass_on: takes news of a job, as the payload of NEWS.
        """
        self._poll, self._find, self._pass_on = poll, find, pass_on
        self.tick()

    def fileno(self) -> int:
        """Give the descriptor that listens, which children of the runner must not keep."""
        return self._listener.fileno()

    def tick(self) -> None:
        """Listen again if there was no room; called every turn of the loop."""
        if not self._is_listening and len(self._visitors) < MAX_VISITORS:
            self._is_listening = True
            self._poll.register(self.fileno(), READABLE)

    def handle(self, descriptor: int) -> bool:
        """Handle what the poll reported about a descriptor; tell whether it is one of the desk's."""
        if descriptor == self.fileno():
            self._admit()
            return True
        visitor = self._visitors.get(descriptor)
        if visitor is not None:
            self._hear(visitor)
        return visitor is not None

    def answer(self, job: Job, text: bytes) -> None:
        """Pass on the answer to news of a job: the rest of a TAKEN, from the number on."""
        number = int.from_bytes(text[:NUMBER_BYTES], "little")
        visitor = self._waiting.pop((job.key, number), None)
        if visitor is not None:
            self._answer(visitor, job.key, visitor.number + text[NUMBER_BYTES:])

    def forget(self, job: Job) -> None:
        """Hear nothing more of a job, which has ended."""
        if self._numbers.pop(job.key, None) is not None:
            for visitor in [one for one in self._visitors.values() if one.job is job]:
                self._dismiss(visitor)

    def _admit(self) -> None:
        try:
            # The public `accept` belongs to the thick module.
            descriptor: int = self._listener._accept()[0]  # type: ignore[attr-defined]
        except BlockingIOError:
            return
        except OSError:
            # No descriptor is left: the poll would report this for ever. The next turn tries again.
            self._pause()
            return
        os.set_blocking(descriptor, False)
        self._visitors[descriptor] = Visitor(descriptor)
        self._poll.register(descriptor, READABLE)
        if len(self._visitors) >= MAX_VISITORS:
            self._pause()

    def _pause(self) -> None:
        self._is_listening = False
        self._poll.unregister(self.fileno())

    def _hear(self, visitor: Visitor) -> None:
        try:
            data = os.read(visitor.descriptor, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._dismiss(visitor)
            return
        try:
            replies, visitor.rest, garbage = cut_replies(visitor.rest + data, self._settings.inline_bytes)
            if garbage:
                raise GarbledReplies(garbage)
            for flags, record in replies:
                self._take(visitor, flags, record)
        except GarbledReplies:
            # Whoever it is, it is not our command; it sees that nobody speaks with it any more.
            self._dismiss(visitor)

    def _take(self, visitor: Visitor, flags: int, record: bytes) -> None:
        if flags != NEWS or visitor.number or not self._is_sound(record):
            raise GarbledReplies("no news")
        key, number = record[:KEY_BYTES], record[NUMBER_AT : NUMBER_AT + NUMBER_BYTES]
        job = self._find(key)
        if job is None:
            raise GarbledReplies("news of a job that does not run")
        visitor.job, visitor.number = job, number
        own = self._numbers[key] = self._numbers.get(key, 0) + 1
        self._waiting[key, own] = visitor
        behind = record[NUMBER_AT + NUMBER_BYTES :]
        self._pass_on(job, key + own.to_bytes(NUMBER_BYTES, "little") + behind)

    def _is_sound(self, record: bytes) -> bool:
        """Tell whether the daemon will understand news: it ends a runner that sends it something else."""
        try:
            _, _, _, kind, _, _, modified_at, _, is_path, body = unpack_news(record)
        except Exception:
            # Lengths that do not fit, or a path that is no text.
            return False
        if modified_at - modified_at != 0 or kind not in (PARTIAL, FILE) or (kind == FILE and not is_path):
            return False
        if not is_path:
            return True
        path = os.fsdecode(body)
        return os.path.dirname(path) == self._settings.spool and b"\0" not in body and os.path.isfile(path)

    def _answer(self, visitor: Visitor, key: bytes, text: bytes) -> None:
        visitor.number = b""
        try:
            # A few bytes into an empty buffer: they go at once, or nobody reads them.
            os.write(visitor.descriptor, JOB.pack(*KEY.unpack(key), ANSWER, len(text)) + text)
        except OSError:
            self._dismiss(visitor)

    def _dismiss(self, visitor: Visitor) -> None:
        descriptor = visitor.descriptor
        if self._visitors.pop(descriptor, None) is None:
            return
        self._waiting = {place: one for place, one in self._waiting.items() if one is not visitor}
        self._poll.unregister(descriptor)
        connection = sockets.socket(fileno=descriptor)
        try:
            connection.shutdown(sockets.SHUT_RDWR)  # children that were forked meanwhile have copies
        except OSError:
            pass  # it has gone by itself
        finally:
            connection.close()


def program_environment(settings: Settings, job: int, attempt: int) -> dict[str, str]:
    """Give the variables by which the command finds its job."""
    return {VARIABLE: f"{job}.{attempt}:{settings.spool}"}


def listen(folder: str) -> sockets.socket:
    """Listen at the desk of a spool folder.

    Raises:
        OSError: it cannot be made.
    """

    def begin(listener: sockets.socket) -> None:
        listener.bind(SOCKET_NAME)
        listener.listen(WAITING)
        listener.setblocking(False)

    return _open_socket(folder, begin)


def connect(folder: str) -> int:
    """Connect to the desk of a spool folder; return the descriptor.

    Raises:
        OSError: nobody is there.
    """
    return _open_socket(folder, lambda connection: connection.connect(SOCKET_NAME)).detach()


def _open_socket(folder: str, begin: Callable[[sockets.socket], object]) -> sockets.socket:
    """Open a socket in a folder, by way of that: the system takes no path of more than 107 bytes for one."""
    opened = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    try:
        here = os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
        try:
            os.chdir(folder)
            try:
                begin(opened)
            finally:
                os.fchdir(here)
        finally:
            os.close(here)
    except BaseException:
        opened.close()
        raise
    return opened


def _make_command(settings: Settings) -> None:
    """Put the command on the PATH of jobs, behind their folder if that is in front."""
    spool = settings.spool
    _write(os.path.join(spool, SETTINGS_NAME), settings.text, 0o600)
    folder = os.path.join(spool, COMMANDS_FOLDER)
    os.mkdir(folder, 0o700)
    # The node's interpreter without what slows its start, and with the folder that dispy is in as its last place to
    # look. A line "#!" would not do: systems cut it, and split it at blanks.
    code = f"import sys; sys.path.append({_root()!r}); from dispy_node.runner.tell import main; main()"
    words = " ".join(map(_quote, (sys.executable, "-I", "-S", "-c", code)))
    _write(os.path.join(folder, COMMAND), f'#!/bin/sh\nexec {words} "$@"\n'.encode(), 0o700)
    first, _, rest = os.environ.get("PATH", os.defpath).partition(os.pathsep)
    places = [first, folder, rest] if first == settings.folder else [folder, first, rest]
    os.environ["PATH"] = os.pathsep.join(place for place in places if place)


def _root() -> str:
    """Give the folder from which ``dispy_node`` is imported."""
    place = os.path.abspath(__file__)
    for _ in range(3):
        place = os.path.dirname(place)
    return place


def _quote(word: str) -> str:
    """Quote for a shell, as `shlex.quote` does, which would import regular expressions."""
    return "'" + word.replace("'", "'\\''") + "'"


def _write(path: str, data: bytes, mode: int) -> None:
    with open(
        path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW, mode)
    ) as file:
        file.write(data)
