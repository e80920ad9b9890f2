"""Data that jobs share: files in the private folder of the runner, which each job maps rather than reads.

The body of a job that refers to any is a pickle of ``((pickle, buffers), None)`` in place of one of ``(args, kwargs)``.
The inner pickle has out-of-band buffers, of which *buffers* tells the data in order, and persistent ids:

    number                            what the application has put there, see below
    ("bytes", number)                 that data, as bytes
    ("bytearray", number, index)      that data, as a bytearray; one for each index

What an application has put there is a container: magic, count of entries, then offset and size of each; the last entry
is a pickle and the others are its out-of-band buffers. It is mapped read-only. All other data is just bytes, and
mapped so that what a job writes is its own.
"""

from __future__ import annotations

import io
import os
import struct

from dispy_node.runner.bare import Unpickler, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAGIC = b"DSP1"
HEAD = struct.Struct("<4sI")
ENTRY = struct.Struct("<QQ")


def shared_name(number: int) -> str:
    """Name the file for shared data inside the private folder of the runner."""
    return f"shared-{number}"


def load_arguments(
    data: bytes, buffers: list[int], folder: str
) -> tuple[tuple[object, ...], dict[str, object]]:
    """Unpickle the arguments of a job.

    Args:
        data: the inner pickle.
        buffers: which shared data each of its buffers is, in order.
        folder: the private folder of the runner.

    Raises:
        LookupError: shared data is not there.
        BaseException: whatever the classes of the arguments raise.
    """
    views = [_map(folder, number, writable=True) for number in buffers]
    args, kwargs = _ArgumentUnpickler(data, views, folder).load()
    return args, kwargs


class _ArgumentUnpickler(Unpickler):
    def __init__(self, data: bytes, views: list[memoryview], folder: str) -> None:
        super().__init__(io.BytesIO(data), buffers=views)
        self._folder = folder
        self._known: dict[object, object] = {}

    def persistent_load(self, pid: Any) -> object:
        if pid not in self._known:
            self._known[pid] = self._load(pid)
        return self._known[pid]

    def _load(self, pid: Any) -> object:
        if isinstance(pid, int):
            return _load_container(_map(self._folder, pid, writable=False))
        kind, number, *_ = pid
        return _read(self._folder, number, kind)


def _load_container(view: memoryview) -> object:
    magic, count = HEAD.unpack_from(view)
    if magic != MAGIC:
        raise ValueError("shared data is damaged")
    entries = [ENTRY.unpack_from(view, HEAD.size + ENTRY.size * index) for index in range(count)]
    *buffers, pickled = [view[offset : offset + size] for offset, size in entries]
    return loads(pickled, buffers=buffers)


def _open(folder: str, number: int) -> int:
    try:
        return os.open(os.path.join(folder, shared_name(number)), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise LookupError(f"shared data number {number} is not at the node (any more)") from error


def _read(folder: str, number: int, kind: str) -> bytes | bytearray:
    """Read a file whose bytes are copied anyway; to map it first would be slower."""
    with open(_open(folder, number), "rb", buffering=0) as file:
        if kind == "bytes":
            return file.read()
        content = bytearray(os.fstat(file.fileno()).st_size)
        view, got = memoryview(content), 0
        while got < len(content):
            count = file.readinto(view[got:])
            if not count:
                raise ValueError("shared data is damaged")
            got += count
        return content


def _map(folder: str, number: int, *, writable: bool) -> memoryview:
    """Map a file; what is written to it is seen by this process only."""
    from mmap import ACCESS_COPY, ACCESS_READ, mmap

    descriptor = _open(folder, number)
    try:
        return memoryview(mmap(descriptor, 0, access=ACCESS_COPY if writable else ACCESS_READ))
    finally:
        os.close(descriptor)
