"""What the system knows of the user as whom jobs run."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from dispy.errors import UsageError


@dataclass(frozen=True, slots=True)
class Account:
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    """All groups, the first one (*gid*) included."""
    home: str
    shell: str


def find_account(name: str) -> Account:
    """Look up a user.

    Raises:
        UsageError: there is none of this name.
    """
    try:
        found = pwd.getpwnam(name)
    except KeyError as error:
        raise UsageError(
            f"this machine has no user {name!r}; add one with: useradd --system --create-home {name}"
        ) from error
    groups = tuple(os.getgrouplist(name, found.pw_gid))
    return Account(name, found.pw_uid, found.pw_gid, groups, found.pw_dir, found.pw_shell)


def find_closed_folder(account: Account, path: Path) -> Path | None:
    """Return the topmost folder on the way to *path*, links followed, that the user may not pass; None if none is."""
    real = path.resolve()
    for folder in reversed(real.parents):
        try:
            status = folder.stat()
        except OSError:
            return folder
        if not _may_pass(account, status):
            return folder
    return None


def _may_pass(account: Account, status: os.stat_result) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid in account.groups:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
