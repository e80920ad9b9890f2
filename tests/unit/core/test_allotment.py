"""What each node gets of its own."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dispy import allotment
from dispy.allotment import Allotments
from dispy.engine.records import SourceFile
from dispy.errors import NotPicklable, UsageError
from dispy.nodes import NodeAllocate, NodePattern, parse_nodes
from dispy.packing import files as packing_files
from dispy.packing.bundle import pack_function
from dispy.packing.preparation import make_preparation


def prepare(*args: object) -> int:
    return len(args)


def compute() -> None: ...


def node(name: str) -> Any:
    return SimpleNamespace(id=name)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("common", "first", "second"):
        (tmp_path / name).write_text(name)
    return tmp_path


def make(elements: Any, **options: Any) -> tuple[Allotments, list[NodePattern]]:
    patterns = parse_nodes(elements, 51348)
    packed = pack_function(compute, ["common"], preparation=make_preparation(prepare, True))
    return Allotments(packed, patterns, **({"max_file_bytes": 0, "is_shared": False} | options)), patterns


def names(allotments: Allotments, name: str) -> list[str]:
    return [file.path for file in allotments.files_for(node(name))]


def arguments(allotments: Allotments, name: str) -> tuple[Any, ...]:
    args, _ = pickle.loads(allotments.arguments_for(node(name)))
    return tuple(args)


def test_nodes_get_what_their_element_names(files: Path) -> None:
    allotments, patterns = make([("one", None, 0, ["first"], (1,)), ("two", None, 0, [], (2, 3))])
    for pattern in patterns:
        allotments.take(node(pattern.text), pattern)
    assert names(allotments, "one") == ["common", "first"]
    assert names(allotments, "two") == ["common"]
    assert arguments(allotments, "one") == (1,)
    assert arguments(allotments, "two") == (2, 3)


class Deciding(NodeAllocate):
    def decide(self, depends: list[str], setup_args: Any) -> None:
        self.depends, self.setup_args = depends, setup_args


def test_what_allocate_has_set_counts_for_that_node(files: Path) -> None:
    allocation = Deciding("*", setup_args=(0,))
    allotments, (pattern,) = make([allocation])
    allotments.take(node("a"), pattern)
    allocation.decide(["second"], [7])
    allotments.take(node("b"), pattern)
    allocation.decide(["first", "second"], "text")
    allotments.take(node("c"), pattern)
    assert names(allotments, "a") == ["common"]
    assert names(allotments, "b") == ["common", "second"]
    assert names(allotments, "c") == ["common", "first", "second"]
    assert [arguments(allotments, name) for name in "abc"] == [(0,), (7,), ("text",)]


def test_what_allocate_has_set_is_checked(files: Path) -> None:
    allocation = Deciding("*")
    allotments, (pattern,) = make([allocation], max_file_bytes=6)
    allocation.decide(["missing"], ())
    with pytest.raises(UsageError, match="there is no such file"):
        allotments.take(node("a"), pattern)
    (files / "large").write_text("1234567")
    allocation.decide(["large"], ())
    with pytest.raises(UsageError, match="file 'large' has 7 bytes, more than the 6 of max_file_size"):
        allotments.take(node("a"), pattern)
    allocation.decide([], threading.Lock())
    with pytest.raises(NotPicklable, match="setup_args: argument 1"):
        allotments.take(node("a"), pattern)


def test_what_elements_name_is_checked_at_once(files: Path) -> None:
    with pytest.raises(UsageError, match="would both be 'common'"):
        make([NodeAllocate("one", depends=[_outside(files)])])


def _outside(files: Path) -> str:
    other = files.parent / f"{files.name}-other"
    other.mkdir()
    (other / "common").write_text("another")
    return str(other / "common")


def test_files_for_a_shared_folder_have_hashes(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allotment, "HASHED_BYTES", 5)
    allocation = Deciding("*", depends=["second"])
    allotments, (pattern,) = make([allocation], is_shared=True)
    allotments.take(node("a"), pattern)
    assert all(file.digest for file in allotments.files_for(node("a"))), "the engine does not wait for these"
    (files / "third").write_text("third of all")
    allocation.decide(["first", "second", "third"], ())
    allotments.take(node("b"), pattern)
    hashed = {file.path: bool(file.digest) for file in allotments.files_for(node("b"))}
    assert hashed == {"common": True, "first": True, "second": True, "third": False}, "the second is known"


def test_large_files_are_hashed_once(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []

    def digest(file: SourceFile) -> bytes:
        hashed.append(file.path)
        return file.path.encode()

    monkeypatch.setattr(packing_files, "RESUMABLE_BYTES", 6)
    monkeypatch.setattr(packing_files, "_digest", digest)
    (files / "second").write_text("7 bytes")
    allotments, patterns = make([("one", None, 0, ["first", "second"]), ("two", None, 0, ["second"])])
    for pattern in patterns:
        allotments.take(node(pattern.text), pattern)
        digests = {file.path: file.digest for file in allotments.files_for(node(pattern.text))}
        assert digests["second"] == b"second"
    assert sorted(hashed) == ["common", "second"]


def test_equal_contents_are_found(files: Path) -> None:
    (files / "second").write_text("common")
    allotments, patterns = make([("one", None, 0, ["first", "second"])])
    allotments.take(node("one"), patterns[0])
    common, first, second = allotments.files_for(node("one"))
    assert common.digest == second.digest != b""
    assert first.digest == b""


def test_setup_args_without_setup_are_of_no_use(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    patterns = parse_nodes([("one", None, 0, [], 3)], 51348)
    allotments = Allotments(pack_function(compute), patterns, max_file_bytes=0, is_shared=False)
    assert "setup_args of node 'one' are not used" in capsys.readouterr().out
    allotments.take(node("one"), patterns[0])
    assert allotments.arguments_for(node("one")) == b""
