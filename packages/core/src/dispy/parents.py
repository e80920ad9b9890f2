"""Whether somebody else could exchange a folder of ours: whoever can write into one above it can rename it.

The rule is that of ssh for its files: each folder on the way belongs to root or to us, and nobody else may write into
it. In a sticky folder, such as /tmp, others may, as there nobody can rename or remove what belongs to somebody else.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from pathlib import Path

from dispy.errors import CredentialsError

ROOT = 0

MAX_LINKS = 40
"""How many links are followed on the way, as by the kernel of Linux."""

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def check_parents(path: Path) -> None:
    """See that nobody else can exchange what is, or is to be, at *path*.

    Looks at each folder above it, from the root of the file system on, and at those that links on the way lead
    through; not at *path* itself. Folders that are missing are left to whoever makes them.

    Raises:
        CredentialsError: somebody else can; the message says how to mend it.
        OSError: a folder cannot be looked at, or the links never end.
    """
    here = Path("/")
    _check_folder(path, here, os.lstat(here))
    waiting = _reversed_parts(path.absolute().parent)
    links = 0
    while waiting:
        name = waiting.pop()
        if name == "..":
            here = here.parent  # it has been looked at on the way down
            continue
        step = here / name
        try:
            found = os.lstat(step)
        except FileNotFoundError:
            return
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            _check_owner(path, step, found, "link")
            target = Path(os.readlink(step))
            here = Path("/") if target.is_absolute() else here
            waiting += _reversed_parts(target)
        else:
            _check_folder(path, step, found)
            here = step


def _reversed_parts(path: Path) -> list[str]:
    return [name for name in reversed(path.parts) if name.strip("/")]


def _check_folder(path: Path, folder: Path, found: os.stat_result) -> None:
    _check_owner(path, folder, found, "folder")
    if found.st_mode & OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
        change = "+t" if found.st_mode & stat.S_IWOTH else "g-w"
        raise CredentialsError(
            f"others can write into the folder {str(folder)!r} (mode {stat.S_IMODE(found.st_mode):04o}), and so put "
            f"something else in the place of {str(path)!r}; run: chmod {change} {shlex.quote(str(folder))}"
        )


def _check_owner(path: Path, step: Path, found: os.stat_result, kind: str) -> None:
    if found.st_uid not in (ROOT, os.geteuid()):
        raise CredentialsError(
            f"the {kind} {str(step)!r}, through which {str(path)!r} is reached, belongs to user {found.st_uid}, but "
            f"this is user {os.geteuid()}; use a folder of your own"
        )
