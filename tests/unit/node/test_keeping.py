"""Folders that computations share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispy.errors import UsageError
from dispy.model import ComputationId
from dispy.wire.messages import FileOffer
from dispy_node.keeping import KeptFolders, find_files, open_file

A, B = ComputationId("a"), ComputationId("b")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def kept(root: Path) -> KeptFolders:
    return KeptFolders(root)


def enter(kept: KeptFolders, computation: ComputationId, path: str = "x", **options: Any) -> Path:
    settings: dict[str, Any] = {"keep": False, "made": lambda descriptor: None}
    return kept.enter(computation, options.pop("owner", "me"), path, **(settings | options))


def leave(kept: KeptFolders, computation: ComputationId) -> bool:
    """Tell whether the whole folder goes."""
    trash = kept.leave(computation)
    assert trash is None or trash.is_dir()
    return trash is not None


@pytest.mark.parametrize("path", ["x", "x/y/z", "\u00e4 b/c"])
def test_a_folder_of_several_levels(kept: KeptFolders, root: Path, path: str) -> None:
    made = []
    folder = enter(kept, A, path, made=lambda descriptor: made.append(os.fstat(descriptor).st_ino))
    assert str(folder).endswith("/" + path)
    assert root in folder.parents
    assert folder == kept.folder("me", path)
    assert made == [folder.stat().st_ino]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_mode & 0o777 == 0o711
    assert leave(kept, A)
    assert not folder.exists()
    assert kept.leave(A) is None


@pytest.mark.parametrize("path", ["", "/x", "..", "x/../../y", "x//y", "x/", "\0", "a\\b", "\ud800"])
def test_no_path_leads_out(kept: KeptFolders, root: Path, path: str) -> None:
    with pytest.raises(UsageError):
        enter(kept, A, path)
    with pytest.raises(UsageError):
        kept.folder("me", path)


def test_folders_do_not_lie_in_each_other(kept: KeptFolders) -> None:
    folders = [
        enter(kept, ComputationId(f"{path}{owner}"), path, owner=owner)
        for path in ("x", "x/y", "X")
        for owner in ("me", "you")
    ]
    assert len(set(folders)) == 6
    assert all(list(folder.iterdir()) == [] for folder in folders)


def test_the_last_one_removes_it(kept: KeptFolders) -> None:
    folder = enter(kept, A)
    assert enter(kept, B) == folder
    assert not leave(kept, A)
    assert folder.is_dir()
    assert leave(kept, B)


@pytest.mark.parametrize("order", [(A, B), (B, A)])
def test_one_that_keeps_is_enough(kept: KeptFolders, order: tuple[ComputationId, ComputationId]) -> None:
    folder = enter(kept, A, keep=True)
    enter(kept, B)
    (folder / "result").touch()
    for computation in order:
        assert not leave(kept, computation)
    assert (folder / "result").exists()


def test_what_was_to_stay_stays_and_what_came_later_goes(kept: KeptFolders, root: Path) -> None:
    folder = enter(kept, A, keep=True)
    (folder / "sub").mkdir()
    (folder / "sub" / "old").write_text("old")
    leave(kept, A)
    kept = KeptFolders(root)
    assert enter(kept, B) == folder
    (folder / "sub" / "old").write_text("changed")
    (folder / "sub" / "new").touch()
    (folder / "more" / "deep").mkdir(parents=True)
    (folder / "more" / "link").symlink_to("/")
    assert not leave(kept, B)
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == ["sub", "sub/old"]
    assert Path("/").is_dir()


def test_a_start_removes_what_was_not_to_stay(kept: KeptFolders, root: Path) -> None:
    stays, goes = enter(kept, A, "stays", keep=True), enter(kept, B, "goes")
    (root / ".removed-1").mkdir()
    KeptFolders(root)
    assert stays.is_dir()
    assert not goes.exists()
    assert len(list(root.iterdir())) == 1


def test_a_link_in_the_place_of_all_is_not_followed(tmp_path: Path, root: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "precious").mkdir(parents=True)
    root.symlink_to(elsewhere)
    enter(KeptFolders(root), A)
    assert not root.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


@pytest.mark.parametrize("what", ["link", "file"])
def test_something_else_in_the_place_of_the_folder(kept: KeptFolders, tmp_path: Path, what: str) -> None:
    folder = enter(kept, A, keep=True)
    leave(kept, A)
    folder.rmdir()
    folder.symlink_to(tmp_path) if what == "link" else folder.touch()
    with pytest.raises(UsageError, match="dest_path 'x' is no folder at the node: use another one"):
        enter(kept, B)


# ---- files that are there


def offer(path: str, content: bytes) -> FileOffer:
    return FileOffer(path, len(content), 0o644, 1.0, 0, hashlib.sha256(content).digest())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in (("a", b"one"), ("sub/b", b"two"), ("sub/c", b"two"), ("d", b"six")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def test_contents_are_found_wherever_they_are(folder: Path) -> None:
    offers = [
        offer("a", b"one"),
        offer("sub/c", b"two"),
        offer("new", b"six"),
        offer("d", b"ten"),
        offer("e", b""),
    ]
    assert find_files(folder, offers) == {"a": "a", "sub/c": "sub/c", "new": "d"}


def test_in_a_folder_that_is_not_there_is_nothing(folder: Path) -> None:
    assert find_files(folder / "missing", [offer("a", b"one")]) == {}
    with pytest.raises(UsageError, match="not a plain relative path"):
        find_files(folder, [offer("../a", b"one")])


def test_links_devices_and_pipes_are_no_files(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "a")
    (folder / "a").rename(folder.parent / "outside")
    (folder / "dir").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe")
    assert find_files(folder, [offer("link", b"one"), offer("pipe", b"")]) == {}


def test_what_cannot_be_read_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open: Callable[..., int] = os.open

    def closed(path: Any, *args: Any, **options: Any) -> int:
        if path == "a":
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *args, **options)

    monkeypatch.setattr(os, "open", closed)
    assert find_files(folder, [offer("a", b"one"), offer("d", b"six")]) == {"d": "d"}


def test_opening_follows_no_link(folder: Path) -> None:
    os.close(open_file(folder, "sub/b"))
    (folder / "link").symlink_to(folder / "a")
    (folder / "dir").symlink_to(folder / "sub")
    for path, error in (("link", OSError), ("dir/b", UsageError), ("../x", UsageError)):
        with pytest.raises(error):
            open_file(folder, path)
