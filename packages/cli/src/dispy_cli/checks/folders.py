"""Whether anybody else can get at folders of keys and of nodes."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from dispy.errors import DispyError
from dispy.parents import check_parents
from dispy_cli.checks.finding import Finding, Level, split_remedy


def check_folder(path: Path, what: str) -> list[Finding]:
    """See that a folder, if it is there, is ours, and that nobody else can write into it or exchange it.

    Args:
        what: "keys" or "nodes": what is kept in it.
    """
    name = f"folder of {what}"
    try:
        check_parents(path)
        found = os.lstat(path)
    except FileNotFoundError:
        return [Finding(name, Level.OK, f"{str(path)!r} is not there yet; it is made on first use")]
    except DispyError as error:
        return [Finding(name, Level.FAIL, *split_remedy(error))]
    except OSError as error:
        text = f"{str(path)!r} cannot be looked at: {error.strerror or error}"
        return [Finding(name, Level.FAIL, text, "use a folder of your own")]
    return [_check_found(path, found, name)]


def _check_found(path: Path, found: os.stat_result, name: str) -> Finding:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        return Finding(name, Level.FAIL, f"{str(path)!r} is no folder", "move it away")
    if found.st_uid != os.geteuid():
        text = f"{str(path)!r} belongs to user {found.st_uid}, but this is user {os.geteuid()}"
        return Finding(name, Level.FAIL, text, "use a folder of your own")
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        text = f"others can write into {str(path)!r} (mode {mode:04o})"
        return Finding(name, Level.FAIL, text, f"chmod 700 {shlex.quote(str(path))}")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        text = f"{str(path)!r} cannot be written into (mode {mode:04o})"
        return Finding(name, Level.FAIL, text, f"chmod 700 {shlex.quote(str(path))}")
    return Finding(name, Level.OK, f"{str(path)!r}, for this user alone to change (mode {mode:04o})")
