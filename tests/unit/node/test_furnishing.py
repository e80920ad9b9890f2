"""How the files of a computation get to their places."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.model import ClientId, ComputationId
from dispy.wire.messages import FileOffer, OpenComputation
from dispy_node.engine.records import ComputationState, HostedComputation, Spooled
from dispy_node.furnishing import furnish, needs_copies
from dispy_node.storage import StateFolder


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    folder = StateFolder(tmp_path / "node")
    yield folder
    folder.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def offer(path: str, content: bytes, mode: int = 0o644, modified_at: float = 5.0) -> FileOffer:
    return FileOffer(path, len(content), mode, modified_at, 0, hashlib.sha256(content).digest())


def spool(state: StateFolder, content: bytes) -> Spooled:
    writer = state.open_spool(len(content))
    writer.write(content)
    return writer.finish()


def hosted(
    offers: list[FileOffer], files: dict[str, Spooled], found: dict[str, str] | None = None
) -> HostedComputation:
    message = OpenComputation("a", "compute", "function", "process", b"", files=offers)
    computation = HostedComputation(
        ComputationId("a"), ClientId("c"), message, ComputationState.PREPARING, files=files
    )
    computation.found = found or {}
    return computation


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spool_is_empty(state: StateFolder) -> bool:
    return list(state.spool.iterdir()) == []


def test_files_that_came_are_placed(state: StateFolder, folder: Path) -> None:
    offers = [offer("a", b"one"), offer("sub/b", b"two", 0o755, 9.5)]
    files = {"a": spool(state, b"one"), "sub/b": spool(state, b"two")}
    computation = hosted(offers, files)
    assert not needs_copies(computation)
    furnish(state, computation, folder)
    assert contents(folder) == {"a": b"one", "sub/b": b"two"}
    status = (folder / "sub" / "b").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o755, 9.5)
    assert spool_is_empty(state)


def test_equal_files_are_copies_of_their_own(state: StateFolder, folder: Path) -> None:
    computation = hosted([offer("a", b"one"), offer("b", b"one", 0o600)], {"a": spool(state, b"one")})
    assert needs_copies(computation)
    furnish(state, computation, folder)
    (folder / "a").write_bytes(b"changed")
    assert contents(folder) == {"a": b"changed", "b": b"one"}
    assert (folder / "b").stat().st_mode & 0o777 == 0o600
    assert spool_is_empty(state)


def test_files_that_are_there_stay_or_are_copied(state: StateFolder, folder: Path) -> None:
    (folder / "stays").write_bytes(b"one")
    (folder / "old").write_bytes(b"two")
    inode = (folder / "stays").stat().st_ino
    offers = [offer("stays", b"one", 0o700, 7.0), offer("new", b"two"), offer("more", b"one")]
    furnish(state, hosted(offers, {}, {"stays": "stays", "new": "old", "more": "stays"}), folder)
    assert contents(folder) == {"stays": b"one", "old": b"two", "new": b"two", "more": b"one"}
    status = (folder / "stays").stat()
    assert (status.st_ino, status.st_mode & 0o777, status.st_mtime) == (inode, 0o700, 7.0)
    assert spool_is_empty(state)


def test_files_may_change_places(state: StateFolder, folder: Path) -> None:
    (folder / "a").write_bytes(b"one")
    (folder / "b").write_bytes(b"two")
    furnish(state, hosted([offer("a", b"two"), offer("b", b"one")], {}, {"a": "b", "b": "a"}), folder)
    assert contents(folder) == {"a": b"two", "b": b"one"}


def test_what_was_changed_meanwhile_is_not_taken_for_what_was_offered(
    state: StateFolder, folder: Path
) -> None:
    (folder / "old").write_bytes(b"changed")
    with pytest.raises(UsageError, match="file 'new' was changed at the node meanwhile"):
        furnish(state, hosted([offer("new", b"one")], {}, {"new": "old"}), folder)
    assert contents(folder) == {"old": b"changed"}
    assert spool_is_empty(state)


@pytest.mark.parametrize("at", [float("nan"), 1e300])
def test_impossible_times(state: StateFolder, folder: Path, at: float) -> None:
    (folder / "a").write_bytes(b"one")
    with pytest.raises(UsageError, match="file 'a' cannot have the modification time"):
        furnish(state, hosted([offer("a", b"one", 0o644, at)], {}, {"a": "a"}), folder)


def test_what_stands_in_the_way_is_told(state: StateFolder, folder: Path) -> None:
    os.mkdir(folder / "a")
    with pytest.raises(OSError, match="directory"):
        furnish(state, hosted([offer("a", b"one")], {"a": spool(state, b"one")}), folder)
