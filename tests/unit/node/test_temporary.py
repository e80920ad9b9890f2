"""The folder of a node that has no place of its own."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from dispy_node.temporary import temporary_folder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_is_new_and_ours_alone_and_goes(place: Path) -> None:
    previous = os.umask(0)
    try:
        with temporary_folder() as one, temporary_folder() as other:
            assert one != other
            assert sorted(place.iterdir()) == sorted([one, other])
            for folder in (one, other):
                status = folder.stat()
                assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (os.geteuid(), 0o700)
                (folder / "file").write_text("x")
    finally:
        os.umask(previous)
    assert not list(place.iterdir())


def test_goes_after_a_failure_too(place: Path) -> None:
    with pytest.raises(OSError, match="no space"), temporary_folder():
        raise OSError("no space")
    assert not list(place.iterdir())
