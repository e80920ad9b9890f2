"""Files that a computation brings along, and the places they get at the node."""

from __future__ import annotations

import os
import stat

from dispy.engine.records import SourceFile
from dispy.errors import UsageError


class Files:
    """Collects files; each has a path of its own below the computation's folder at the node.

    Args:
        folder: the client's folder: a file below it keeps its relative path, any other goes to the top under its
            base name.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._folder = os.path.abspath(folder or os.getcwd())
        self._files: dict[str, SourceFile] = {}

    def add(self, path: str, place: str = "") -> SourceFile:
        """Take the file *path*, to lie at *place* (relative, with forward slashes) if that is given.

        Raises:
            UsageError: it is not a file that can be read, or another file has its place already.
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
        status = os.stat(source)
        file = SourceFile(source, place, status.st_size, stat.S_IMODE(status.st_mode), status.st_mtime)
        self._files[place] = file
        return file

    def all(self) -> list[SourceFile]:
        """Return the files, in the order in which they came."""
        return list(self._files.values())

    def _place_of(self, source: str) -> str:
        if source.startswith(self._folder.rstrip(os.sep) + os.sep):
            return os.path.relpath(source, self._folder).replace(os.sep, "/")
        return os.path.basename(source)


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
