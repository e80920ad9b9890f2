"""Data that jobs of a cluster share: what `cluster.put` returns, and large arguments that are passed again.

An argument of `SHARED_BYTES` or more (bytes and bytearrays as arguments themselves, the buffers of arrays wherever they
are) is recognised by its content, since the caller may change it between two jobs. What is held cannot change: it is
bytes, or a copy that is made once.

How a job's arguments refer to shared data stands in `dispy_node.runner.shared`.
"""

from __future__ import annotations

import itertools
import pickle
import struct
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from dispy.errors import ClusterClosed, UsageError
from dispy.model import FilePart, Pieces, SharedData

SHARED_BYTES = 1024 * 1024
"""From this size on, to look for an argument among those that nodes have costs less than to send it."""

BUFFER_BYTES = 4096
"""Buffers of this size or more stand by themselves in what `cluster.put` sends, to be mapped."""

ALIGNMENT = 64
"""Buffers begin at multiples of this: what any processor wants for vectors."""

COMPARED_MAX = 8
"""An argument is compared with so many of the latest of its size. That is much faster than to make a digest, the more
so if they differ, which mostly shows early."""

MAGIC = b"DSP1"
HEAD = struct.Struct("<4sI")
ENTRY = struct.Struct("<QQ")


class NeedsSharing(UsageError):
    """What is to be pickled has, or is, shared data; only arguments of jobs can."""


class SharedRef:
    """Shared data of a cluster: passed as an argument of its jobs, or inside one, it arrives as the object itself.

    It is released by `release`, when nothing refers to this any more, and when the cluster is closed.

    Attributes:
        size: bytes that each node gets once.
    """

    __slots__ = ("__weakref__", "_data", "_finalizer", "_sharer", "size")

    def __init__(self, data: SharedData, sharer: Sharer) -> None:
        self._data: SharedData | None = data
        self._sharer = sharer
        self.size = data.size
        self._finalizer = weakref.finalize(self, sharer.on_release, data.id)
        self._finalizer.atexit = False

    def release(self) -> None:
        """Let go of the data: it cannot be passed any more; jobs that were submitted with it keep it."""
        self._data = None
        self._finalizer()

    def get_data(self, sharer: Sharer) -> SharedData:
        """Return what jobs of the cluster with this *sharer* need.

        Raises:
            UsageError: it belongs to another cluster, or was released.
        """
        if self._sharer is not sharer:
            raise UsageError("shared data of another cluster was passed: put it into this cluster too")
        data = self._data
        if data is None:
            raise UsageError("shared data was passed after it was released: put it again")
        return data

    def __reduce__(self) -> Any:
        """Refuse to be pickled where it would lead nowhere."""
        raise NeedsSharing(
            "shared data can be passed only in arguments of jobs of its cluster: pass the object itself"
        )

    def __repr__(self) -> str:
        state = "released" if self._data is None else f"{self.size} bytes"
        return f"<SharedRef {state}>"


class Sharer:
    """The shared data of one cluster. Safe to use from several threads.

    Args:
        on_release: told the number of data that somebody has put there and nobody will pass any more.
    """

    def __init__(self, on_release: Callable[[int], object]) -> None:
        self.on_release = on_release
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._refs: weakref.WeakSet[SharedRef] = weakref.WeakSet()
        self._closed = False
        self._alive: weakref.WeakValueDictionary[int, SharedData] = weakref.WeakValueDictionary()
        """Number of automatic data -> it, as long as jobs need it or the scheduler keeps it for others."""

    def put(self, pickled: Pieces, buffers: Sequence[bytes]) -> SharedRef:
        """Keep an object: its pickle, and the buffers that belong to it.

        Raises:
            ClusterClosed: the cluster has been closed.
        """
        data = SharedData(next(self._numbers), make_container(pickled, buffers))
        ref = SharedRef(data, self)
        with self._lock:
            if self._closed:
                raise ClusterClosed("the cluster is closed: make a new one")
            self._refs.add(ref)
        return ref

    def close(self) -> None:
        """Release everything."""
        with self._lock:
            self._closed = True
            refs = list(self._refs)
        for ref in refs:
            ref.release()

    def find(self, content: bytes | bytearray | memoryview) -> SharedData:
        """Return the shared data with this content; it is copied, unless it cannot change or is known."""
        with self._lock:
            alike = [data for data in self._alive.values() if data.size == len(content)]
        for data in reversed(alike[-COMPARED_MAX:]):
            if _is_equal(data.source, content):
                return data
        made = SharedData(next(self._numbers), bytes(content), automatic=True)
        with self._lock:
            self._alive[made.id] = made
        return made


class Collection:
    """What one job refers to, gathered while its arguments are pickled."""

    def __init__(self, sharer: Sharer) -> None:
        self._sharer = sharer
        self._needs: dict[int, SharedData] = {}
        self._arrays: dict[int, tuple[int, bytearray]] = {}
        self.buffers: list[int] = []
        """Which data each out-of-band buffer is."""

    @property
    def needs(self) -> tuple[SharedData, ...]:
        """All data, each once."""
        return tuple(self._needs.values())

    def reference(self, value: object) -> object:
        """Return the persistent id of what is shared, None for all else."""
        kind = type(value)
        if isinstance(value, SharedRef):
            return self._add(value.get_data(self._sharer))
        if isinstance(value, bytes) and kind is bytes and len(value) >= SHARED_BYTES:
            return "bytes", self._add(self._sharer.find(value))
        if isinstance(value, bytearray) and kind is bytearray and len(value) >= SHARED_BYTES:
            # Two that are equal now need not stay so: each is one of its own in the job.
            index, _ = self._arrays.setdefault(id(value), (len(self._arrays), value))
            return "bytearray", self._add(self._sharer.find(value)), index
        return None

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Take a large buffer out of the pickle; return True for one that is to stay in it."""
        if not is_large(buffer):
            return True
        self.buffers.append(self._add(self._sharer.find(buffer.raw())))
        return False

    def _add(self, data: SharedData) -> int:
        return self._needs.setdefault(data.id, data).id


def _is_equal(source: bytes | Pieces, content: bytes | bytearray | memoryview) -> bool:
    """Tell whether contents of one length are equal."""
    if source is content:
        return True
    # Unlike ``==``, this compares with a memoryview at the speed of memory.
    return isinstance(source, bytes) and source.startswith(content)


def is_large(buffer: pickle.PickleBuffer) -> bool:
    """Tell whether a buffer is worth being shared, and can be."""
    view = memoryview(buffer)
    return view.nbytes >= SHARED_BYTES and view.contiguous


def refuse_large(buffer: pickle.PickleBuffer) -> bool:
    """Break off pickling at a buffer that is to be shared; others stay in the pickle."""
    if is_large(buffer):
        raise NeedsSharing("it is large")
    return True


def make_container(pickled: Pieces, buffers: Sequence[bytes]) -> Pieces:
    """Put a pickle and its buffers into the form in which nodes map them."""
    entries: list[tuple[int, int]] = []
    parts: list[bytes | FilePart] = []
    end = HEAD.size + ENTRY.size * (len(buffers) + 1)
    groups: list[tuple[bytes | FilePart, ...]] = [*((buffer,) for buffer in buffers), pickled.parts]
    for group in groups:
        gap = -end % ALIGNMENT
        size = sum(map(len, group))
        entries.append((end + gap, size))
        parts += (bytes(gap), *group)
        end += gap + size
    head = HEAD.pack(MAGIC, len(entries)) + b"".join(ENTRY.pack(*entry) for entry in entries)
    return Pieces((head, *parts))
