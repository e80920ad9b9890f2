"""What keeps the memory of a node from other processes of the same user, its jobs among them.

On Linux a process that is not dumpable has its memory, its environment and its descriptors in /proc closed to all but
root, cannot be traced, and leaves no core dump. What it starts is dumpable again as soon as another program is loaded.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys

SECRET_VARIABLE = "DISPY_SECRET"

PR_SET_DUMPABLE = 4
"""See prctl(2)."""

log = logging.getLogger("dispy.node")


def close_memory() -> None:
    """Have no other process look into this one, unless it is root's. Elsewhere than on Linux this does nothing."""
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0):
        reason = os.strerror(ctypes.get_errno())
        log.warning("jobs of the node's own user can read its memory, since prctl has failed: %s", reason)


def take_variable() -> str:
    """Return what ``DISPY_SECRET`` holds, and take it out of the environment; empty if it is not there.

    On Linux the text that the process was started with, which /proc shows, is overwritten where it stands.
    """
    secret = os.environ.get(SECRET_VARIABLE, "")
    if sys.platform.startswith("linux"):
        _wipe(f"{SECRET_VARIABLE}=".encode())
    os.environ.pop(SECRET_VARIABLE, None)
    return secret


def _wipe(start: bytes) -> None:
    """Overwrite the value of a variable in the C library's list, whose texts are those of the start of the process."""
    variables = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
    number = 0
    while variables and (address := variables[number]):
        text = ctypes.string_at(address)
        if text.startswith(start):
            ctypes.memset(address + len(start), 0, len(text) - len(start))
        number += 1
