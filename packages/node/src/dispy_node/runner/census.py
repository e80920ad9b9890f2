"""What the kernel tells in ``/proc`` about processes, and which are below which. Linux only.

Reading one process takes some 20 microseconds, and nothing is read that is not below the job in question: a machine
may have thousands of others.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

READ_BYTES = 4096
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Process:
    """A process at one moment.

    Attributes:
        parent, group, session: process ids.
        started: when, in ticks since the machine has started: with its id it names a process for ever.
        cpu_s: processors' time of it and of its children that it has waited for.
        resident_bytes: its pages in memory, shared or not.
    """

    __slots__ = ("cpu_s", "group", "parent", "resident_bytes", "session", "started")

    def __init__(self, fields: list[bytes]) -> None:
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.cpu_s = sum(map(int, fields[11:15])) / TICKS_PER_S
        self.started = int(fields[19])
        self.resident_bytes = int(fields[21]) * PAGE_BYTES


def read_process(pid: int) -> Process | None:
    """Look at a process; None if it is gone."""
    data = _read(f"/proc/{pid}/stat")
    # Before the last bracket stands its name, which may hold anything.
    return Process(data[data.rindex(b")") + 2 :].split()) if data else None


def find_tree(roots: Iterable[int], at_most: int) -> dict[int, Process]:
    """Find processes with all below them.

    Args:
        roots: ids; those that are gone are left out.
        at_most: it is enough to find one more than so many.
    """
    found: dict[int, Process] = {}
    waiting = list(roots)
    while waiting and len(found) <= at_most:
        pid = waiting.pop()
        process = None if pid in found else read_process(pid)
        if process is not None:
            found[pid] = process
            waiting += _children(pid)
    return found


def measure_share(pid: int) -> int | None:
    """Measure the memory of a process in bytes, where pages count by its share of them; None if that is not told.

    The kernel looks at each page for that: a millisecond for 100 MB.
    """
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return None


def _children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _read(path: str) -> bytes:
    """Read a file of the kernel's; empty if the process is gone, or not ours."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = piece = os.read(file, READ_BYTES)
        while len(piece) == READ_BYTES:
            piece = os.read(file, READ_BYTES)
            data += piece
    except OSError:
        # It has ended meanwhile.
        return b""
    finally:
        os.close(file)
    return data
