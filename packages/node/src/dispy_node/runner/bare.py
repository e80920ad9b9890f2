"""The small inner halves of standard modules.

``json``, ``pickle``, ``signal``, ``socket`` and ``ctypes`` are thick Python modules around C modules. Together
they take 15 ms of start-up and 2 MB, and both are paid again: the megabytes at every fork. The runner needs the
C halves only, which have been the same in every CPython it supports; where one is missing, its public module
stands in. Even C modules are not free: each that is a library of its own makes every fork 1 % dearer, because the
kernel copies five mappings more.
"""

from __future__ import annotations

import os
import select
import sys

try:
    from _pickle import Unpickler, dumps, load, loads
except ImportError:
    from pickle import Unpickler, dumps, load, loads

try:
    import _signal as signals  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    import signal as signals

try:
    import _socket as sockets
except ImportError:
    import socket as sockets  # type: ignore[no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Poll(Protocol):
        """What the runner uses of `select.epoll`."""

        def register(self, fd: int, eventmask: int, /) -> None: ...
        def unregister(self, fd: int, /) -> None: ...
        def modify(self, fd: int, eventmask: int, /) -> None: ...
        def poll(self, timeout: float, /) -> list[tuple[int, int]]: ...
        def fileno(self) -> int: ...


__all__ = [
    "Libc",
    "Unpickler",
    "channel",
    "dumps",
    "load",
    "loads",
    "open_poll",
    "parse_json",
    "signals",
    "sockets",
]

READABLE = 0x001
"""Bit of a reported event: the same number for epoll and poll, as the next ones."""
WRITABLE = 0x004

SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
KILL_WITH_PARENT = (1, 9, 0, 0, 0)
"""PR_SET_PDEATHSIG of prctl(2), SIGKILL."""


def parse_json(text: str) -> object:
    """Read JSON as `json.loads` does, without the regular expressions that ``json`` imports.

    Raises:
        ValueError: *text* is not JSON.
    """
    try:
        from _json import make_scanner
    except ImportError:
        import json

        return json.loads(text)
    try:
        value, end = make_scanner(_ScannerOptions())(text.strip(), 0)  # type: ignore[arg-type]
    except StopIteration as error:
        raise ValueError(f"not JSON: {text[:80]!r}") from error
    if end != len(text.strip()):
        raise ValueError(f"not JSON from character {end} on: {text[:80]!r}")
    return value


class _ScannerOptions:
    """What a `json.JSONDecoder` without arguments hands to the C scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def channel() -> tuple[int, int]:
    """Make a connected pair of stream sockets, as plain descriptors that no executed program inherits."""
    first, second = sockets.socketpair()
    return first.detach(), second.detach()


class _PlainPoll:
    """`select.poll` with the interface of `select.epoll`, for systems without epoll."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register = self._poll.register
        self.unregister = self._poll.unregister
        self.modify = self._poll.modify

    def poll(self, timeout_s: float) -> list[tuple[int, int]]:
        return self._poll.poll(None if timeout_s < 0 else timeout_s * 1000)

    def fileno(self) -> int:
        return -1


def open_poll() -> Poll:
    """Open what reports readiness of descriptors; timeouts are in seconds, negative for none."""
    if hasattr(select, "epoll"):
        return select.epoll()
    return _PlainPoll()


class Libc:
    """C functions that no standard module offers.

    Called by way of ``_ctypes``: the public ``ctypes`` costs 4 ms and half a megabyte more. Even so it makes forks 3 %
    dearer, so it is loaded when it is first needed. Where it cannot be had, nothing happens and the methods say so.
    """

    def __init__(self) -> None:
        self._loaded = False
        self._fflush = self._prctl = self._setvbuf = 0

    def flush_all(self) -> None:
        """Write out the buffers of C's stdio: C extensions may have used printf."""
        self._load()
        if self._fflush:
            self._call(self._fflush, (None,))

    def buffer_lines(self, wanted: bool) -> None:
        """Have C's stdout written at the end of each line, or (not *wanted*) when its buffer is full; and now.

        Only where the C library is that of GNU, whose ``stdout`` can be reached without reading memory.
        """
        self._load()
        if self._setvbuf:
            self._call(self._setvbuf, (self._stdout, None, 0 if not wanted else 1, 0))
        if self._fflush:
            self._call(self._fflush, (None,))

    def become_subreaper(self) -> bool:
        """Become the parent of orphans below this process; tell whether the system can do that."""
        self._load()
        return bool(self._prctl) and self._call(self._prctl, (SUBREAPER, 1, 0, 0, 0)) == 0

    def die_with_parent(self, *, load: bool = False) -> bool:
        """Have the kernel kill this process when its parent ends; False if it cannot, or nothing is loaded yet.

        Args:
            load: load what is needed, where that costs no fork anything.
        """
        if load:
            self._load()
        return bool(self._prctl) and self._call(self._prctl, KILL_WITH_PARENT) == 0

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        try:
            from _ctypes import _SimpleCData, call_function, dlopen, dlsym

            class _Pointer(_SimpleCData):  # type: ignore[type-arg,unused-ignore]  # cannot be subscripted
                _type_ = "P"  # a plain number would be cut to the size of an int

            library = dlopen(None, os.RTLD_NOW)  # type: ignore[arg-type,unused-ignore]
            self._call = call_function
            self._fflush = dlsym(library, "fflush")
            if sys.platform == "linux":
                self._prctl = dlsym(library, "prctl")
                self._stdout = _Pointer(dlsym(library, "_IO_2_1_stdout_"))
                self._setvbuf = dlsym(library, "setvbuf")
        except (ImportError, OSError):
            # A Python without _ctypes, or a C library that hides its symbols. Then printf output of C code that
            # is still buffered when a job ends is lost, and detached processes are not found.
            return
