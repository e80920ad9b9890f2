from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from dispy.errors import UsageError
from dispy.packing.files import Files, with_digests


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


def test_a_file_that_is_too_large(folder: Path) -> None:
    path = str(folder / "a.txt")
    assert Files(str(folder), max_bytes=5).add(path).size == 5
    with pytest.raises(
        UsageError, match=r"a\.txt' has 5 bytes, more than the 4 of max_file_size; raise that"
    ):
        Files(str(folder), max_bytes=4).add(path)


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "a\x7fb", "C:", os.fsdecode(b"a\xffb")])
def test_names_that_no_node_takes(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True) if name == "C:" else (folder / name).touch()
    path = folder / name / "x" if name == "C:" else folder / name
    path.touch()
    with pytest.raises(UsageError, match="cannot be sent: .* is not a plain relative path; rename it"):
        Files(str(folder)).add(str(path))


@pytest.mark.parametrize("name", ["x" * 255, "\u00e9\u4e2d", " ", "a b", "-rf", "~", "%2e", "CON", "a:b:c"])
def test_odd_names_that_are_taken(folder: Path, name: str) -> None:
    (folder / name).touch()
    assert Files(str(folder)).add(str(folder / name)).path == name


def test_a_path_that_is_too_long(folder: Path) -> None:
    deep = folder.joinpath(*["x" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "a.txt").touch()
    with pytest.raises(UsageError, match="is not a plain relative path"):
        Files(str(folder)).add(str(deep / "a.txt"))


def test_names_that_differ_in_case_only_are_two(folder: Path) -> None:
    files = Files(str(folder))
    (folder / "A.txt").write_text("other")
    files.add(str(folder / "a.txt"))
    if (folder / "a.txt").samefile(folder / "A.txt"):
        pytest.skip("this file system does not tell them apart")
    assert files.add(str(folder / "A.txt")).path == "A.txt"
    assert len(files.all()) == 2


def test_a_file_and_a_folder_of_one_name(folder: Path) -> None:
    (folder.parent / "sub.d").mkdir()
    outside = folder.parent / "sub.d" / "sub"
    outside.touch()
    paths = [str(outside), str(folder / "sub" / "b.txt")]
    for first, second in (paths, reversed(paths)):
        files = Files(str(folder))
        files.add(first)
        with pytest.raises(UsageError, match="'sub' would be a file and a folder at the node; rename one"):
            files.add(second)


def test_other_files_keep_their_places(folder: Path) -> None:
    first = Files(str(folder))
    known = first.add(str(folder / "a.txt"))
    files = Files(str(folder), others=first.all())
    assert files.add(str(folder / "a.txt")) is known
    with pytest.raises(UsageError, match="would both be 'a.txt'"):
        files.add(str(folder.parent / "a.txt"))


def test_hashes_are_made_where_they_can_be_of_use(folder: Path) -> None:
    (folder / "c.txt").write_text("a.txt")
    files = Files(str(folder))
    for name in ("a.txt", "c.txt", "sub/b.txt"):
        files.add(str(folder / name))
    digest = hashlib.sha256(b"a.txt").digest()
    some = with_digests(files.all(), all_files=False)
    assert [file.digest for file in some] == [digest, digest, b""]
    everything = with_digests(files.all(), all_files=True)
    assert [file.digest for file in everything] == [digest, digest, hashlib.sha256(b"sub/b.txt").digest()]
    assert [bool(file.digest) for file in with_digests(files.all(), all_files=True, most_bytes=5)] == [
        True,
        True,
        False,
    ]


def test_a_file_that_vanishes_before_it_is_hashed(folder: Path) -> None:
    files = Files(str(folder))
    files.add(str(folder / "a.txt"))
    (folder / "a.txt").unlink()
    with pytest.raises(UsageError, match="a.txt' is not valid: it cannot be read: No such file"):
        with_digests(files.all(), all_files=True)
