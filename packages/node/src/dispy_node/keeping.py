"""Folders that computations share, one after another or at the same time, and in which files may stay.

    kept/<key>/files/<dest_path>/    working folder of jobs; the key is made of the client and dest_path
    kept/<key>/keep                  there if the files are to stay; what it says is for people

Such a folder lies in no other one that jobs may write to. When the last computation that uses it has ended, it goes,
unless one of them wanted files to stay; what stayed from earlier ones stays in any case.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from dispy.errors import UsageError
from dispy.model import ComputationId
from dispy.places import FOLDER_FLAGS, open_folder_for, relative_path
from dispy.wire.messages import FileOffer

log = logging.getLogger("dispy.node")

MARK = "keep"

PASSABLE = 0o711
"""Permissions of the folders above: the user as whom jobs run may pass through, not look."""

FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(slots=True)
class _Stay:
    """A folder in use."""

    folder: Path
    before: frozenset[str] | None
    """What has stayed from earlier computations; None if nothing was to stay."""
    users: set[ComputationId] = field(default_factory=set)
    keep: bool = False


class KeptFolders:
    """The shared folders of a node.

    Args:
        root: where they are; what an earlier run of the node has left there and is not to stay is removed.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stays: dict[Path, _Stay] = {}
        if root.is_symlink():
            root.unlink()
        for top in root.iterdir() if root.is_dir() else ():
            if not os.path.lexists(top / MARK):
                shutil.rmtree(top, ignore_errors=True)

    def folder(self, owner: str, dest_path: str) -> Path:
        """Tell where a client's folder is, or would be.

        Raises:
            UsageError: *dest_path* is no relative path.
        """
        return self._top(owner, dest_path) / "files" / relative_path(dest_path)

    def enter(
        self,
        computation: ComputationId,
        owner: str,
        dest_path: str,
        *,
        keep: bool,
        made: Callable[[int], None],
    ) -> Path:
        """Have a computation use a folder, which is made if need be; return it.

        Args:
            keep: what is in it is to stay.
            made: called with the descriptor of the folder if it was made.

        Raises:
            UsageError: *dest_path* is no relative path, or something else is there.
            OSError: it cannot be made or read.
        """
        top, folder = self._top(owner, dest_path), self.folder(owner, dest_path)
        stay = self._stays.get(top)
        if stay is None:
            self._root.mkdir(mode=PASSABLE, exist_ok=True)
            self._root.chmod(
                PASSABLE
            )  # the folder above lets nobody pass but, if there is one, the jobs' user
            inner = PurePosixPath("files") / relative_path(dest_path)
            _make_folders(top, inner, made)
            was_kept = os.path.lexists(top / MARK)
            stay = _Stay(folder, frozenset(_walk(folder)) if was_kept else None)
            self._stays[top] = stay
        if keep:
            (top / MARK).write_text(f"{dest_path}\n{owner}\n")
            stay.keep = True
        stay.users.add(computation)
        return folder

    def leave(self, computation: ComputationId) -> Path | None:
        """Let go of the folder of a computation that has ended; return what is to be removed, out of the way already.

        Raises:
            OSError: it cannot be put away.
        """
        found = [(top, stay) for top, stay in self._stays.items() if computation in stay.users]
        if not found:
            return None
        top, stay = found[0]
        stay.users.discard(computation)
        if stay.users:
            return None
        del self._stays[top]
        if stay.keep:
            return None
        if stay.before is None:
            trash = self._root / f".removed-{uuid.uuid4().hex}"
            top.rename(trash)
            return trash
        _remove_others(stay.folder, stay.before)
        return None

    def _top(self, owner: str, dest_path: str) -> Path:
        key = hashlib.sha256(f"{owner}\0{dest_path}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
        return self._root / key


def find_files(folder: Path, offers: Sequence[FileOffer]) -> dict[str, str]:
    """Tell for which offers the content is in a folder: path -> path where it is, preferably the same.

    It reads every file that has the size of one of them. What cannot be read is not there.

    Raises:
        UsageError: an offer's path leads out of the folder.
    """
    for offer in offers:
        relative_path(offer.path)
    if not folder.is_dir():
        return {}
    wanted: dict[int, set[bytes]] = defaultdict(set)
    for offer in offers:
        wanted[offer.size].add(offer.digest)
    at: dict[bytes, list[str]] = defaultdict(list)
    for path, digest in _digests(folder, wanted):
        at[digest].append(path)
    return {
        offer.path: offer.path if offer.path in at[offer.digest] else at[offer.digest][0]
        for offer in offers
        if at[offer.digest]
    }


def _digests(folder: Path, wanted: Mapping[int, set[bytes]]) -> Iterable[tuple[str, bytes]]:
    for base, _folders, names, descriptor in os.fwalk(folder):
        for name in names:
            try:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode) or status.st_size not in wanted:
                    continue
                with open(os.open(name, FILE_FLAGS, dir_fd=descriptor), "rb") as file:
                    digest = hashlib.file_digest(file, "sha256").digest()
            except OSError as error:
                log.debug("%s in %s is not used again: %s", name, base, error.strerror)
                continue
            if digest in wanted[status.st_size]:
                yield os.path.relpath(os.path.join(base, name), folder), digest


def has_digest(path: str, digest: bytes) -> bool:
    """Tell whether the content of a file has this SHA-256.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest() == digest


def open_file(folder: Path, path: str) -> int:
    """Open a file of a folder for reading; no link is followed.

    Raises:
        UsageError: the path leads out of the folder.
        OSError: it cannot be opened.
    """
    relative = relative_path(path)
    place = open_folder_for(folder, relative)
    try:
        return os.open(relative.name, FILE_FLAGS, dir_fd=place)
    finally:
        os.close(place)


def _make_folders(top: Path, inner: PurePosixPath, made: Callable[[int], None]) -> None:
    """Make the folder *inner* below *top*; only the last is for jobs."""
    top.mkdir(mode=PASSABLE, exist_ok=True)
    top.chmod(PASSABLE)
    above = open_folder_for(
        top, inner, mode=PASSABLE, made=lambda descriptor: os.fchmod(descriptor, PASSABLE)
    )
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(inner.name, 0o700, dir_fd=above)
            descriptor = os.open(inner.name, FOLDER_FLAGS, dir_fd=above)
            try:
                made(descriptor)
            finally:
                os.close(descriptor)
        status = os.stat(inner.name, dir_fd=above, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            raise UsageError(f"dest_path {inner.name!r} is no folder at the node: use another one")
    finally:
        os.close(above)


def _walk(folder: Path) -> Iterable[str]:
    for base, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield os.path.relpath(os.path.join(base, name), folder)


def _remove_others(folder: Path, stays: frozenset[str]) -> None:
    """Remove what is in a folder except for what stays; log what cannot be removed."""
    for base, folders, names, descriptor in os.fwalk(folder, topdown=False):
        for name in (*names, *folders):
            if os.path.relpath(os.path.join(base, name), folder) in stays:
                continue
            try:
                is_folder = stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode)
                remove = os.rmdir if is_folder else os.unlink
                remove(name, dir_fd=descriptor)
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("%s in %s cannot be removed: %s", name, base, error.strerror)
