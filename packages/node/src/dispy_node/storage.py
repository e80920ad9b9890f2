"""The node's folder on disk: its lock, its identity, spool files, and one folder per computation.

    lock                 locked by the operating system while the node runs, so it frees itself when the node dies
    identity.json        who this node is, how it shows that, and how often it has started
    spool/               bodies of jobs and results that are too large for a message
    computations/<id>/   working folder of a computation's jobs
    kept/                folders that computations share, see `dispy_node.keeping`

After a crash the next start removes what is left of spool and computations; nothing needs to be cleaned by hand.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import shutil
import uuid
from pathlib import Path

from dispy.errors import CredentialsError, DispyError, UsageError
from dispy.model import ComputationId, NodeId
from dispy.parents import check_parents
from dispy.places import FOLDER_FLAGS, check_spelling, open_folder_for, relative_path
from dispy.private import make_private_folder, write_private
from dispy.wire.owner import SECRET_BYTES
from dispy_node.confine.accounts import Account, find_account
from dispy_node.engine.records import Spooled
from dispy_node.keeping import PASSABLE, KeptFolders

log = logging.getLogger("dispy.node")

IDENTITY_BYTES = 4096
"""More than an identity takes."""


class StorageError(DispyError):
    """The node's folder cannot be used; the message says what to do."""


def explain_os_error(error: OSError, what: str) -> str:
    """Say in one line what could not be done and what to do about it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{what}: the disk of the node is full ({error.filename or 'spool'}); free some space there"
    return f"{what}: {error.strerror or error}"


def _remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("%s", explain_os_error(error, f"{path} cannot be removed"))


def _remove_tree(folder: Path) -> None:
    """Remove a folder, also one that a job has made undeletable; log what stays."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return
        # No mode stops root, who must not change what jobs of another user could put there meanwhile.
        if os.geteuid() != 0:
            _open_folders(folder)
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except (OSError, RecursionError) as error:
        log.warning("%s cannot be removed: %s", folder, error)


def _open_folders(folder: Path) -> None:
    """Let us into a folder and all those below it, as far as they are ours; whoever removes them then tells."""
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
    for base, names, _files in os.walk(folder):
        for name in names:
            path = os.path.join(base, name)
            if not os.path.islink(path):
                with contextlib.suppress(OSError):
                    os.chmod(path, 0o700)


def _make_way(path: Path) -> None:
    """Make the folders above one that are missing: others may pass through them, if jobs run as another user.

    Raises:
        CredentialsError: somebody else could exchange them.
    """
    check_parents(path)
    missing = [folder for folder in path.parents if not os.path.lexists(folder)]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another node has been faster
            os.mkdir(folder, 0o711)


def _open_lock(folder: Path) -> int:
    """Close a folder to others' eyes, which an earlier `StateFolder.hand_over` has opened, and open its lock."""
    descriptor = os.open(folder, FOLDER_FLAGS)
    try:
        os.fchmod(descriptor, 0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open("lock", flags, 0o600, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


class SpoolWriter:
    """A spool file that is being written.

    Args:
        begun_bytes: the file is there, with so many bytes, and is gone on with; 0: it is made.
    """

    def __init__(self, path: Path, size_bytes: int, begun_bytes: int = 0) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.written_bytes = begun_bytes
        flags = os.O_APPEND if begun_bytes else os.O_CREAT | os.O_EXCL
        self._descriptor = os.open(path, os.O_WRONLY | flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

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
        """Close and remove the file; if that fails, say so: whoever calls this has more to clean up."""
        os.close(self._descriptor)
        _remove_file(str(self.path))


class StateFolder:
    """The folder of one node, locked while it is open.

    Attributes:
        node: identity of the node.
        epoch: how often a node has started on this folder, this start included.
        secret: what only this node has, by which it shows clients that it is the one that they know.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spool = path / "spool"
        self.computations = path / "computations"
        try:
            _make_way(path)
            make_private_folder(path)
            self._lock = _open_lock(path)
        except CredentialsError as error:
            raise StorageError(f"{error}; or choose another folder with --dest-path-prefix") from error
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
        try:
            self._clear_leftovers()
            self.kept = KeptFolders(path / "kept")
            self.node, self.epoch, self.secret = self._next_identity()
        except CredentialsError as error:
            os.close(self._lock)
            raise StorageError(str(error)) from error
        self._spooled = 0
        self._trash: list[Path] = []

    def _clear_leftovers(self) -> None:
        for folder in (self.spool, self.computations):
            if folder.is_symlink():
                folder.unlink()
            _remove_tree(folder)
            make_private_folder(folder)

    def _next_identity(self) -> tuple[NodeId, int, bytes]:
        path = self.path / "identity.json"
        try:
            with open(path, "rb", opener=_open_no_link) as file:
                known = json.loads(file.read(IDENTITY_BYTES))
            node, epoch = NodeId(str(known["node"])), int(known["epoch"]) + 1
            secret = bytes.fromhex(known["secret"])
            if len(secret) != SECRET_BYTES:
                raise ValueError(f"a secret of {len(secret)} bytes")
        except (OSError, ValueError, KeyError, TypeError):
            # None yet, or half written by a crash: a new node is what others will see.
            node, epoch, secret = NodeId(uuid.uuid4().hex), 1, secrets.token_bytes(SECRET_BYTES)
        write_private(path, json.dumps({"node": node, "epoch": epoch, "secret": secret.hex()}).encode())
        return node, epoch, secret

    def open_spool(self, size_bytes: int) -> SpoolWriter:
        """Start a spool file.

        Raises:
            OSError: it cannot be made.
        """
        self._spooled += 1
        return SpoolWriter(self.spool / f"in-{self._spooled}-{uuid.uuid4().hex}", size_bytes)

    def reopen_spool(self, begun: Spooled, size_bytes: int) -> SpoolWriter:
        """Go on with a spool file.

        Raises:
            OSError: it cannot be opened.
        """
        return SpoolWriter(Path(begun.path), size_bytes, begun.size)

    def make_runner_spool(self) -> Path:
        """Make a folder for the large results of one runner: runners choose names by job, and clients number alike.

        Raises:
            OSError: it cannot be made.
        """
        folder = self.spool / f"runner-{uuid.uuid4().hex}"
        folder.mkdir(mode=0o700)
        return folder

    def remove_runner_spool(self, folder: Path) -> None:
        """Put away the folder of a runner that has ended, with results that it did not come to tell."""
        self._trash.append(folder)

    def hand_over(self, user: str, *folders: Path) -> None:
        """Give folders in this one, with all that is in them, to the user as whom jobs run; no name means ours.

        Other users can then pass through this folder, but list or read nothing else in it.

        Raises:
            UsageError: there is no such user.
            OSError: the owner cannot be changed.
        """
        if not user:
            return
        account = find_account(user)
        for passed in (self.path, self.spool, self.computations):
            passed.chmod(PASSABLE)
        for folder in folders:
            # The folder itself is last: as long as it is ours, nobody can exchange what is in it.
            for base, _names, files in os.walk(folder, topdown=False):
                for path in (*(os.path.join(base, name) for name in files), base):
                    os.chown(path, account.uid, account.gid, follow_symlinks=False)

    def remove_spooled(self, spooled: Spooled) -> None:
        """Remove a spool file, which may be gone already; if that fails, say so. No link or daemon ends for it: jobs
        can put something else in the place of a result."""
        _remove_file(spooled.path)

    def make_folder(self, computation: ComputationId) -> Path:
        """Make the folder of a computation, empty."""
        self.remove_folder(computation)
        folder = self.computations / computation
        folder.mkdir(mode=0o700)
        return folder

    def place_file(
        self,
        folder: Path,
        text: str,
        spooled: Spooled,
        mode: int,
        modified_at: float,
        *,
        account: Account | None = None,
    ) -> None:
        """Move a spool file to its place below a computation's folder.

        Args:
            account: to whom the file, and folders that are made for it, are to belong; None: to us.

        Raises:
            UsageError: the path leads elsewhere, or to what has another name, or the time is none.
            OSError: it cannot be placed.
        """
        path = relative_path(text)

        def give(descriptor: int) -> None:
            if account is not None:
                os.fchown(descriptor, account.uid, account.gid)

        # All is done to the file before it is where jobs may be at work, and by its descriptor.
        descriptor = os.open(spooled.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            give(descriptor)
            os.fchmod(descriptor, mode & 0o755 | 0o600)
            os.utime(descriptor, (modified_at, modified_at))
        except (ValueError, OverflowError) as error:  # not a number, or beyond what the system counts
            raise UsageError(f"file {text!r} cannot have the modification time {modified_at!r}") from error
        finally:
            os.close(descriptor)
        place = open_folder_for(folder, path, mode=0o700, made=give)
        try:
            check_spelling(folder, path)
            os.replace(spooled.path, path.name, dst_dir_fd=place)
        finally:
            os.close(place)

    def remove_folder(self, computation: ComputationId) -> None:
        """Put away the folder of a computation with all that jobs have left there; `empty_trash` removes it.

        To remove it may take minutes, but it gets out of the way at once. One that is shared stays as long as it is
        used, or if files in it are to stay.
        """
        try:
            put_away = self.kept.leave(computation)
            if put_away is not None:
                self._trash.append(put_away)
        except OSError as error:
            log.warning("%s", explain_os_error(error, f"the folder of {computation} cannot be put away"))
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
