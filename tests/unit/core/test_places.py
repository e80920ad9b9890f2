"""Folders of files that peers name; names themselves are tested with the storage of nodes."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from dispy.errors import UsageError
from dispy.places import MAX_PATH_BYTES, open_folder_for, relative_path, shared_folder


def test_longest_path_passes_and_a_longer_one_does_not() -> None:
    longest = "/".join(["a" * 127] * 8) + "b"
    assert len(longest) == MAX_PATH_BYTES
    assert relative_path(longest) == PurePosixPath(longest)
    with pytest.raises(UsageError, match="plain relative path"):
        relative_path(longest + "c")


def test_folders_are_made_once_and_told(tmp_path: Path) -> None:
    made: list[str] = []
    for _ in range(2):
        opened = open_folder_for(
            tmp_path,
            PurePosixPath("a/b/c"),
            made=lambda here: made.append(os.readlink(f"/proc/self/fd/{here}")),
        )
        assert os.readlink(f"/proc/self/fd/{opened}") == str(tmp_path / "a/b")
        os.close(opened)
    assert made == [str(tmp_path / "a"), str(tmp_path / "a/b")]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_not_passed(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        (tmp_path / "a").write_bytes(b"")
    else:
        (tmp_path / "a").symlink_to("/")
    with pytest.raises(UsageError, match="'a' is no folder"):
        open_folder_for(tmp_path, PurePosixPath("a/b"))


@pytest.mark.parametrize(
    ("given", "taken"),
    [("a", "a"), ("a/b/c", "a/b/c"), ("a/", "a"), (PurePosixPath("a") / "b", "a/b"), (" ", " ")],
)
def test_shared_folders(given: Any, taken: str) -> None:
    assert shared_folder(given) == taken


def test_a_leading_separator_is_stripped_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert shared_folder("//a/b") == "a/b"
    assert "dest_path '//a/b' is taken as relative: 'a/b'" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["", "/", ".", "..", "a/../b", "a//b", "a\0", "a\\b", "x" * 256])
def test_what_is_no_shared_folder(given: str) -> None:
    with pytest.raises(UsageError, match="dest_path .* is not valid; give a relative path without"):
        shared_folder(given)


@pytest.mark.parametrize("given", [5, b"a", ["a"]])
def test_what_is_no_path(given: Any) -> None:
    with pytest.raises(UsageError, match="dest_path must be a relative path, not"):
        shared_folder(given)
