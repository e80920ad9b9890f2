"""Finds the nodes that run here, and asks them."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispy.errors import DispyError, UsageError
from dispy_node.control.place import NAME, may_ask, peer_user, short_path
from dispy_node.settings import NodeSettings, state_home

ANSWER_S = 10.0
"""How long a node may take to answer."""

END_S = 30.0
"""How long a node that was told to stop may take to end: it kills what runs, and removes its files."""

MAX_ANSWER_BYTES = 16 * 1024 * 1024


class NoSuchNode(DispyError):
    """No node of that kind runs here, or it does not answer."""


@dataclass(frozen=True, slots=True)
class Found:
    """A node that runs here: its folder, and what it says of itself."""

    folder: Path
    status: dict[str, Any]

    def __str__(self) -> str:
        where = ", ".join(self.status["addresses"])
        return f"{self.status['node']} ({where}; process {self.status['process']})"


def ask(folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the node of *folder*; return its answer.

    Raises:
        NoSuchNode: none answers there.
        UsageError: it refuses.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            with short_path(folder) as path:
                connection.connect(path)
            user = peer_user(connection)
            if not may_ask(user) and os.geteuid() != 0:
                raise NoSuchNode(f"who answers in {str(folder)!r} is user {user}: it is no node of yours")
            connection.sendall(json.dumps(request).encode() + b"\n")
            data = _read_line(connection)
    except OSError as error:
        raise NoSuchNode(f"no node answers in {str(folder)!r}: {error.strerror or error}") from error
    try:
        answer = json.loads(data)
    except ValueError:
        raise NoSuchNode(f"the node of {str(folder)!r} has ended before it answered") from None
    if "error" in answer:
        raise UsageError(answer["error"])
    return dict(answer)


def _read_line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < MAX_ANSWER_BYTES:
        part = connection.recv(65536)
        if not part:
            break
        data += part
    return data


def find_nodes(settings: NodeSettings, *, port_given: bool) -> list[Found]:
    """Find the nodes of this user that run and answer.

    Args:
        settings: port and prefix of the folder, as far as they were given.
        port_given: only the node with that port is meant.
    """
    found = []
    for folder in _folders(settings, port_given):
        try:
            found.append(Found(folder, ask(folder, {"do": "status"})))
        except NoSuchNode:
            continue  # what a node that was killed has left
    return found


def _folders(settings: NodeSettings, port_given: bool) -> list[Path]:
    if settings.dest_path_prefix or port_given:
        folder = settings.folder()
        return [] if folder is None else [folder]
    home = state_home()
    return [] if home is None else sorted(path.parent for path in home.glob(f"dispy/node-*/{NAME}"))


def choose_node(found: Sequence[Found], name: str) -> Found:
    """Return the node that is meant.

    Raises:
        NoSuchNode: there is none.
        UsageError: there are several.
    """
    named = [one for one in found if not name or one.status["node"] == name]
    if not named:
        others = f"; there are: {', '.join(map(str, found))}" if found else ""
        which = f"no node {name!r} of this user" if name else "no node of this user"
        raise NoSuchNode(
            f"{which} runs here{others or '; start one with `dispy node`, or name its --dest_path_prefix'}"
        )
    if len(named) > 1:
        listed = "".join(f"\n  {one}" for one in named)
        raise UsageError(f"several nodes run here; choose one with --dispy_port or --name:{listed}")
    return named[0]


def end_other(folder: Path) -> None:
    """End the node that uses *folder*, if there is one, with its jobs, and wait until it is gone.

    Raises:
        DispyError: it cannot be asked, or does not end.
    """
    if not _is_locked(folder):
        return
    ask(folder, {"do": "stop"})
    ends_at = time.monotonic() + END_S
    while _is_locked(folder):
        if time.monotonic() > ends_at:
            raise DispyError(f"the node that uses {str(folder)!r} does not end: end its process by hand")
        time.sleep(0.05)


def _is_locked(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
