"""Files that jobs send, and names that no honest node gives them."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from dispy.errors import RemoteProtocolError, UsageError
from dispy.runtime import landing
from dispy.runtime.landing import Landing
from dispy.wire.messages import FILE, News

DATA = b"some data"


def news(path: str, data: bytes = DATA, **options: Any) -> News:
    given = {"mode": 0o644, "modified_at": 1e9, "digest": hashlib.sha256(data).digest(), **options}
    return News(1, 1, 1, FILE, b"", 1, len(data), path, **given)


def land(folder: Path, told: News, data: bytes = DATA) -> None:
    begun = Landing(str(folder), told)
    begun.write(data[:3])
    begun.write(data[3:])
    begun.finish()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_file_lands_below_the_folder_with_mode_and_time(home: Path) -> None:
    land(home, news("a/b/c.dat", mode=0o6777))
    status = (home / "a/b/c.dat").stat()
    assert everything(home) == {"a": None, "a/b": None, "a/b/c.dat": DATA}
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o755, 1e9)


def test_existing_file_stays_until_the_new_one_is_whole(home: Path) -> None:
    (home / "x").write_bytes(b"former")
    begun = Landing(str(home), news("x"))
    begun.write(DATA)
    assert (home / "x").read_bytes() == b"former"
    begun.finish()
    assert everything(home) == {"x": DATA}


def test_a_file_does_not_take_the_place_of_one_with_another_name(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, path: PurePosixPath) -> None:
        raise UsageError(f"{path} in {folder.name} would take the place of another")

    (home / "x").write_bytes(b"former")
    monkeypatch.setattr(landing, "check_spelling", refuse)
    with pytest.raises(UsageError, match="x in home would take"):
        land(home, news("x"))
    assert everything(home) == {"x": b"former"}


def test_of_two_with_one_name_each_is_whole_and_the_last_counts(home: Path) -> None:
    first, second = Landing(str(home), news("x")), Landing(str(home), news("x", b"other one"))
    first.write(DATA)
    second.write(b"other one")
    second.finish()
    first.finish()
    assert everything(home) == {"x": DATA}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/x",
        "../x",
        "a/../../x",
        "a//x",
        "./x",
        "a/.",
        "a\\x",
        "c:/x",
        "a\nx",
        "\x00",
        "x" * 300,
        "a/" * 600,
    ],
)
def test_names_that_lead_elsewhere_are_refused(home: Path, path: str) -> None:
    with pytest.raises(UsageError):
        Landing(str(home), news(path))
    assert everything(home.parent) == {"home": None}


@pytest.mark.parametrize("path", [".bashrc", ".git/hooks/pre-commit", "a/.x/b"])
def test_hidden_names_are_refused(home: Path, path: str) -> None:
    with pytest.raises(UsageError, match="would be hidden: choose a name without a dot in front"):
        Landing(str(home), news(path))
    assert everything(home) == {}


def test_no_link_on_the_way_is_followed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (home / "link").symlink_to(tmp_path / "out")
    with pytest.raises(UsageError):
        Landing(str(home), news("link/x"))
    assert not list((tmp_path / "out").iterdir())


def test_link_in_place_of_the_file_is_replaced(home: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    (home / "x").symlink_to(tmp_path / "precious")
    land(home, news("x"))
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert not (home / "x").is_symlink()
    assert (home / "x").read_bytes() == DATA


def test_folder_in_place_of_the_file_is_an_error(home: Path) -> None:
    (home / "x").mkdir()
    with pytest.raises(OSError, match="directory"):
        land(home, news("x"))
    assert everything(home) == {"x": None}


@pytest.mark.parametrize("data", [b"some dat", b"some dats", b"same data"])
def test_what_was_not_announced_leaves_nothing(home: Path, data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="not what was announced"):
        land(home, news("x"), data)
    assert everything(home) == {}


@pytest.mark.parametrize("at", [float("nan"), float("inf"), 1e300])
def test_times_that_are_none_are_refused(home: Path, at: float) -> None:
    with pytest.raises(UsageError, match="modification time"):
        land(home, news("x", modified_at=at))
    assert everything(home) == {}


def test_abandoned_file_leaves_nothing(home: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    begun = Landing(str(home), news("x"))
    begun.write(DATA)
    begun.abandon()
    assert everything(home) == {}
    assert len(os.listdir("/proc/self/fd")) == before


def test_folder_may_itself_be_reached_by_a_link(home: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(home)
    land(tmp_path / "alias", news("x"))
    assert everything(home) == {"x": DATA}
