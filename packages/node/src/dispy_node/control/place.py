"""Where the socket of a node is, and who is at the other end of it."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAME = "control"
"""Name of the socket in the node's folder."""

MAX_PATH_BYTES = 100
"""Longest path of a socket that every system takes."""

_LINUX = struct.Struct("3i")
_BSD = struct.Struct("=2I")


@contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """Give a path of the socket in *folder* that is short enough for the system, however long that of the folder is.

    Raises:
        OSError: there is no such folder, or no short path to it on this system.
    """
    path = folder / NAME
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        yield str(path)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def peer_user(connection: socket.socket) -> int | None:
    """Tell which user is at the other end, as the system knows it; None if this system does not tell."""
    if hasattr(socket, "SO_PEERCRED"):
        data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _LINUX.size)
        return int(_LINUX.unpack(data)[1])
    if sys.platform == "darwin" or "bsd" in sys.platform:
        data = connection.getsockopt(0, 1, 128)  # LOCAL_PEERCRED: struct xucred begins with version and user
        return int(_BSD.unpack_from(data)[1])
    return None


def may_ask(user: int | None) -> bool:
    """Tell whether that user may ask our node: ourselves, and root. Whom the system cannot tell may not."""
    return user is not None and user in (os.geteuid(), 0)
