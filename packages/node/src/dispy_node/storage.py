"""The node's folder on disk: its lock, its identity, spool files, and one folder per computation.

    lock                 locked by the operating system while the node runs, so it frees itself when the node dies
    identity.json        who this node is, and how often it has started
    spool/               bodies of jobs and results that are too large for a message
    computations/<id>/   working folder of a computation's jobs

After a crash the next start removes what is left of spool and computations; nothing needs to be cleaned by hand.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import uuid
from pathlib import Path, PurePosixPath

from dispy.errors import DispyError, UsageError
from dispy.model import ComputationId, NodeId
from dispy_node.engine.records import Spooled

log = logging.getLogger("dispy.node")

MAX_PATH_BYTES = 1024
"""Longest relative path of a file that comes along with a computation; Linux allows 4096 for the whole path."""


class StorageError(DispyError):
    """The node's folder cannot be used; the message says what to do."""


def relative_path(text: str) -> PurePosixPath:
    """Check a path that came from a peer: it must stay below the folder it is meant for.

    Raises:
        UsageError: it is absolute, goes up, is empty or too long, or holds control characters.
    """
    parts = text.split("/")
    if (
        not text
        or len(os.fsencode(text)) > MAX_PATH_BYTES
        or any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts)
        or any(ord(char) < 32 or char in "\\\x7f" for char in text)
        or (len(parts[0]) == 2 and parts[0][1] == ":")
    ):
        raise UsageError(f"file name {text!r} is not a plain relative path")
    return PurePosixPath(text)


def explain_os_error(error: OSError, what: str) -> str:
    """Say in one line what could not be done and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: the disk of the node is full ({error.filename or 'spool'}); free some space there"
    return f"{what}: {error.strerror or error}"


def _remove_tree(folder: Path) -> None:
    """Remove a folder, also one that a job has made undeletable; log what stays."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        with contextlib.suppress(OSError):
            folder.chmod(0o700)
        for base, names, _files in os.walk(folder):
            for name in names:
                path = os.path.join(base, name)
                if not os.path.islink(path):
                    with contextlib.suppress(OSError):  # the removal below tells
                        os.chmod(path, 0o700)
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except (OSError, RecursionError) as error:
        log.warning("%s cannot be removed: %s", folder, error)


class SpoolWriter:
    """A spool file that is being written."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.written_bytes = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append.

        Raises:
            OSError: the disk is full, or broken.
        """
        view = memoryview(data)
        while view:
            count = os.write(self._descriptor, view)
            self.written_bytes += count
            view = view[count:]

    def finish(self) -> Spooled:
        """Close the file and hand it over."""
        os.close(self._descriptor)
        return Spooled(str(self.path), self.written_bytes)

    def abandon(self) -> None:
        """Close and remove the file."""
        os.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()


class StateFolder:
    """The folder of one node, locked while it is open.

    Attributes:
        node: identity of the node.
        epoch: how often a node has started on this folder, this start included.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = path / "spool"
        self.computations = path / "computations"
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(
                f"cannot use the folder {str(path)!r}: {error.strerror}; "
                "choose another with --dest-path-prefix"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 32, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise StorageError(
                f"the folder {str(path)!r} is used by another node (process {holder or 'unknown'}): "
                "stop that one, or choose another folder with --dest-path-prefix"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        self._clear_leftovers()
        self.node, self.epoch = self._next_identity()
        self._spooled = 0
        self._left: set[str] = set()
        """Names of folders of runners that have ended, in which results are still to be fetched."""
        self._trash: list[Path] = []

    def _clear_leftovers(self) -> None:
        for folder in (self.spool, self.computations):
            if folder.is_symlink():
                folder.unlink()
            _remove_tree(folder)
            folder.mkdir(mode=0o700, exist_ok=True)

    def _next_identity(self) -> tuple[NodeId, int]:
        path = self.path / "identity.json"
        try:
            known = json.loads(path.read_text())
            node, epoch = NodeId(str(known["node"])), int(known["epoch"]) + 1
        except (OSError, ValueError, KeyError, TypeError):
            # None yet, or half written by a crash: a new node is what others will see.
            node, epoch = NodeId(uuid.uuid4().hex), 1
        draft = path.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"node": node, "epoch": epoch}))
            draft.replace(path)
        except OSError as error:
            raise StorageError(explain_os_error(error, f"cannot write {str(path)!r}")) from error
        return node, epoch

    def open_spool(self, size_bytes: int) -> SpoolWriter:
        """Start a spool file.

        Raises:
            OSError: it cannot be made.
        """
        self._spooled += 1
        return SpoolWriter(self.spool / f"in-{self._spooled}-{uuid.uuid4().hex[:8]}", size_bytes)

    def make_runner_spool(self) -> Path:
        """Make a folder for the large results of one runner: runners choose names by job, and clients number alike.

        Raises:
            OSError: it cannot be made.
        """
        folder = self.spool / f"runner-{uuid.uuid4().hex}"
        folder.mkdir(mode=0o700)
        return folder

    def leave_runner_spool(self, folder: Path) -> None:
        """Remove the folder of a runner that has ended, unless results in it are still to be fetched."""
        try:
            folder.rmdir()
            self._left.discard(folder.name)
        except OSError:  # not empty
            self._left.add(folder.name)

    def remove_spooled(self, spooled: Spooled) -> None:
        """Remove a spool file, which may be gone already; the last of an ended runner takes its folder along."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(spooled.path)
        folder = Path(spooled.path).parent
        if folder.name in self._left:
            self.leave_runner_spool(folder)

    def make_folder(self, computation: ComputationId) -> Path:
        """Make the folder of a computation, empty."""
        self.remove_folder(computation)
        folder = self.computations / computation
        folder.mkdir(mode=0o700)
        return folder

    def place_file(self, folder: Path, text: str, spooled: Spooled, mode: int, modified_at: float) -> None:
        """Move a spool file to its place below a computation's folder.

        Raises:
            UsageError: the path leads elsewhere, or the time is none.
            OSError: it cannot be placed.
        """
        target = folder / relative_path(text)
        # The folder is fresh and only this process writes into it now, so no link can lie on the way.
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(spooled.path, target)
        os.chmod(target, mode & 0o755 | 0o600)
        try:
            os.utime(target, (modified_at, modified_at))
        except (ValueError, OverflowError) as error:  # not a number, or beyond what the system counts
            raise UsageError(f"file {text!r} cannot have the modification time {modified_at!r}") from error

    def remove_folder(self, computation: ComputationId) -> None:
        """Put away the folder of a computation with all that jobs have left there; `empty_trash` removes it.

        To remove it may take minutes, but it gets out of the way at once.
        """
        # In the same folder, since a job may have made its own one unwritable, which then cannot move elsewhere.
        trash = self.computations / f".removed-{uuid.uuid4().hex}"
        try:
            (self.computations / computation).rename(trash)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s", explain_os_error(error, f"the folder of {computation} cannot be put away"))
            return
        self._trash.append(trash)

    def empty_trash(self) -> None:
        """Remove the folders that were put away. It may take long, and may run in another thread."""
        while self._trash:
            _remove_tree(self._trash.pop())

    def close(self) -> None:
        """Remove what belongs to this run, and unlock the folder."""
        for folder in (self.spool, self.computations):
            _remove_tree(folder)
        os.close(self._lock)
