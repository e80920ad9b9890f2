"""Shared data as jobs get it, from what a client packs."""

from __future__ import annotations

import mmap
import pickle
from pathlib import Path
from typing import Any

import pytest

from dispy.model import Pieces, SharedData
from dispy.packing import sharing
from dispy.packing.arguments import ArgumentPacker
from dispy.packing.sharing import SHARED_BYTES, Sharer
from dispy_node.runner import shared
from dispy_node.runner.shared import load_arguments, shared_name

LARGE = bytes(range(256)) * (SHARED_BYTES // 256)


class View:
    """Stands for an array: it is made on the buffer that it gets."""

    def __init__(self, buffer: Any) -> None:
        self.view = memoryview(buffer)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return View, (pickle.PickleBuffer(self.view),)


class Node:
    """A client's packer, and the private folder of a runner."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.packer = ArgumentPacker({}, lambda name: True)
        self.sharer = Sharer(lambda number: None)

    def keep(self, data: SharedData) -> None:
        source = data.source
        content = b"".join(source.parts) if isinstance(source, Pieces) else source
        (self.folder / shared_name(data.id)).write_bytes(content)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        body, needs = self.packer.pack_job(args, kwargs, self.sharer)
        for data in needs:
            self.keep(data)
        (inner, buffers), marker = pickle.loads(body)  # type: ignore[arg-type]
        assert marker is None
        return load_arguments(inner, buffers, str(self.folder))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_reference_arrives_as_the_object_and_once(node: Node) -> None:
    ref = node.packer.put({"k": [1, 2]}, node.sharer)
    args, kwargs = node.call(ref, [ref], x=(ref, 3))
    assert args[0] == {"k": [1, 2]}
    assert args[0] is args[1][0] is kwargs["x"][0]


def test_buffer_that_was_put_is_mapped_read_only(node: Node) -> None:
    ref = node.packer.put([View(bytearray(LARGE)), View(bytearray(b"small"))], node.sharer)
    (first,), _ = node.call(ref)
    assert first[0].view == LARGE
    assert first[0].view.readonly
    assert bytes(first[1].view) == b"small"


def test_automatic_data_is_each_job_s_own(node: Node) -> None:
    one, two = View(bytearray(LARGE)), View(bytearray(LARGE))
    args, _ = node.call(one, two)
    args[0].view[0] = 77
    assert (args[0].view[0], args[1].view[0]) == (77, 0)
    args, _ = node.call(one)
    assert args[0].view[0] == 0, "what a job writes stays in it"
    args, _ = node.call(View(LARGE))
    assert args[0].view.readonly


def test_bytes_and_bytearrays_keep_their_type_and_identity(node: Node) -> None:
    array, equal = bytearray(LARGE), bytearray(LARGE)
    args, kwargs = node.call(LARGE, array, [array, equal], x=equal)
    assert args[0] == LARGE
    assert type(args[0]) is bytes
    assert type(args[1]) is bytearray
    assert args[1] is args[2][0]
    assert args[2][1] is kwargs["x"] is not args[1]


def test_data_that_is_gone_is_named(node: Node, tmp_path: Path) -> None:
    ref = node.packer.put(1, node.sharer)
    inner = pickle.loads(node.packer.pack_job((ref,), {}, node.sharer)[0])[0][0]  # type: ignore[arg-type]
    with pytest.raises(LookupError, match="shared data number 1 is not at the node"):
        load_arguments(inner, [], str(tmp_path))
    (tmp_path / shared_name(1)).write_bytes(bytes(100))
    with pytest.raises(ValueError, match="damaged"):
        load_arguments(inner, [], str(tmp_path))


def test_client_and_runner_agree() -> None:
    assert (sharing.MAGIC, sharing.HEAD.format, sharing.ENTRY.format) == (
        shared.MAGIC,
        shared.HEAD.format,
        shared.ENTRY.format,
    )


@pytest.mark.parametrize(
    ("code", "shape"), [("B", (8192,)), ("d", (1024,)), ("i", (4, 512)), ("B", (2, 64, 64))]
)
def test_memoryviews_are_mapped(node: Node, code: str, shape: tuple[int, ...]) -> None:
    view = memoryview(LARGE[:8192]).cast(code, shape)  # type: ignore[call-overload]
    ref = node.packer.put({"x": view}, node.sharer)
    (got,), _ = node.call(ref)
    found = got["x"]
    assert (found.format, found.shape, found.tobytes()) == (code, shape, LARGE[:8192])
    assert found.readonly
    assert type(found.obj) is mmap.mmap


def test_memoryviews_that_cannot_be_mapped_are_copied(node: Node) -> None:
    ref = node.packer.put([memoryview(LARGE)[::2], memoryview(b"abc")], node.sharer)
    ((strided, small),), _ = node.call(ref)
    assert strided == LARGE[::2]
    assert small == b"abc"
