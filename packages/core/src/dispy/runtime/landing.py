"""A file that a job sends lands in the client's folder: below it, whole, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import uuid
from pathlib import Path

from dispy.errors import RemoteProtocolError, UsageError
from dispy.places import check_spelling, open_folder_for, relative_path
from dispy.wire.messages import News

MODE = 0o755
"""Permissions that a file may bring along: nobody else may write it, and it runs as nobody else."""


class Landing:
    """One file on its way.

    It is written under a name of its own and gets the one that it is meant for when it is whole, so that who reads
    meanwhile sees the former file or the new one; of two that come at once, the last counts.

    Args:
        folder: absolute path; nothing outside of it is touched.
        news: what the node says about the file.

    Raises:
        UsageError: its name leads elsewhere, or is a hidden one.
        OSError: it cannot be made.
    """

    def __init__(self, folder: str, news: News) -> None:
        path = relative_path(news.path)
        # Files by such names change what programs of the user do (.bashrc, .git/hooks) and are not looked at.
        if any(part.startswith(".") for part in path.parts):
            raise UsageError(f"file {news.path!r} would be hidden: choose a name without a dot in front")
        if not math.isfinite(news.modified_at):
            raise UsageError(f"file {news.path!r} cannot have the modification time {news.modified_at!r}")
        self._news = news
        self._path = path
        self._own_name = f".dispy-{uuid.uuid4().hex}"
        self._digest = hashlib.sha256()
        self._written = 0
        # The client's own folder may be reached by a link; what is below it may not.
        self._base = Path(os.path.realpath(folder))
        self._folder = open_folder_for(self._base, path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._file = os.open(self._own_name, flags, 0o600, dir_fd=self._folder)
        except BaseException:
            os.close(self._folder)
            raise

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append.

        Raises:
            OSError: the disk is full, or broken.
        """
        self._digest.update(data)
        view = memoryview(data)
        while view:
            count = os.write(self._file, view)
            self._written += count
            view = view[count:]

    def finish(self) -> None:
        """Give the file its name. Afterwards, or if that fails, nothing else is left of it.

        Raises:
            RemoteProtocolError: it is not what was announced.
            OSError: it cannot have that name: there is a folder, say.
            UsageError: its time of modification is beyond what the system counts, or its name is, to the file system
                here, that of another file.
        """
        news = self._news
        try:
            if self._written != news.size or self._digest.digest() != news.digest:
                raise RemoteProtocolError(f"file {news.path!r} of job {news.job} is not what was announced")
            os.fchmod(self._file, news.mode & MODE)
            try:
                os.utime(self._file, (news.modified_at, news.modified_at))
            except (OverflowError, ValueError) as error:
                raise UsageError(
                    f"file {news.path!r} cannot have the modification time {news.modified_at!r}"
                ) from error
            check_spelling(self._base, self._path)
            os.replace(self._own_name, self._path.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except BaseException:
            self.abandon()
            raise
        os.close(self._file)
        os.close(self._folder)

    def abandon(self) -> None:
        """Remove what has come so far."""
        os.close(self._file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._own_name, dir_fd=self._folder)
        os.close(self._folder)
