"""What a job brings along for itself alone: its process puts files in place and loads code; later both go away.

Files are taken note of in the spool folder before they are made. So the runner can remove what a job leaves that is a
program or was killed, and two jobs that bring the same file at the same time share it until the later one ends.
Only processes of jobs that bring something import this module, and the runner when such a job ends.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import sys

from dispy_node.runner.bare import load
from dispy_node.runner.explain import brief
from dispy_node.runner.frames import SPOOLED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

    from dispy_node.runner.inside import Inside
    from dispy_node.runner.namespace import Overlay
    from dispy_node.runner.settings import Settings

MAGIC = b"\xff\xff\xff\xff"
"""As in `dispy.packing.jobparts`."""

NOTE = ".carried"
"""Ending of the names of notes in the spool folder; before it stand job and attempt."""

COPY_BYTES = 1024 * 1024


class NotCarried(Exception):
    """Something cannot be put in place or loaded; the message is for the user."""


class Carried:
    """What one job has brought along.

    Args:
        settings: what the daemon said.
        job, attempt: whose it is.
    """

    def __init__(self, settings: Settings, job: int, attempt: int) -> None:
        self._settings = settings
        self._note = note_path(settings, job, attempt)
        self._overlay: Overlay | None = None

    def unpack(self, kind: int, body: bytes, inside: Inside | None) -> IO[bytes]:
        """Put files in place and load code; give what is left, the arguments.

        Raises:
            NotCarried: that cannot be done.
            BaseException: whatever the code raises when it is loaded.
        """
        source: IO[bytes]
        if kind & SPOOLED:
            source = open(body, "rb")  # noqa: SIM115 (it is the caller's)
            os.unlink(body)
        else:
            source = io.BytesIO(body)
        if source.read(len(MAGIC)) != MAGIC:
            raise NotCarried("what the job brings along is garbled")
        head = json.loads(source.read(int.from_bytes(source.read(4), "little")))
        code = source.read(head["code"])
        self._place(source, head["files"])
        if code:
            self._load(code, head["python"], inside)
        return source

    def arguments(self, kind: int, body: bytes, inside: Inside | None) -> Any:
        """Do as `unpack`, and unpickle the arguments."""
        with self.unpack(kind, body, inside) as source:
            return load(source)

    def put_away(self) -> None:
        """Undo all that."""
        if self._overlay is not None:
            self._overlay.remove()
            self._overlay = None
        remove_files(self._settings, self._note)

    def _load(self, code: bytes, python: list[int] | None, inside: Inside | None) -> None:
        from dispy_node.runner.namespace import load_overlay

        here = list(sys.version_info[:2])
        if python not in (None, here):
            raise NotCarried(
                f"dispy_job_depends has functions or classes of Python {'.'.join(map(str, python or ()))}, which "
                f"{self._settings.place} cannot load: name them in depends of the cluster, where they go as text"
            )
        self._overlay = load_overlay(code, inside)

    def _place(self, source: IO[bytes], files: list[list[Any]]) -> None:
        if not files:
            return
        with _Locked(self._settings.spool):
            others = _paths_of_others(self._settings.spool, self._note)
            mine: list[str] = []
            new: list[tuple[str, int]] = []
            at = source.tell()
            for path, size, _, _ in files:
                _check(path)
                if not os.path.lexists(path):
                    mine.append(path)
                    new.append((path, at))
                elif not _is_same(path, source, at, size):
                    raise NotCarried(
                        f"file {path!r} of dispy_job_depends is on {self._settings.place} already with other content, "
                        "from depends, another job that runs, or made by one: give it another name"
                    )
                elif path in others:
                    mine.append(path)
                at += size
            folders = _missing_folders(mine)
            _write_note(self._note, mine, folders)
            places = dict(new)
            for path, size, mode, modified_at in files:
                if path in places:
                    self._copy(source, places[path], path, size, mode, modified_at)
            source.seek(at)

    def _copy(self, source: IO[bytes], at: int, path: str, size: int, mode: int, modified_at: float) -> None:
        try:
            source.seek(at)
            os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
            with open(path, "xb", buffering=0) as target:
                while size:
                    data = memoryview(source.read(min(size, COPY_BYTES)))
                    if not data:
                        raise NotCarried(f"file {path!r} of dispy_job_depends is cut off")
                    size -= len(data)
                    while data:
                        data = data[target.write(data) :]
                os.fchmod(target.fileno(), mode & 0o755 | 0o600)
                os.utime(target.fileno(), (modified_at, modified_at))
        except OSError as error:
            raise NotCarried(
                f"file {path!r} of dispy_job_depends cannot be put in its place on {self._settings.place}: "
                f"{brief(error)}"
            ) from error


def note_path(settings: Settings, job: int, attempt: int) -> str:
    """Tell where the files of a job are noted."""
    return os.path.join(settings.spool, f"{job}-{attempt}{NOTE}")


def remove_files(settings: Settings, note: str) -> None:
    """Remove the files of a note that are in no other one, and the note; nothing if there is none.

    Whoever runs this has the folder of jobs as working directory.
    """
    if not os.path.lexists(note):
        return
    with _Locked(settings.spool):
        others = _paths_of_others(settings.spool, note)
        paths, folders = _read_note(note)
        for path in paths:
            if path not in others:
                _try(os.unlink, path)
        for folder in sorted(folders, key=len, reverse=True):
            _try(os.rmdir, folder)
        _try(os.unlink, note)


def _check(path: str) -> None:
    if os.path.isabs(path) or any(part in ("", ".", "..") for part in path.split("/")):
        raise NotCarried(f"file {path!r} of dispy_job_depends would lie outside of the job's folder")


def _is_same(path: str, source: IO[bytes], at: int, size: int) -> bool:
    """Tell whether a file has the content that begins there in *source*."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as there:
            if os.fstat(there.fileno()).st_size != size:
                return False
            source.seek(at)
            while size:
                count = min(size, COPY_BYTES)
                data = there.read(count)
                if not data or data != source.read(count):
                    return False
                size -= count
    except OSError:
        # A folder, a link, or what may not be read.
        return False
    return True


def _missing_folders(paths: list[str]) -> list[str]:
    missing = []
    for path in paths:
        folder = os.path.dirname(path)
        while folder and not os.path.lexists(folder) and folder not in missing:
            missing.append(folder)
            folder = os.path.dirname(folder)
    return missing


class _Locked:
    """Only one process of this runner at a time is within this context."""

    def __init__(self, spool: str) -> None:
        self._path = os.path.join(spool, "carried.lock")

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def _paths_of_others(spool: str, note: str) -> set[str]:
    own = os.path.basename(note)
    names = [name for name in os.listdir(spool) if name.endswith(NOTE) and name != own]
    return {path for name in names for path in _read_note(os.path.join(spool, name))[0]}


def _write_note(note: str, paths: list[str], folders: list[str]) -> None:
    with open(note, "w") as file:
        json.dump([paths, folders], file)


def _read_note(note: str) -> tuple[list[str], list[str]]:
    try:
        with open(note) as file:
            paths, folders = json.load(file)
    except (OSError, ValueError):
        # Its job was killed while it wrote this, and has placed nothing yet.
        return [], []
    return paths, folders


def _try(remove: Any, path: str) -> None:
    try:
        remove(path)
    except OSError:
        # The job has removed it itself, or has put something into the folder, which stays as what jobs make does.
        return
