"""Folders of keys and state."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dispy_cli.checks.finding import Finding, Level
from dispy_cli.checks.folders import check_folder


def check(path: Path) -> Finding:
    (found,) = check_folder(path, "keys")
    assert found.check == "folder of keys"
    return found


def test_private_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert check(tmp_path).level is Level.OK
    assert "mode 0700" in check(tmp_path).text


def test_missing_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    found = check(tmp_path / "none")
    assert (found.level, "made on first use" in found.text) == (Level.OK, True)
    assert not (tmp_path / "none").exists()


def test_folder_that_others_can_write_into(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    folder = tmp_path / "a b"
    folder.mkdir()
    folder.chmod(0o770)
    found = check(folder)
    assert found.level is Level.FAIL
    assert found.remedy == f"chmod 700 '{folder}'"


def test_folder_that_others_could_exchange(tmp_path: Path) -> None:
    folder = tmp_path / "open" / "keys"
    folder.mkdir(parents=True)
    folder.chmod(0o700)
    folder.parent.chmod(0o777)
    found = check(folder)
    assert found.level is Level.FAIL
    assert found.remedy


def test_file_and_folder_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch()
    assert "is no folder" in check(tmp_path / "file").text
    mine = os.geteuid()
    monkeypatch.setattr("dispy_cli.checks.folders.check_parents", lambda path: None)
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    assert f"belongs to user {mine}" in check(tmp_path).text
