"""Folders of files that peers name; names themselves are tested with the storage of nodes."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from dispy import places
from dispy.errors import UsageError
from dispy.places import MAX_PATH_BYTES, check_spelling, open_folder_for, relative_path, shared_folder


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


class NoCase:
    """Stands for `os` where the file system takes capital and small letters for the same, and keeps the first."""

    def __init__(self, *, forms_apart: bool = False) -> None:
        self._forms_apart = forms_apart

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def listdir(self, folder: int) -> list[str]:
        form: Any = "NFD" if self._forms_apart else "NFC"
        return [unicodedata.normalize(form, name) for name in os.listdir(folder)]

    def open(self, name: Any, flags: int, dir_fd: int | None = None) -> int:
        return os.open(name if dir_fd is None else self._spelled(name, dir_fd), flags, dir_fd=dir_fd)

    def stat(self, name: str, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
        return os.stat(self._spelled(name, dir_fd), dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    def _spelled(self, name: str, folder: int) -> str:
        plain = unicodedata.normalize("NFC", name).casefold()
        return next((other for other in os.listdir(folder) if other.casefold() == plain), name)


@pytest.mark.parametrize(
    ("there", "path", "taken"),
    [
        ("Data.txt", "data.TXT", "Data.txt"),
        ("Sub/x", "sub/x", "Sub/x"),
        ("Sub/x", "sub/X", "Sub/x"),
        ("Sub/x", "sub/y", ""),
        ("Sub/x", "Sub/x", ""),
        ("123", "123", ""),
        ("über", "Über", "über"),
        ("new", "other", ""),
    ],
)
def test_names_that_differ_in_letters_that_are_the_same_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, path: str, taken: str
) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("first")
    wanted = PurePosixPath(path)
    (tmp_path / wanted.parent).mkdir(exist_ok=True)
    check_spelling(tmp_path, wanted)  # here, these are two files
    if str(wanted.parent) not in (".", str(PurePosixPath(there).parent)):
        (tmp_path / wanted.parent).rmdir()
    monkeypatch.setattr(places, "os", NoCase())
    if not taken:
        check_spelling(tmp_path, wanted)
        return
    told = f"file {path!r} would take the place of {taken!r}, as capital and small letters are the same"
    with pytest.raises(UsageError, match=re.escape(told)):
        check_spelling(tmp_path, wanted)


def test_accents_that_are_written_in_another_form_are_no_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "über").touch()
    monkeypatch.setattr(places, "os", NoCase(forms_apart=True))
    check_spelling(tmp_path, PurePosixPath("über"))


def test_names_of_one_file_on_an_ordinary_file_system(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "A").hardlink_to(tmp_path / "a")
    check_spelling(tmp_path, PurePosixPath("a"))
    check_spelling(tmp_path, PurePosixPath("A"))
