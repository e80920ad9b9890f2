"""Files and folders that are for one user alone: keys, certificates, and what tells who somebody is.

What is read must belong to us and be closed to everybody else, and no link is followed to it. What is written is
closed from its first moment on, and appears under its name complete or not at all.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dispy.errors import CredentialsError
from dispy.parents import OTHERS_WRITE, check_parents

CONFIG_VARIABLE = "DISPY_CONFIG_DIR"

MAX_BYTES = 65536
"""Largest private file, unless told otherwise: a few certificates."""

LOCK_NAME = ".lock"
"""Name of the file by which a folder is locked; see `only_one`."""

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def config_folder() -> Path:
    """Return the folder of the user's keys; it need not exist.

    That is ``$DISPY_CONFIG_DIR``, else ``$XDG_CONFIG_HOME/dispy``, else ``~/.config/dispy``.

    Raises:
        CredentialsError: the variable holds no full path, or the user has no home folder.
    """
    given = os.environ.get(CONFIG_VARIABLE)
    if given:
        if not os.path.isabs(given):
            raise CredentialsError(f"{CONFIG_VARIABLE}={given!r} is no full path; start it with /")
        return Path(given)
    base = os.environ.get("XDG_CONFIG_HOME", "")
    if os.path.isabs(base):  # by the XDG specification, anything else is as good as unset
        return Path(base, "dispy")
    return Path(_home(), ".config", "dispy")


def _home() -> str:
    home = os.environ.get("HOME", "")
    if not home:
        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:  # usual in containers that run under any number
            home = ""
    if not os.path.isabs(home):
        raise CredentialsError(
            f"user {os.geteuid()} has no home folder to keep keys in; "
            f"set {CONFIG_VARIABLE} to a folder of this user"
        )
    return home


def make_private_folder(path: Path) -> None:
    """Make sure that there is a folder which nobody else can put files into, or put another one in place of.

    It and those above it that are missing are made for us alone (mode 0700).

    Raises:
        CredentialsError: it cannot be made, is a link or no folder, belongs to somebody else, or others can write
            into it or into one above it.
    """
    with _explained(f"cannot make the folder {str(path)!r}", "use a folder that you can write into"):
        check_parents(path)
        missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
        for folder in reversed(missing):
            try:
                os.mkdir(folder, 0o700)
            except FileExistsError:
                pass  # made by another process meanwhile; whether it is a good one is looked at below
        if missing:
            check_parents(path)
        found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise CredentialsError(
            f"{str(path)!r} is a link, which is not followed to a private folder; name the folder that it leads to"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise CredentialsError(f"{str(path)!r} is no folder; move it away, or use another folder")
    _check_owner(path, found, "folder")
    if found.st_mode & OTHERS_WRITE:
        raise CredentialsError(
            f"others can write into the folder {str(path)!r} (mode {stat.S_IMODE(found.st_mode):04o}); "
            f"run: chmod 700 {shlex.quote(str(path))}"
        )


def read_private(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return what is in a file that nobody else can read or change.

    Raises:
        CredentialsError: it is missing, cannot be read, is a link or no plain file, belongs to somebody else, others
            can read or change it, or it is larger than *max_bytes*.
    """
    # Without O_NONBLOCK, to open a named pipe would wait for somebody who writes into it.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    if os.path.islink(path):  # told apart from other troubles; O_NOFOLLOW is what keeps the promise
        raise CredentialsError(
            f"{str(path)!r} is a link, which is not followed to a secret; name the file that it leads to"
        )
    with _explained(f"cannot read the file {str(path)!r}", "name a file that is there and that you can read"):
        descriptor = os.open(path, flags)
        try:
            _check_file(path, os.fstat(descriptor))
            data = _read_all(descriptor, max_bytes + 1)
        finally:
            os.close(descriptor)
    if len(data) > max_bytes:
        raise CredentialsError(
            f"the file {str(path)!r} is larger than {max_bytes} bytes, so it is no key; name another one"
        )
    return data


def _read_all(descriptor: int, limit: int) -> bytes:
    data = b""
    while len(data) < limit and (part := os.read(descriptor, limit - len(data))):
        data += part
    return data


def _check_file(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CredentialsError(f"{str(path)!r} is no plain file; name another one")
    _check_owner(path, found, "file")
    if found.st_mode & OTHERS:
        raise CredentialsError(
            f"others can read or change the file {str(path)!r} (mode {stat.S_IMODE(found.st_mode):04o}), "
            f"so what is in it is no secret; run: chmod 600 {shlex.quote(str(path))}"
        )


def _check_owner(path: Path, found: os.stat_result, kind: str) -> None:
    if found.st_uid != os.geteuid():
        raise CredentialsError(
            f"the {kind} {str(path)!r} belongs to user {found.st_uid}, but this is user {os.geteuid()}; "
            f"use a {kind} of your own"
        )


def write_private(path: Path, data: bytes) -> None:
    """Put *data* into a file that is for us alone (mode 0600), in place of the one that may be there.

    The folder must exist. Whoever reads meanwhile gets the old file or the new one, never a part.

    Raises:
        CredentialsError: it cannot be written; the old file is as it was.
    """
    with (
        _explained(f"cannot write the file {str(path)!r}", "make room there, or use another folder"),
        _draft(path, data) as draft,
    ):
        os.replace(draft, path)
        _sync_folder(path.parent)


def create_private(path: Path, data: bytes) -> bool:
    """Put *data* into a file that is for us alone (mode 0600), unless one is there already.

    The folder must exist. Of several processes that do it at once, one succeeds.

    Returns:
        False if something is there already, whatever it is.

    Raises:
        CredentialsError: it cannot be written.
    """
    with (
        _explained(f"cannot make the file {str(path)!r}", "use a folder that you can write into"),
        _draft(path, data) as draft,
    ):
        try:
            os.link(draft, path, follow_symlinks=False)
        except FileExistsError:
            return False
        _sync_folder(path.parent)
    return True


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Let one process at a time, and one thread of it, change what is in a private folder; others wait.

    The folder must exist. It works by a file in it that the system unlocks when its holder dies.

    Raises:
        CredentialsError: the folder cannot be locked.
    """
    path = folder / LOCK_NAME
    with _explained(f"cannot lock the folder {str(folder)!r}", "use a folder that you can write into"):
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
    try:
        _check_file(path, os.fstat(descriptor))
        with _explained(f"cannot lock the folder {str(folder)!r}", "use a folder on a local disk"):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """Write a file next to *path* that is for us alone; what is left of it at the end is removed."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file outlast a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(what: str, remedy: str) -> Iterator[None]:
    """Raise the errors of the operating system as `CredentialsError`."""
    try:
        yield
    except OSError as error:
        raise CredentialsError(f"{what}: {error.strerror or error}; {remedy}") from error
