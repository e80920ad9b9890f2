"""Jobs see a read-only system, their own folder and nothing of the owner's: a sandbox by bubblewrap, see bwrap(1).

Inside there are no other processes, no home folder, no keys, no state of the node, no sockets in /run, empty temporary
folders, and no network, unless ``net=yes`` lets them have that of the machine: with it they reach all that listens on
loopback, and sockets of other processes that have an abstract name. The runner itself needs none, as it talks with the
node through a socket that it inherits. Python, dispy and what else is on the import path are put back where all that
hides them.
"""

from __future__ import annotations

import dataclasses
import os
import pwd
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from dispy.errors import UsageError
from dispy.interfaces import API_VERSION, Executor, ExecutorPlan, ExecutorRequest
from dispy.private import config_folder
from dispy_node.confine.accounts import find_account

TEMPORARY = ("/tmp", "/var/tmp", "/run")
"""Folders that are empty in the sandbox; with sockets in the last one jobs could command the system's services."""

RESOLVER = "/etc/resolv.conf"
"""Where name servers are found; often a link into /run."""


class BubblewrapExecutor(Executor):
    """``--confine bubblewrap``, or ``--confine bubblewrap:net=yes``."""

    NAME: ClassVar[str] = "bubblewrap"
    API_VERSION: ClassVar[int] = API_VERSION
    WRAPS: ClassVar[bool] = True
    OPTIONS: ClassVar[frozenset[str]] = frozenset({"net"})

    def check(self, request: ExecutorRequest) -> None:
        """See that the program is there.

        Raises:
            UsageError: it is not, or the option makes no sense.
        """
        _find_program()
        _wants_net(request)

    def plan(self, request: ExecutorRequest) -> ExecutorPlan:
        """Run it in a sandbox."""
        assert request.inner is not None
        net = ["--share-net"] if _wants_net(request) else []
        options = ["--unshare-all", *net, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
        sandbox = [_find_program(), *options, *_mounts(request), "--chdir", str(request.folder), "--"]
        return dataclasses.replace(request.inner, command=[*sandbox, *request.inner.command])


def _find_program() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise UsageError(
            "--confine bubblewrap needs the program bwrap, which is not here; "
            "install it with: apt-get install bubblewrap (or dnf install bubblewrap)"
        )
    return found


def _wants_net(request: ExecutorRequest) -> bool:
    wanted = request.options.get("net", "no")
    if wanted not in ("yes", "no"):
        raise UsageError(
            f"--confine bubblewrap:net={wanted} is neither yes nor no; write net=yes or leave it out"
        )
    return wanted == "yes"


def _mounts(request: ExecutorRequest) -> list[str]:
    """Tell what is where; of two that overlap, the later one counts."""
    inner = request.inner
    assert inner is not None
    # Private is what holds keys, and what belongs to other computations; it is hidden even below what is put back.
    private = [path for path in (_real(config_folder()), _real(request.state)) if path.is_dir()]
    emptied = [path for path in (*map(_real, TEMPORARY), *_homes(inner.user)) if path.is_dir()]
    hidden = [*emptied, *private]
    parts = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for path in sorted(emptied):
        parts += ["--tmpfs", str(path)]
    for path in _needed():
        inside = any(folder in path.parents for folder in hidden)
        if inside and not any(path in (folder, *folder.parents) for folder in emptied):
            parts += ["--ro-bind", str(path), str(path)]
    for path in sorted(private):
        parts += ["--tmpfs", str(path)]
    for path in () if inner.user else map(_real, request.secrets):  # another user cannot read them anyway
        if path.exists():
            parts += ["--ro-bind", os.devnull, str(path)]
    for path in (request.folder, request.spool):
        parts += ["--bind", str(path), str(path)]
    return parts


def _homes(user: str) -> Iterable[Path]:
    """Give the home folders of the node's user, of the jobs' user, and of root."""
    named = [os.environ.get("HOME", ""), pwd.getpwuid(0).pw_dir]
    try:
        named.append(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:  # usual in containers that run under any number
        pass
    if user:
        named.append(find_account(user).home)
    homes = {_real(name) for name in named if os.path.isabs(name)}
    return homes - {Path("/")}  # the home of some accounts of services, which cannot be hidden


def _needed() -> list[Path]:
    """List what Python and dispy are made of, and the resolver's file; outer folders first."""
    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, RESOLVER]
    # The first one is where the node's program lies, or the folder in which it was started.
    places += sys.path if sys.flags.safe_path else sys.path[1:]
    paths = {Path(place) for place in places if os.path.isabs(place) and os.path.exists(place)}
    # Links lead to the same name inside, which must be there as well.
    return sorted(paths | {_real(path) for path in paths})


def _real(path: Path | str) -> Path:
    return Path(path).resolve()
