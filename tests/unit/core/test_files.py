from __future__ import annotations

import os
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.packing.files import Files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt", "../outside.txt", "../a.txt"):
        (folder / name).write_text(name)
    return folder


def test_a_file_keeps_what_it_is(folder: Path) -> None:
    file = folder / "a.txt"
    file.chmod(0o750)
    os.utime(file, (1.0, 1234.5))
    found = Files(str(folder)).add(str(file))
    assert (found.source, found.path, found.size) == (str(file), "a.txt", 5)
    assert (found.mode, found.modified_at) == (0o750, 1234.5)


@pytest.mark.parametrize(
    ("path", "place"),
    [("sub/b.txt", "sub/b.txt"), ("./sub/../a.txt", "a.txt"), ("../outside.txt", "outside.txt")],
)
def test_places(folder: Path, path: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert Files().add(path).path == place
    assert Files().add(str(folder / path)).path == place


def test_a_folder_whose_name_only_begins_alike_is_outside(folder: Path) -> None:
    other = folder.with_name("here-too")
    other.mkdir()
    (other / "x.txt").touch()
    assert Files(str(folder)).add(str(other / "x.txt")).path == "x.txt"


def test_the_root_as_folder(folder: Path) -> None:
    path = str(folder / "a.txt")
    assert Files("/").add(path).path == path.lstrip("/")


def test_the_same_file_twice_is_one_file(folder: Path) -> None:
    files = Files(str(folder))
    assert files.add(str(folder / "a.txt")) is files.add(f"{folder}/sub/../a.txt")
    assert len(files.all()) == 1


def test_two_files_for_one_place(folder: Path) -> None:
    files = Files(str(folder))
    files.add(str(folder / "a.txt"))
    with pytest.raises(
        UsageError, match=r"files '.*/here/a\.txt' and '.*/a\.txt' would both be 'a\.txt'.*rename one"
    ):
        files.add(str(folder.parent / "a.txt"))
    assert [file.path for file in files.all()] == ["a.txt"]


def test_a_place_may_be_given(folder: Path) -> None:
    assert Files(str(folder)).add(str(folder / "a.txt"), "pkg/mod.py").path == "pkg/mod.py"


@pytest.mark.parametrize(
    ("path", "why"), [("none.txt", "no such file"), ("sub", "it is not a file; name the files")]
)
def test_what_is_no_file(folder: Path, path: str, why: str) -> None:
    with pytest.raises(UsageError, match=f"file '.*{path}' is not valid: .*{why}"):
        Files(str(folder)).add(str(folder / path))


def test_a_device_is_no_file(folder: Path) -> None:
    with pytest.raises(UsageError, match="not a regular file"):
        Files(str(folder)).add(os.devnull)


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may read everything
    with pytest.raises(UsageError, match="may not be read"):
        Files(str(folder)).add(str(folder / "a.txt"))
