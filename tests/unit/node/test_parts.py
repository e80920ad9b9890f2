"""Parts of files that wait for their client."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispy.model import RESUMABLE_BYTES, ClientId
from dispy.wire.owner import UNKNOWN, Owner
from dispy_node.engine.records import PartKey, Spooled
from dispy_node.parts import KEPT_S, PARTS_MAX, Parts

KEY = PartKey(ClientId("c1"), UNKNOWN, b"X", RESUMABLE_BYTES)
OTHERS = [
    replace(KEY, client=ClientId("c2")),
    replace(KEY, owner=Owner(proof=b"another")),
    replace(KEY, digest=b"Y"),
    replace(KEY, size=RESUMABLE_BYTES + 1),
]


class Spool:
    """Counts what is removed."""

    def __init__(self) -> None:
        self.now = 0.0
        self.removed: list[str] = []
        self.parts = Parts(lambda spooled: self.removed.append(spooled.path), lambda: self.now)


@pytest.fixture
def spool() -> Spool:
    return Spool()


@pytest.mark.parametrize("other", OTHERS)
def test_a_part_is_for_one_client_and_one_file(spool: Spool, other: PartKey) -> None:
    part = Spooled("a", 100)
    spool.parts.keep(KEY, part)
    assert spool.parts.take(other) is None
    assert spool.parts.take(KEY) == part
    assert spool.parts.take(KEY) is None, "it is handed over"
    assert not spool.removed


def test_the_longer_of_two_parts_stays(spool: Spool) -> None:
    for path, size in (("a", 100), ("b", 200), ("c", 150)):
        spool.parts.keep(KEY, Spooled(path, size))
    assert spool.removed == ["a", "c"]
    assert spool.parts.take(KEY) == Spooled("b", 200)


@pytest.mark.parametrize(
    ("key", "size"), [(KEY, 0), (KEY, RESUMABLE_BYTES + 1), (replace(KEY, size=RESUMABLE_BYTES - 1), 100)]
)
def test_what_is_of_no_use_is_not_kept(spool: Spool, key: PartKey, size: int) -> None:
    spool.parts.keep(key, Spooled("a", size))
    assert spool.removed == ["a"]
    assert spool.parts.take(key) is None


def test_parts_wait_for_a_while(spool: Spool) -> None:
    spool.parts.keep(KEY, Spooled("a", 100))
    spool.now = 1.0
    spool.parts.keep(OTHERS[0], Spooled("b", 100))
    spool.now = KEPT_S
    spool.parts.expire()
    assert spool.removed == ["a"]
    assert spool.parts.take(OTHERS[0]) is not None


def test_a_client_that_ends_takes_its_parts_along(spool: Spool) -> None:
    for number, key in enumerate([KEY, *OTHERS]):
        spool.parts.keep(key, Spooled(str(number), 100))
    spool.parts.forget(KEY.client, KEY.owner)
    assert sorted(spool.removed) == ["0", "3", "4"], "its own, and nobody else's"


def test_all_make_room_on_a_full_disk(spool: Spool) -> None:
    assert not spool.parts.make_room()
    spool.parts.keep(KEY, Spooled("a", 100))
    assert spool.parts.make_room()
    assert spool.removed == ["a"]


def test_who_keeps_many_does_not_cost_others_theirs(spool: Spool) -> None:
    spool.parts.keep(OTHERS[0], Spooled("other", 100))
    for number in range(PARTS_MAX + 5):
        spool.parts.keep(replace(KEY, digest=b"%d" % number), Spooled(str(number), 100))
    assert spool.removed == ["0", "1", "2", "3", "4", "5"]


@given(st.lists(st.tuples(st.sampled_from("ktxfm"), st.sampled_from([KEY, *OTHERS]), st.integers(0, 300))))
def test_each_spool_file_is_removed_once_or_handed_over_once(steps: list[tuple[str, PartKey, int]]) -> None:
    spool, made, taken = Spool(), [], []
    for what, key, size in steps:
        spool.now += size
        match what:
            case "k":
                made.append(str(len(made)))
                spool.parts.keep(key, Spooled(made[-1], size))
            case "t":
                taken += [part.path for part in [spool.parts.take(key)] if part is not None]
            case "x":
                spool.parts.expire()
            case "f":
                spool.parts.forget(key.client, key.owner)
            case "m":
                spool.parts.make_room()
    spool.parts.make_room()
    assert sorted(spool.removed + taken) == sorted(made)
