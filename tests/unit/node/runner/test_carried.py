"""Files and code that are there for one job: `tests/unit/core/test_jobparts.py` has what clients make of it."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dispy_node.runner import carried as module
from dispy_node.runner.carried import MAGIC, Carried, NotCarried, note_path, remove_files
from dispy_node.runner.frames import CARRIES, SPOOLED
from dispy_node.runner.settings import Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("folder", "spool"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    return Settings({"folder": str(tmp_path / "folder"), "spool": str(tmp_path / "spool"), "node": "there"})


def make_body(files: dict[str, bytes], rest: bytes = b"rest", **head: Any) -> bytes:
    given = {
        "code": 0,
        "python": None,
        "files": [[name, len(data), 0o755, 5.0] for name, data in files.items()],
    }
    data = json.dumps(given | head).encode()
    return MAGIC + len(data).to_bytes(4, "little") + data + b"".join(files.values()) + rest


def unpack(settings: Settings, job: int, files: dict[str, bytes], kind: int = CARRIES) -> Carried:
    carried = Carried(settings, job, 1)
    body = make_body(files)
    if kind & SPOOLED:
        path = Path(settings.spool) / f"in-{job}"
        path.write_bytes(body)
        body = os.fsencode(path)
    with carried.unpack(kind, body, None) as source:
        assert source.read() == b"rest"
    return carried


def there() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", [CARRIES, CARRIES | SPOOLED])
def test_files_come_and_go(settings: Settings, kind: int) -> None:
    files = {"a": b"one", "new/deep/b": b"x" * 3_000_000, "empty": b""}
    carried = unpack(settings, 1, files, kind)
    assert there() == files
    status = os.stat("a")
    assert (status.st_mode & 0o777, status.st_mtime) == (0o755, 5.0)
    carried.put_away()
    assert os.listdir() == []
    assert os.listdir(settings.spool) == ["carried.lock"]


def test_the_runner_removes_what_a_killed_job_leaves(settings: Settings) -> None:
    unpack(settings, 1, {"sub/a": b"one"})
    Path("sub/result").touch()
    Path("other").touch()
    remove_files(settings, note_path(settings, 2, 1))
    assert set(there()) == {"sub/a", "sub/result", "other"}
    remove_files(settings, note_path(settings, 1, 1))
    remove_files(settings, note_path(settings, 1, 1))
    assert set(there()) == {"sub/result", "other"}


def test_two_jobs_share_equal_files(settings: Settings) -> None:
    first = unpack(settings, 1, {"a": b"one", "b": b"two"})
    second = unpack(settings, 2, {"a": b"one", "c": b"six"})
    first.put_away()
    assert there() == {"a": b"one", "c": b"six"}
    second.put_away()
    assert there() == {}


@pytest.mark.parametrize("content", [b"one", b"other"])
@pytest.mark.parametrize("whose", ["computation", "job", "folder", "link"])
def test_what_is_there_is_not_overwritten(settings: Settings, whose: str, content: bytes) -> None:
    match whose:
        case "computation":
            Path("a").write_bytes(b"one")
        case "job":
            unpack(settings, 1, {"a": b"one"})
        case "folder":
            Path("a").mkdir()
        case "link":
            Path("target").write_bytes(b"one")
            Path("a").symlink_to("target")
    before = there()
    if content == b"one" and whose in ("computation", "job"):
        unpack(settings, 2, {"a": content}).put_away()
    else:
        with pytest.raises(
            NotCarried, match="file 'a' of dispy_job_depends is on node there .* already with other"
        ):
            unpack(settings, 2, {"b": b"new", "a": content})
        remove_files(settings, note_path(settings, 2, 1))
    assert there() == before


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "", "a//b", "./a"])
def test_no_file_leads_out(settings: Settings, path: str) -> None:
    with pytest.raises(NotCarried, match="would lie outside of the job's folder"):
        unpack(settings, 1, {path: b"evil"})
    assert there() == {}


def test_a_full_disk_is_told_and_nothing_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(
        NotCarried, match="file 'b' of .* cannot be put in its place on node there .* No space left"
    ):
        unpack(settings, 1, {"b": b"two"})
    remove_files(settings, note_path(settings, 1, 1))
    assert there() == {}


@pytest.mark.parametrize("body", [b"", b"\x80\x05N.", make_body({"a": b"one"}, b"")[:-1]])
def test_what_is_cut_off(settings: Settings, body: bytes) -> None:
    with pytest.raises(NotCarried, match="garbled|cut off"):
        Carried(settings, 1, 1).unpack(CARRIES, body, None)
    remove_files(settings, note_path(settings, 1, 1))
    assert there() == {}


def test_a_note_that_is_half_written_means_nothing(settings: Settings) -> None:
    Path(note_path(settings, 1, 1)).write_text('[["a"')
    Path("a").touch()
    remove_files(settings, note_path(settings, 1, 1))
    assert set(there()) == {"a"}


def test_code_of_another_python_is_not_loaded(settings: Settings) -> None:
    body = make_body({}, b"code", code=4, python=[3, 99])
    with pytest.raises(
        NotCarried, match=r"of Python 3\.99, which node there .* cannot load: name them in depends"
    ):
        Carried(settings, 1, 1).unpack(CARRIES, body, None)
    assert sys.version_info < (3, 99)


def test_only_what_is_noted_counts(settings: Settings) -> None:
    assert module._paths_of_others(settings.spool, note_path(settings, 1, 1)) == set()
