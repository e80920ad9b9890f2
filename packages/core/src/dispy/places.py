"""Places of files that peers name: below a folder, and reached without following any link."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from dispy.errors import UsageError
from dispy.logger import logger

MAX_PATH_BYTES = 1024
"""Longest relative path of a file; Linux allows 4096 for the whole path."""

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def relative_path(text: str) -> PurePosixPath:
    """Check a path that came from a peer: it must stay below the folder it is meant for.

    Raises:
        UsageError: it is absolute, goes up, is empty or too long, or holds control characters or lone surrogates.
    """
    parts = text.split("/")
    if (
        not text
        # No text of any language, and no peer of ours sends it.
        or any("\ud800" <= char <= "\udfff" for char in text)
        or len(os.fsencode(text)) > MAX_PATH_BYTES
        or any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts)
        or any(ord(char) < 32 or char in "\\\x7f" for char in text)
        or (len(parts[0]) == 2 and parts[0][1] == ":")
    ):
        raise UsageError(f"file name {text!r} is not a plain relative path")
    return PurePosixPath(text)


def shared_folder(dest_path: object) -> str:
    """Check the parameter ``dest_path``: a relative path, of one level or several.

    Raises:
        UsageError: it is no path, or one that would lead out of the node's folder.
    """
    text = os.fspath(dest_path) if isinstance(dest_path, os.PathLike) else dest_path
    if not isinstance(text, str):
        raise UsageError(f"dest_path must be a relative path, not {dest_path!r}")
    relative = text.lstrip("/")
    if relative != text:
        logger.warning("dest_path %r is taken as relative: %r", text, relative)
    try:
        return str(relative_path(relative.rstrip("/")))
    except UsageError as error:
        raise UsageError(f"dest_path {text!r} is not valid; give a relative path without '..'") from error


def open_folder_for(
    folder: Path, path: PurePosixPath, *, mode: int = 0o777, made: Callable[[int], None] | None = None
) -> int:
    """Open the folder of a file below *folder*, step by step, and make what is missing; no link is followed.

    Args:
        mode: permissions of folders that are made, before the process's mask.
        made: called with the descriptor of each folder that was made.

    Raises:
        UsageError: there is something else on the way.
        OSError: it cannot be made or opened.
    """
    here = os.open(folder, FOLDER_FLAGS)
    try:
        for part in path.parts[:-1]:
            is_new = False
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, mode, dir_fd=here)
                is_new = True
            try:
                there = os.open(part, FOLDER_FLAGS, dir_fd=here)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):  # which of them depends on the system
                    raise
                raise UsageError(f"file {str(path)!r} cannot be placed: {part!r} is no folder") from error
            os.close(here)
            here = there
            if is_new and made is not None:
                made(here)
    except BaseException:
        os.close(here)
        raise
    return here
