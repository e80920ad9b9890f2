"""Places of files that peers name: below a folder, and reached without following any link."""

from __future__ import annotations

import contextlib
import errno
import os
import unicodedata
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


def check_spelling(folder: Path, path: PurePosixPath) -> None:
    """Check that a file is not about to take the place of one with another name.

    Some file systems (of macOS and Windows, mostly) take ``Data`` and ``data`` for one name.

    Args:
        folder: what *path* lies below; its folders are there.

    Raises:
        UsageError: the file that is there differs from *path* in capital and small letters.
        OSError: a folder cannot be opened.
    """
    here = os.open(folder, FOLDER_FLAGS)
    try:
        spelled = []
        for part in path.parts:
            spelled.append(_spelling_of(here, part))
            if len(spelled) < len(path.parts):
                there = os.open(part, FOLDER_FLAGS, dir_fd=here)
                os.close(here)
                here = there
    finally:
        os.close(here)
    if all(spelled) and tuple(spelled) != path.parts:
        raise UsageError(
            f"file {str(path)!r} would take the place of {'/'.join(spelled)!r}, as capital and small letters are "
            "the same to the file system: rename one"
        )


def _spelling_of(folder: int, name: str) -> str:
    """Tell how what is found under a name in an open folder is spelled there; nothing if it is not there."""
    found, swapped = _status(folder, name), _status(folder, name.swapcase())
    if found is None:
        return ""
    # To most file systems the other is another name, and there is no need to look at all that are there.
    if swapped is None or not os.path.samestat(found, swapped) or name == name.swapcase():
        return name
    names = os.listdir(folder)
    # Some file systems, besides, give letters with accents in another form.
    alike = {_plain(other): other for other in names}
    if name in names or _plain(name) in alike:
        return name
    return next(
        (other for plain, other in alike.items() if plain.casefold() == _plain(name).casefold()), name
    )


def _status(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        # Not there, or as good as that.
        return None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)
