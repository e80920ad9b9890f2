"""Shared data as the client packs it; `tests/unit/node/runner/test_shared.py` loads it."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.errors import ClusterClosed, NotPicklable, UsageError
from dispy.model import Pieces
from dispy.packing.arguments import ArgumentPacker, pack_program_arguments
from dispy.packing.sharing import ALIGNMENT, ENTRY, HEAD, SHARED_BYTES, Sharer, make_container

LARGE = bytes(range(256)) * (SHARED_BYTES // 256)


class Holder:
    """An array as far as pickling goes: it hands its buffer over out of band."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Holder, (pickle.PickleBuffer(self.data),)


@pytest.fixture
def released() -> list[int]:
    return []


@pytest.fixture
def sharer(released: list[int]) -> Sharer:
    return Sharer(released.append)


@pytest.fixture
def packer() -> ArgumentPacker:
    return ArgumentPacker({}, lambda name: True)


def test_small_arguments_are_packed_as_ever(packer: ArgumentPacker, sharer: Sharer) -> None:
    body, needs = packer.pack_job((1, Holder(bytearray(9))), {"a": b"x"}, sharer)
    assert needs == ()
    assert isinstance(body, bytes)
    args, kwargs = pickle.loads(body)
    assert (args[0], bytes(args[1].data), kwargs) == (1, bytes(9), {"a": b"x"})


@pytest.mark.parametrize("kind", [bytes, bytearray, lambda data: Holder(bytearray(data))])
def test_large_argument_is_recognised_by_its_content(
    packer: ArgumentPacker, sharer: Sharer, kind: Any
) -> None:
    first, needs = packer.pack_job((kind(LARGE),), {}, sharer)
    again, same = packer.pack_job((), {"x": kind(LARGE)}, sharer)
    other, others = packer.pack_job((kind(LARGE[::-1]),), {}, sharer)
    assert needs == same != others
    assert needs[0].automatic
    assert needs[0].source == LARGE
    assert len(first) < 1000 > len(again)
    assert len(other) < 1000


def test_argument_that_was_changed_is_another(packer: ArgumentPacker, sharer: Sharer) -> None:
    value = bytearray(LARGE)
    _, before = packer.pack_job((value,), {}, sharer)
    value[-1] ^= 1
    _, after = packer.pack_job((value,), {}, sharer)
    assert before[0].id != after[0].id
    assert before[0].source == LARGE, "what was submitted stays as it was"
    value[-1] ^= 1
    _, back = packer.pack_job((value,), {}, sharer)
    assert back == before


def test_content_that_is_not_held_any_more_is_new(packer: ArgumentPacker, sharer: Sharer) -> None:
    _, needs = packer.pack_job((bytearray(LARGE),), {}, sharer)
    number = needs[0].id
    del needs
    gc.collect()
    _, needs = packer.pack_job((bytearray(LARGE),), {}, sharer)
    assert needs[0].id != number
    assert len(sharer._alive) == 1


def test_bytes_are_not_copied(packer: ArgumentPacker, sharer: Sharer) -> None:
    _, needs = packer.pack_job((LARGE,), {}, sharer)
    assert needs[0].source is LARGE


def test_reference_goes_anywhere_inside_arguments(packer: ArgumentPacker, sharer: Sharer) -> None:
    ref = packer.put([1, 2], sharer)
    body, needs = packer.pack_job(({"deep": [ref]}, lambda: 5), {"x": ref}, sharer)
    assert [data.id for data in needs] == [1]
    assert not needs[0].automatic
    (inner, buffers), marker = pickle.loads(body)  # type: ignore[arg-type]
    assert marker is None
    assert buffers == []
    assert b"deep" in inner


def test_reference_is_released_when_nobody_has_it(
    packer: ArgumentPacker, sharer: Sharer, released: list[int]
) -> None:
    ref, other = packer.put(1, sharer), packer.put(2, sharer)
    ref.release()
    ref.release()
    assert released == [1]
    with pytest.raises(UsageError, match="after it was released: put it again"):
        packer.pack_job((ref,), {}, sharer)
    assert repr(ref) == "<SharedRef released>"
    del other
    gc.collect()
    assert released == [1, 2]


def test_closing_releases_everything(packer: ArgumentPacker, sharer: Sharer, released: list[int]) -> None:
    ref = packer.put("text", sharer)
    assert str(ref.size) in repr(ref)
    sharer.close()
    assert released == [1]
    assert ref._data is None
    with pytest.raises(ClusterClosed):
        packer.put(1, sharer)


def test_reference_of_another_cluster_is_refused(packer: ArgumentPacker, sharer: Sharer) -> None:
    ref = packer.put(1, Sharer(lambda number: None))
    with pytest.raises(UsageError, match="another cluster"):
        packer.pack_job((ref,), {}, sharer)


def test_reference_is_of_no_use_elsewhere(packer: ArgumentPacker, sharer: Sharer) -> None:
    ref = packer.put(1, sharer)
    for use in (
        lambda: pickle.dumps(ref),
        lambda: packer.pack((ref,), {}),
        lambda: packer.put([ref], sharer),
    ):
        with pytest.raises(UsageError, match="only in arguments of jobs"):
            use()
    with pytest.raises(UsageError, match="argument 2 is shared data, which a program cannot read"):
        pack_program_arguments(("x", ref), {})


def test_what_cannot_be_sent_is_named(packer: ArgumentPacker, sharer: Sharer) -> None:
    ref = packer.put(1, sharer)
    with pytest.raises(NotPicklable, match="argument 2"):
        packer.pack_job((ref, (number for number in [])), {}, sharer)
    with pytest.raises(NotPicklable, match="what is put there"):
        packer.put({"x": (number for number in [])}, sharer)


def test_what_was_put_is_as_it_was_then(packer: ArgumentPacker, sharer: Sharer) -> None:
    data = bytearray(b"a" * 8192)
    ref = packer.put(Holder(data), sharer)
    data[:] = b"b" * 8192
    source = ref.get_data(sharer).source
    assert isinstance(source, Pieces)
    assert b"a" * 8192 in source.parts


@given(st.lists(st.binary(max_size=100), max_size=5), st.lists(st.binary(), min_size=1))
def test_container_has_its_parts_where_it_says(buffers: list[bytes], pickled: list[bytes]) -> None:
    container = make_container(Pieces(tuple(pickled)), buffers)
    whole = b"".join(container.parts)
    assert len(whole) == len(container)
    _, count = HEAD.unpack_from(whole)
    entries = [ENTRY.unpack_from(whole, HEAD.size + ENTRY.size * index) for index in range(count)]
    assert [whole[at : at + size] for at, size in entries] == [*buffers, b"".join(pickled)]
    assert all(at % ALIGNMENT == 0 for at, _ in entries)
