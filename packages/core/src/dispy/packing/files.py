"""Files that a computation or job brings along, and the places they get at the node."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dispy.engine.records import SourceFile
from dispy.errors import UsageError
from dispy.model import RESUMABLE_BYTES
from dispy.places import relative_path
from dispy.sizes import too_large


class BadName(UsageError):
    """A file has a name that no node takes."""


class Files:
    """Collects files; each has a path of its own below the computation's folder at the node.

    Args:
        folder: the client's folder: a file below it keeps its relative path, any other goes to the top under its
            base name.
        max_bytes: size of the largest that is taken; 0 for no limit.
        others: files that lie there too.
    """

    def __init__(
        self, folder: str | None = None, *, max_bytes: int = 0, others: Iterable[SourceFile] = ()
    ) -> None:
        self._folder = os.path.abspath(folder or os.getcwd())
        self._max_bytes = max_bytes
        self._files: dict[str, SourceFile] = {}
        self._folders: set[str] = set()
        for file in others:
            self._take(file)

    def add(self, path: str, place: str = "") -> SourceFile:
        """Take the file *path*, to lie at *place* (relative, with forward slashes) if that is given.

        Raises:
            BadName: its name is none for a node.
            UsageError: it is not a file that can be read, it is too large, or another file has its place already.
        """
        source = os.path.abspath(path)
        problem = _problem_with(source)
        if problem:
            raise UsageError(f"file {path!r} is not valid: {problem}")
        place = place or self._place_of(source)
        known = self._files.get(place)
        if known is not None:
            if known.source != source:
                raise UsageError(
                    f"files {known.source!r} and {source!r} would both be {place!r} at the node; "
                    "rename one, or run from a folder that holds both"
                )
            return known
        try:
            relative_path(place)
        except UsageError as error:
            raise BadName(f"file {path!r} cannot be sent: {error}; rename it") from error
        status = os.stat(source)
        problem = too_large(path, status.st_size, self._max_bytes, "max_file_size")
        if problem:
            raise UsageError(f"{problem}; raise that, or give its parts as files of their own")
        file = SourceFile(source, place, status.st_size, stat.S_IMODE(status.st_mode), status.st_mtime)
        self._take(file)
        return file

    def all(self) -> list[SourceFile]:
        """Return the files, in the order in which they came."""
        return list(self._files.values())

    def _take(self, file: SourceFile) -> None:
        place = file.path
        above = [place[:index] for index, char in enumerate(place) if char == "/"]
        blocked = next(
            (path for path in above if path in self._files), place if place in self._folders else ""
        )
        if blocked:
            raise UsageError(
                f"file {file.source!r} cannot be sent: {blocked!r} would be a file and a folder at the node; rename one"
            )
        self._folders.update(above)
        self._files[place] = file

    def _place_of(self, source: str) -> str:
        if source.startswith(self._folder.rstrip(os.sep) + os.sep):
            return os.path.relpath(source, self._folder).replace(os.sep, "/")
        return os.path.basename(source)


def with_digests(
    files: Sequence[SourceFile],
    *,
    all_files: bool,
    most_bytes: int | None = None,
    known: dict[SourceFile, bytes] | None = None,
) -> list[SourceFile]:
    """Return the files with hashes where these can be of use: for all, or else for large ones and those of equal size.

    Args:
        most_bytes: leave out larger ones; None: none.
        known: hashes of files that need not be read again, which is added to.

    Raises:
        UsageError: a file cannot be read.
    """
    sizes = Counter(file.size for file in files)

    def hashed(file: SourceFile) -> SourceFile:
        if file.digest or not (all_files or file.size >= RESUMABLE_BYTES or sizes[file.size] > 1):
            return file
        digest = None if known is None else known.get(file)
        if digest is None:
            if most_bytes is not None and file.size > most_bytes:
                return file
            digest = _digest(file)
            if known is not None:
                known[file] = digest
        return replace(file, digest=digest)

    return [hashed(file) for file in files]


def _digest(file: SourceFile) -> bytes:
    try:
        with open(file.source, "rb") as content:
            return hashlib.file_digest(content, "sha256").digest()
    except OSError as error:
        raise UsageError(f"file {file.source!r} is not valid: it cannot be read: {error.strerror}") from error


def _problem_with(source: str) -> str:
    if not os.path.exists(source):
        return "there is no such file"
    if not os.path.isfile(source):
        return (
            "it is not a file; name the files in it" if os.path.isdir(source) else "it is not a regular file"
        )
    if not os.access(source, os.R_OK):
        return "it may not be read; allow it with: chmod +r"
    return ""
